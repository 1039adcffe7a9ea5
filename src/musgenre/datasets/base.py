"""The contract of a dataset: tracks with labels.

The track is the unit of every split. :mod:`musgenre.datasets.splits` splits tracks; :mod:`musgenre.datasets.windows`
cuts windows from them after the split.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from musgenre.audio import SHORTEST_SECONDS, duration_seconds
from musgenre.core.errors import AudioError, DatasetError
from musgenre.core.registry import Registry

if TYPE_CHECKING:
    from musgenre.datasets.spectrograms import StoredSpectrogram

_NAMED_IN_WARNING = 5


@dataclass(frozen=True)
class Track:
    """A recording with a label: an audio file or a stored spectrogram.

    Attributes:
        id: Unique name within the dataset.
        path: The audio file, or ``None`` if there is a spectrogram instead.
        label: The genre.
        group: Tracks of one group, most often an artist, must be on the same side of a split; ``None`` if unknown.
        duration_seconds: Duration according to the file's header.
        fault: A known fault of the recording (``"repeated"``, ``"distorted"``, …), or ``None``.
        spectrogram: The spectrogram of a track without audio; see :mod:`musgenre.datasets.spectrograms`.

    Raises:
        DatasetError: There is neither a path nor a spectrogram, or both.
    """

    id: str
    path: Path | None
    label: str
    group: str | None
    duration_seconds: float
    fault: str | None = None
    spectrogram: StoredSpectrogram | None = None

    def __post_init__(self) -> None:
        if (self.path is None) == (self.spectrogram is None):
            raise DatasetError(f"Track {self.id!r} needs either an audio file or a spectrogram.")

    @property
    def file(self) -> Path:
        """The audio file.

        Raises:
            DatasetError: The track has a stored spectrogram in place of audio.
        """
        if self.path is None:
            raise DatasetError(f"Track {self.id!r} has a stored spectrogram and no audio.")
        return self.path

    @property
    def source(self) -> Path | StoredSpectrogram:
        """The audio file or the spectrogram, either of which a classifier predicts."""
        return self.file if self.spectrogram is None else self.spectrogram


@dataclass(frozen=True)
class MissingTrack:
    """Record of a track that is left out.

    Attributes:
        id: Unique name within the dataset.
        reason: Why the track cannot be used.
    """

    id: str
    reason: str


class DatasetWarning(UserWarning):
    """Warns that expected tracks of a dataset are left out."""


class TrackDataset:
    """Sequence of tracks with a fixed order of labels.

    Args:
        tracks: At least one track, with unique ids and labels from ``labels``.
        labels: The genres in the order of a network's outputs; a genre may have no tracks.
        name: Name of the dataset, for messages and reports.
        split: Description of the split that this is, or ``None``.
        missing: Tracks that are left out.

    Attributes:
        tracks: The tracks, in order.
        labels: The genres, in the order of a network's outputs.
        name: Name of the dataset.
        split: Description of the split that this is, or ``None``.
        missing: Tracks that are left out.

    Raises:
        DatasetError: There are no tracks, an id or a label is repeated, or a track has an unknown label.

    Example:
        >>> waltz = Track("waltz", Path("waltz.wav"), "classical", group="strauss", duration_seconds=30.0)
        >>> data = TrackDataset([waltz], labels=["classical", "rock"], name="mine")
        >>> len(data), data[0].label, data.label_indices(), data.counts()
        (1, 'classical', [0], {'classical': 1, 'rock': 0})
        >>> data
        <mine: 1 track, 2 labels>
    """

    def __init__(
        self,
        tracks: Iterable[Track],
        *,
        labels: Sequence[str],
        name: str,
        split: str | None = None,
        missing: Sequence[MissingTrack] = (),
    ) -> None:
        self.tracks = tuple(tracks)
        self.labels = tuple(labels)
        self.name = name
        self.split = split
        self.missing = tuple(missing)
        if not self.tracks:
            part = f"{name} ({split})" if split else name
            raise DatasetError(f"{part}: a dataset needs at least one track, but has none.")
        _check_unique(f"{name}: the label", self.labels)
        _check_unique(f"{name}: the track", [track.id for track in self.tracks])
        for track in self.tracks:
            if track.label not in self.labels:
                known = ", ".join(self.labels)
                raise DatasetError(f"{name}: track {track.id!r} has the label {track.label!r}, not one of {known}.")

    def __len__(self) -> int:
        return len(self.tracks)

    def __iter__(self) -> Iterator[Track]:
        return iter(self.tracks)

    def __getitem__(self, index: int) -> Track:
        return self.tracks[index]

    def __repr__(self) -> str:
        split = f", {self.split}" if self.split else ""
        plural = "" if len(self) == 1 else "s"
        return f"<{self.name}{split}: {len(self)} track{plural}, {len(self.labels)} labels>"

    @property
    def has_spectrograms(self) -> bool:
        """Whether a track has a stored spectrogram in place of audio."""
        return any(track.spectrogram is not None for track in self.tracks)

    def select(self, track_ids: Iterable[str]) -> TrackDataset:
        """Returns a dataset of the tracks with these ids, in the given order, with the same labels.

        Raises:
            DatasetError: No id is given, an id is repeated, or the dataset has no such track.
        """
        by_id = {track.id: track for track in self.tracks}
        ids = list(track_ids)
        unknown = [track_id for track_id in ids if track_id not in by_id]
        if unknown:
            raise DatasetError(f"{self.name} has no track {abbreviated(unknown)}.")
        tracks = [by_id[track_id] for track_id in ids]
        return TrackDataset(tracks, labels=self.labels, name=self.name, split=self.split)

    def without_faults(self) -> TrackDataset:
        """Returns a dataset without the tracks that have a known fault, such as repeated tracks of GTZAN."""
        tracks = [track for track in self.tracks if track.fault is None]
        split = self.split if len(tracks) == len(self) else f"{self.split}, without known faults"
        return TrackDataset(tracks, labels=self.labels, name=self.name, split=split, missing=self.missing)

    def label_indices(self) -> list[int]:
        """Returns the index of each track's label in :attr:`labels`."""
        indices = {label: index for index, label in enumerate(self.labels)}
        return [indices[track.label] for track in self.tracks]

    def counts(self) -> dict[str, int]:
        """Returns the number of tracks of each label, zeros included, in the order of :attr:`labels`."""
        counted = Counter(track.label for track in self.tracks)
        return {label: counted[label] for label in self.labels}


