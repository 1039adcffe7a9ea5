"""What every dataset gives: tracks with their labels, and nothing about windows.

The track is the unit of every split. :mod:`musgenre.datasets.splits` divides tracks, and only then
does :mod:`musgenre.datasets.windows` cut windows from them.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from musgenre.audio import SHORTEST_SECONDS, duration_seconds
from musgenre.core.errors import AudioError, DatasetError
from musgenre.core.registry import Registry

_NAMED_IN_WARNING = 5


@dataclass(frozen=True)
class Track:
    """One audio file and what is known of it.

    Attributes:
        id: Its name within the dataset, unique.
        path: The file.
        label: Its genre.
        group: What must not stand on both sides of a split, most often the artist; ``None`` if unknown.
        duration_seconds: Its length, as the file's header has it.
        fault: A known fault of the recording (``"repeated"``, ``"distorted"``, …), or ``None``.
    """

    id: str
    path: Path
    label: str
    group: str | None
    duration_seconds: float
    fault: str | None = None


@dataclass(frozen=True)
class MissingTrack:
    """A track that was left out, and why.

    Attributes:
        id: Its name within the dataset.
        reason: Why it cannot be used.
    """

    id: str
    reason: str


class DatasetWarning(UserWarning):
    """Tracks that a dataset should hold were left out."""


class TrackDataset:
    """Tracks in a fixed order, with a fixed order of labels.

    Args:
        tracks: At least one; each id once; each label one of ``labels``.
        labels: The genres in the order of a network's outputs, whether or not a track of each is there.
        name: What the dataset is called, for people.
        split: Which part of it this is, in a person's words, or ``None``.
        missing: The tracks that had to be left out.

    Attributes:
        tracks: The tracks, in order.
        labels: The genres, in the order of a network's outputs.
        name: What the dataset is called.
        split: Which part of it this is, or ``None``.
        missing: The tracks that had to be left out.

    Raises:
        DatasetError: There is no track, an id or a label occurs twice, or a track has an unknown label.

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
            raise DatasetError(f"{part}: a dataset needs at least one track, and here is none.")
        _refuse_repeats(f"{name}: the label", self.labels)
        _refuse_repeats(f"{name}: the track", [track.id for track in self.tracks])
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

    def select(self, track_ids: Iterable[str]) -> TrackDataset:
        """Returns the tracks of these ids, in the order given, under the same labels.

        Raises:
            DatasetError: No id is given, one is given twice, or the dataset has no such track.
        """
        by_id = {track.id: track for track in self.tracks}
        wanted = list(track_ids)
        unknown = [track_id for track_id in wanted if track_id not in by_id]
        if unknown:
            raise DatasetError(f"{self.name} has no track {abbreviated(unknown)}.")
        tracks = [by_id[track_id] for track_id in wanted]
        return TrackDataset(tracks, labels=self.labels, name=self.name, split=self.split)

    def label_indices(self) -> list[int]:
        """Returns each track's label as its place in :attr:`labels`."""
        places = {label: place for place, label in enumerate(self.labels)}
        return [places[track.label] for track in self.tracks]

    def counts(self) -> dict[str, int]:
        """Returns how many tracks each label has, in the order of :attr:`labels`; zeros included."""
        counted = Counter(track.label for track in self.tracks)
        return {label: counted[label] for label in self.labels}


def probe(path: Path) -> float | str:
    """Returns a file's duration in seconds from its header, or the reason why it cannot be used."""
    try:
        seconds = duration_seconds(path)
    except AudioError as error:
        return str(error)
    return seconds if seconds >= SHORTEST_SECONDS else f"{path}: less than {SHORTEST_SECONDS} s of audio"


def warn_missing(name: str, missing: Sequence[MissingTrack], *, expected: int) -> None:
    """Names tracks that are left out, in one warning however many there are.

    Args:
        name: The dataset, for people.
        missing: The tracks; nothing is said if there are none.
        expected: How many tracks there should be.
    """
    if missing:
        named = abbreviated([f"{track.id} ({track.reason})" for track in missing])
        message = f"{name}: {len(missing)} of {expected} tracks left out: {named}. All of them: dataset.missing."
        warnings.warn(message, DatasetWarning, stacklevel=3)  # the line that made the dataset


def abbreviated(names: Sequence[str]) -> str:
    """Returns the first few names for a message, and how many more there are.

    Example:
        >>> abbreviated(list("abcdefgh"))
        'a, b, c, d, e and 3 more'
    """
    more = len(names) - _NAMED_IN_WARNING
    return ", ".join(names[:_NAMED_IN_WARNING]) + (f" and {more} more" if more > 0 else "")


def _refuse_repeats(what: str, names: Sequence[str]) -> None:
    repeated = [name for name, count in Counter(names).items() if count > 1]
    if repeated:
        raise DatasetError(f"{what} {abbreviated(repeated)} occurs more than once.")


DATASETS: Registry[TrackDataset] = Registry(
    "dataset",
    group="musgenre.datasets",
    builtins={"gtzan": "musgenre.datasets.gtzan:GTZAN", "folder": "musgenre.datasets.folder:AudioFolder"},
    positional=1,
)
"""Datasets by name; each is called with its folder and keyword-only options."""

register_dataset = DATASETS.register
"""Registers a dataset: ``@register_dataset("mine")`` above ``def mine(root, *, …) -> TrackDataset``."""
