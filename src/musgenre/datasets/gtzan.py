"""GTZAN: 1,000 excerpts of 30 s in ten genres (Tzanetakis and Cook 2002), with splits by artist.

GTZAN has several tracks of many artists, and repeats some recordings. Random splits therefore overestimate accuracy.
The splits are those of Kereliuk, Sturm and Larsen 2015 and of Foleiss and Tavares 2020; ``data/README.md`` documents
the source of each column of the table and its known errors.
"""

from __future__ import annotations

import csv
import functools
import hashlib
import importlib.resources
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from musgenre.core.errors import DatasetError, ParameterError
from musgenre.datasets.base import MissingTrack, Track, TrackDataset, abbreviated, probe, warn_missing
from musgenre.datasets.spectrograms import read_spectrograms

GENRES = ("blues", "classical", "country", "disco", "hiphop", "jazz", "metal", "pop", "reggae", "rock")
"""The labels, in the order of a network's outputs."""

SPLITS = {
    "fault-filtered": ("train", "valid", "test", "all"),
    "artist-folds": ("train", "test", "all"),
    "all": ("all",),
}
"""The splits of each scheme; the first one is the default."""

_FOLDS = (1, 2, 3)
_LAYOUTS = (".", "genres", "genres_original", "Data/genres_original")
_SUFFIXES = (".wav", ".au", ".flac")  # by preference, if a track exists in several formats


class GTZAN(TrackDataset):
    """Dataset of the tracks of one split of GTZAN.

    Files are named ``blues/blues.00000.wav`` (or ``.au``, ``.flac``). Tracks that are missing or cannot be decoded
    (``jazz.00054`` in the Kaggle copy) are left out, named in one warning, and listed in :attr:`missing`.

    Args:
        root: The folder that holds the ten genre folders, directly or in ``genres/``, ``genres_original/`` or
            ``Data/genres_original/``; or a file of spectrograms of these tracks
            (:mod:`musgenre.datasets.spectrograms`); or a dataset that contains tracks with their ids, such as a
            :class:`~musgenre.datasets.PictureFolder`.
        split: ``"train"``, ``"valid"`` or ``"test"`` for ``"fault-filtered"``; ``"train"`` or ``"test"`` for
            ``"artist-folds"``; ``"all"`` for all tracks of any scheme. By default ``"train"``, and ``"all"`` for the
            scheme ``"all"``.
        scheme: ``"fault-filtered"``: 443, 197 and 290 tracks without repetitions; no artist is in two splits, except
            group 138, which is in ``"train"`` and ``"test"`` as published (Kereliuk, Sturm and Larsen 2015).
            ``"artist-folds"``: three folds without a common artist; tracks without a known artist are left out
            (Foleiss and Tavares 2020). ``"all"``: all 1,000 tracks.
        fold: The artist fold that is the test set, 1 to 3; the other two are the training set.

    Raises:
        ParameterError: The scheme, split or fold does not exist, or the combination is invalid.
        DatasetError: ``root`` is not a folder or a file of spectrograms, or holds no track of the split.

    Example::

        GTZAN.download("gtzan")
        train = GTZAN("gtzan", split="train")
        test = GTZAN("gtzan", scheme="artist-folds", split="test", fold=2)
        print(train.verify())
    """

    def __init__(
        self,
        root: str | os.PathLike[str] | TrackDataset,
        *,
        split: str | None = None,
        scheme: str = "fault-filtered",
        fold: int = 1,
    ) -> None:
        split = _check_split(split, scheme=scheme, fold=fold)
        rows = [row for row in _read_table() if row.in_split(split, scheme=scheme, fold=fold)]
        if isinstance(root, TrackDataset) or Path(root).expanduser().is_file():
            source = root if isinstance(root, TrackDataset) else read_spectrograms(Path(root).expanduser())
            by_id = {track.id: track for track in source}
            found = [row.select(by_id) for row in rows]
        else:
            files = _find_files(Path(root).expanduser())
            found = [row.audio_track(files) for row in rows]
        tracks = [track for track in found if isinstance(track, Track)]
        missing = [MissingTrack(row.id, why) for row, why in zip(rows, found, strict=True) if isinstance(why, str)]
        if not tracks:
            raise DatasetError(f"{root} holds none of the {len(rows)} tracks of {scheme!r}, {split!r}.")
        name = {"all": split, "artist-folds": f"{split}, {scheme}, fold {fold}"}.get(scheme, f"{split}, {scheme}")
        super().__init__(tracks, labels=GENRES, name="GTZAN", split=name, missing=missing)
        self._rows = rows
        warn_missing(repr(self), missing, expected=len(rows))

    @staticmethod
    def download(
        root: str | os.PathLike[str], *, url: str | None = None, checksum: str | None = None, progress: bool = True
    ) -> Path:
        """Downloads GTZAN to ``root/genres``. The archive has 1.2 GB; unpacking it takes 2.5 GB of disk space.

        The copy on Hugging Face and the authors' server are tried in turn, and the archive is verified by its known
        checksum. An interrupted download is resumed by the next call. If ``root`` already holds GTZAN's tracks,
        nothing is downloaded.

        Args:
            root: A folder, which is created if necessary.
            url: URL of another copy, a tar archive that holds the folder ``genres``.
            checksum: Checksum of that copy, ``"sha256:<digits>"`` or ``"md5:<digits>"``; by default it is not verified.
            progress: Whether to show a progress bar on the standard error stream, if that is a terminal.

        Returns:
            ``root``, as a path to pass to the class.

        Raises:
            ParameterError: ``checksum`` is given without ``url``.
            DatasetError: The archive cannot be downloaded from any URL, or cannot be verified, unpacked or written.
        """
        from musgenre.datasets.gtzan_archive import fetch

        if checksum is not None and url is None:
            raise ParameterError("checksum belongs to the archive at url: give both, or neither.")
        folder = Path(root).expanduser()
        if not any((folder / layout / GENRES[0]).is_dir() for layout in _LAYOUTS):
            fetch(folder, url=url, checksum=checksum, progress=progress)
        return folder

    def verify(self) -> VerifyReport:
        """Compares the size and SHA-256 of each WAV file with those of the Kaggle copy; reads every file once."""
        paths = {track.id: track.path for track in self.tracks}
        states = {row.id: row.compare(paths[row.id]) for row in self._rows if row.id in paths}

        def ids_with(state: str) -> tuple[str, ...]:
            return tuple(track_id for track_id, found in states.items() if found == state)

        return VerifyReport(
            intact=ids_with("intact"),
            wrong_size=ids_with("wrong size"),
            wrong_checksum=ids_with("wrong checksum"),
            unchecked=tuple(
                MissingTrack(key, state) for key, state in states.items() if state.startswith("no checksum")
            ),
            missing=self.missing,
        )