def probe(path: Path) -> float | str:
    """Returns the duration in seconds from a file's header, or the reason why the file cannot be used."""
    try:
        seconds = duration_seconds(path)
    except AudioError as error:
        return str(error)
    return seconds if seconds >= SHORTEST_SECONDS else f"{path}: less than {SHORTEST_SECONDS} s of audio"


def warn_missing(name: str, missing: Sequence[MissingTrack], *, expected: int) -> None:
    """Issues one warning that names the tracks that are left out, if there are any.

    Args:
        name: Name of the dataset.
        missing: The tracks that are left out.
        expected: Number of tracks that the dataset should have.
    """
    if missing:
        named = abbreviated([f"{track.id} ({track.reason})" for track in missing])
        message = f"{name}: {len(missing)} of {expected} tracks left out: {named}. See dataset.missing for all of them."
        warnings.warn(message, DatasetWarning, stacklevel=3)  # points to the call of the dataset's constructor


def abbreviated(names: Sequence[str]) -> str:
    """Returns the first few names, and the number of further ones, for a message.

    Example:
        >>> abbreviated(list("abcdefgh"))
        'a, b, c, d, e and 3 more'
    """
    more = len(names) - _NAMED_IN_WARNING
    return ", ".join(names[:_NAMED_IN_WARNING]) + (f" and {more} more" if more > 0 else "")


def _check_unique(kind: str, names: Sequence[str]) -> None:
    repeated = [name for name, count in Counter(names).items() if count > 1]
    if repeated:
        raise DatasetError(f"{kind} {abbreviated(repeated)} occurs more than once.")


DATASETS: Registry[TrackDataset] = Registry(
    "dataset",
    group="musgenre.datasets",
    builtins={"gtzan": "musgenre.datasets.gtzan:GTZAN", "folder": "musgenre.datasets.folder:AudioFolder"},
    positional=1,
)
"""Registry of datasets. A factory takes the root directory and keyword-only options."""

register_dataset = DATASETS.register
"""Registers a dataset: ``@register_dataset("mine")`` above ``def mine(root, *, …) -> TrackDataset``."""