@dataclass(frozen=True)
class VerifyReport:
    """Result of :meth:`GTZAN.verify`. Each track of the split is listed in one of the five attributes.

    Attributes:
        intact: Ids of the tracks whose file equals that of the Kaggle copy.
        wrong_size: Ids of the tracks whose file has a different size.
        wrong_checksum: Ids of the tracks whose file has the same size and a different SHA-256.
        unchecked: Tracks without a known checksum, with the reason.
        missing: Tracks that are missing or cannot be decoded, with the reason.

    Example:
        >>> report = VerifyReport(("pop.00001",), (), ("pop.00002",), (), ())
        >>> print(report)
        intact: 1
        wrong size: 0
        wrong checksum: 1 (pop.00002)
        unchecked: 0
        missing: 0
        >>> report.ok
        False
    """

    intact: tuple[str, ...]
    wrong_size: tuple[str, ...]
    wrong_checksum: tuple[str, ...]
    unchecked: tuple[MissingTrack, ...]
    missing: tuple[MissingTrack, ...]

    @property
    def ok(self) -> bool:
        """Whether no track is missing and no file differs. Unchecked tracks are ignored."""
        return not (self.wrong_size or self.wrong_checksum or self.missing)

    def __str__(self) -> str:
        lines = [
            f"intact: {len(self.intact)}",
            _line("wrong size", self.wrong_size),
            _line("wrong checksum", self.wrong_checksum),
            _line("unchecked", [f"{track.id}: {track.reason}" for track in self.unchecked]),
            _line("missing", [f"{track.id}: {track.reason}" for track in self.missing]),
        ]
        return "\n".join(lines)


@dataclass(frozen=True)
class _Row:
    """One row of the table ``data/gtzan.csv``."""

    id: str
    group: str | None
    artist_fold: int | None
    fault_filtered_split: str | None
    fault: str | None
    wav_bytes: int | None
    wav_sha256: str | None

    @property
    def genre(self) -> str:
        return self.id.partition(".")[0]

    def in_split(self, split: str, *, scheme: str, fold: int) -> bool:
        actual: str | None = "all"
        if scheme == "fault-filtered":
            actual = self.fault_filtered_split
        elif scheme == "artist-folds":
            actual = None if self.artist_fold is None else "test" if self.artist_fold == fold else "train"
        return actual is not None and split in (actual, "all")

    def audio_track(self, files: Mapping[str, Path]) -> Track | str:
        """Returns the track with its audio file, or the reason why there is none."""
        found = probe(files[self.id]) if self.id in files else "no file"
        if isinstance(found, str):
            return found
        return Track(self.id, files[self.id], self.genre, self.group, found, self.fault)

    def select(self, tracks: Mapping[str, Track]) -> Track | str:
        """Returns the track among others, with the label and group of the table, or the reason why there is none."""
        if self.id not in tracks:
            return "not in the file or dataset"
        return replace(tracks[self.id], label=self.genre, group=self.group, fault=self.fault)

    def compare(self, path: Path | None) -> str:
        if path is None:
            return "no checksum is known for spectrograms"
        if path.suffix != ".wav":
            return f"no checksum is known for {path.suffix} files"
        if self.wav_sha256 is None:
            return "no checksum is known for this track"
        if path.stat().st_size != self.wav_bytes:
            return "wrong size"
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        return "intact" if digest == self.wav_sha256 else "wrong checksum"


def find_row(track_id: str) -> _Row | None:
    """Returns the row of a track of GTZAN, or ``None`` if there is no such track."""
    return next((row for row in _read_table() if row.id == track_id), None)


@functools.cache
def _read_table() -> list[_Row]:
    table = importlib.resources.files("musgenre.datasets").joinpath("data", "gtzan.csv")
    rows = csv.DictReader(table.read_text(encoding="utf-8").splitlines())
    return [
        _Row(
            id=row["track_id"],
            group=row["artist_group"] or None,
            artist_fold=int(row["artist_fold"]) if row["artist_fold"] else None,
            fault_filtered_split=row["fault_filtered_split"] or None,
            fault=row["fault"] or None,
            wav_bytes=int(row["wav_bytes"]) if row["wav_bytes"] else None,
            wav_sha256=row["wav_sha256"] or None,
        )
        for row in rows
    ]


def _check_split(split: str | None, *, scheme: str, fold: int) -> str:
    if scheme not in SPLITS:
        raise ParameterError(f"Unknown scheme {scheme!r}; the schemes are {', '.join(SPLITS)}.")
    if split is not None and split not in SPLITS[scheme]:
        raise ParameterError(f"The scheme {scheme!r} has no split {split!r}, only {', '.join(SPLITS[scheme])}.")
    folds = _FOLDS if scheme == "artist-folds" else (1,)
    if fold not in folds:
        raise ParameterError(f"fold must be 1, 2 or 3 (only 1 outside the scheme 'artist-folds'), not {fold!r}.")
    return split or SPLITS[scheme][0]


def _find_files(root: Path) -> dict[str, Path]:
    """Maps track ids to files, from the first layout that holds any."""
    if not root.is_dir():
        raise DatasetError(
            f"{root} is not a folder: give the folder that holds GTZAN's ten genre folders, or a file of spectrograms."
        )
    folders = [root / layout for layout in _LAYOUTS]
    for folder in folders:
        # In reverse order of preference, because later entries of the dict replace earlier ones.
        files = {
            path.stem: path
            for suffix in reversed(_SUFFIXES)
            for genre in GENRES
            for path in sorted(folder.glob(f"{genre}/{genre}.*{suffix}"))
        }
        if files:
            return files
    searched = ", ".join(str(folder / "blues") for folder in folders)
    raise DatasetError(
        f"No GTZAN track such as blues.00000.wav (or .au, .flac) was found in {searched}, or in the other genres' "
        "folders."
    )


def _line(state: str, names: Sequence[str]) -> str:
    return f"{state}: {len(names)}" + (f" ({abbreviated(names)})" if names else "")
