"""GTZAN: 1,000 excerpts of 30 s in ten genres (Tzanetakis and Cook 2002), under splits that can be trusted.

The tracks of one artist sit together in GTZAN, and some recordings occur twice: a split drawn at random
measures the artist as much as the genre. The tables come from Kereliuk, Sturm and Larsen 2015 and from
Foleiss and Tavares 2020; ``data/README.md`` says where each column comes from and what is known to be wrong.
"""

from __future__ import annotations

import csv
import hashlib
import importlib.resources
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from musgenre.core.errors import DatasetError, ParameterError
from musgenre.datasets.base import MissingTrack, Track, TrackDataset, abbreviated, probe, warn_missing

GENRES = ("blues", "classical", "country", "disco", "hiphop", "jazz", "metal", "pop", "reggae", "rock")
"""The labels, in the order of a network's outputs."""

SPLITS = {
    "fault-filtered": ("train", "valid", "test", "all"),
    "artist-folds": ("train", "test", "all"),
    "all": ("all",),
}
"""The splits of each scheme; the first is the default."""

_FOLDS = (1, 2, 3)
_LAYOUTS = (".", "genres", "genres_original", "Data/genres_original")
_SUFFIXES = (".wav", ".au", ".flac")  # of one track in several formats the first is taken


class GTZAN(TrackDataset):
    """The tracks of one split of GTZAN.

    A file is ``blues/blues.00000.wav`` (or ``.au``, ``.flac``). A track that is missing or does not decode
    (``jazz.00054`` in the Kaggle copy) is named in one warning, left out, and kept in :attr:`missing`.

    Args:
        root: The folder that holds the ten genre folders, directly or in ``genres/``, ``genres_original/`` or
            ``Data/genres_original/``.
        split: Part of the scheme: ``"train"``, ``"valid"`` or ``"test"`` of ``"fault-filtered"``; ``"train"`` or
            ``"test"`` of ``"artist-folds"``; ``"all"``, of every scheme, takes all of its tracks together.
            ``None`` is ``"train"``, and ``"all"`` under the scheme ``"all"``.
        scheme: ``"fault-filtered"``: 443, 197 and 290 tracks without repetitions, artists kept apart but for one
            (group 138 is in ``"train"`` and ``"test"`` as published; Kereliuk, Sturm and Larsen 2015).
            ``"artist-folds"``: three folds, artists kept apart, tracks without a known artist left out (Foleiss
            and Tavares 2020). ``"all"``: all 1,000 tracks.
        fold: Which of the three artist folds is the test set, 1 to 3; the other two are for training.

    Raises:
        ParameterError: The scheme, split or fold does not exist, or do not go together.
        DatasetError: ``root`` is no folder, or none of the split's tracks is in it.

    Example::

        GTZAN.download("gtzan")
        train = GTZAN("gtzan", split="train")
        test = GTZAN("gtzan", scheme="artist-folds", split="test", fold=2)
        print(train.verify())
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        *,
        split: str | None = None,
        scheme: str = "fault-filtered",
        fold: int = 1,
    ) -> None:
        split = _checked_split(split, scheme=scheme, fold=fold)
        facts = [fact for fact in _read_facts() if fact.in_split(split, scheme=scheme, fold=fold)]
        files = _find_files(Path(root).expanduser())
        tracks: list[Track] = []
        missing: list[MissingTrack] = []
        for fact in facts:
            found = probe(files[fact.id]) if fact.id in files else "no file"
            if isinstance(found, str):
                missing.append(MissingTrack(fact.id, found))
            else:
                tracks.append(Track(fact.id, files[fact.id], fact.genre, fact.group, found, fact.fault))
        if not tracks:
            raise DatasetError(f"{root} holds none of the {len(facts)} tracks of {scheme!r}, {split!r}.")
        words = {"all": split, "artist-folds": f"{split}, {scheme}, fold {fold}"}.get(scheme, f"{split}, {scheme}")
        super().__init__(tracks, labels=GENRES, name="GTZAN", split=words, missing=missing)
        self._facts = facts
        warn_missing(repr(self), missing, expected=len(facts))

    @staticmethod
    def download(
        root: str | os.PathLike[str], *, url: str | None = None, checksum: str | None = None, progress: bool = True
    ) -> Path:
        """Downloads GTZAN (an archive of 1.2 GB, 2.5 GB of room while it is unpacked) to ``root/genres``.

        The known addresses, Hugging Face's copy and its makers' server, are tried in turn, and what they give is
        compared with known checksums. A second call goes on where one was cut off, and does nothing where ``root``
        holds GTZAN's tracks already.

        Args:
            root: A folder; made if need be.
            url: The address of another copy, a tar archive with the folder ``genres`` in it.
            checksum: Of that copy, as ``"sha256:<digits>"`` or ``"md5:<digits>"``; without one, nothing is compared.
            progress: Whether a bar is drawn on the standard error stream, if that is a terminal.

        Returns:
            ``root``, for the class.

        Raises:
            ParameterError: ``checksum`` without ``url``: those of the known addresses are known.
            DatasetError: No address gives the archive or the right one, or it cannot be unpacked or written.
        """
        from musgenre.datasets.gtzan_archive import fetch

        if checksum is not None and url is None:
            raise ParameterError("checksum is that of the archive at url: give both, or neither.")
        folder = Path(root).expanduser()
        if not any((folder / layout / GENRES[0]).is_dir() for layout in _LAYOUTS):
            fetch(folder, url=url, checksum=checksum, progress=progress)
        return folder

    def verify(self) -> VerifyReport:
        """Compares each WAV file's size and SHA-256 with those of the Kaggle copy; reads every file once."""
        paths = {track.id: track.path for track in self.tracks}
        compared = {fact.id: fact.compare(paths[fact.id]) for fact in self._facts if fact.id in paths}

        def having(state: str) -> tuple[str, ...]:
            return tuple(track_id for track_id, found in compared.items() if found == state)

        return VerifyReport(
            intact=having("intact"),
            wrong_size=having("wrong size"),
            wrong_checksum=having("wrong checksum"),
            unchecked=tuple(MissingTrack(key, why) for key, why in compared.items() if why.startswith("no checksum")),
            missing=self.missing,
        )


@dataclass(frozen=True)
class VerifyReport:
    """What :meth:`GTZAN.verify` found; each track of the split stands in one of the five.

    Attributes:
        intact: Ids of the tracks whose file is the Kaggle copy's, byte for byte.
        wrong_size: Ids of the tracks whose file has another size.
        wrong_checksum: Ids of the tracks whose file has the right size and another SHA-256.
        unchecked: Tracks that are there but cannot be checked, with the reason.
        missing: Tracks that are missing or do not decode, with the reason.

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
        """True if no track is missing and no file differs; a file that cannot be checked does not count."""
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
class _Fact:
    """One row of the table."""

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
        own: str | None = "all"
        if scheme == "fault-filtered":
            own = self.fault_filtered_split
        elif scheme == "artist-folds":
            own = None if self.artist_fold is None else "test" if self.artist_fold == fold else "train"
        return own is not None and split in (own, "all")

    def compare(self, path: Path) -> str:
        if path.suffix != ".wav":
            return f"no checksum is known for {path.suffix} files"
        if self.wav_sha256 is None:
            return "no checksum is known for this track"
        if path.stat().st_size != self.wav_bytes:
            return "wrong size"
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        return "intact" if digest == self.wav_sha256 else "wrong checksum"


def _read_facts() -> list[_Fact]:
    table = importlib.resources.files("musgenre.datasets").joinpath("data", "gtzan.csv")
    rows = csv.DictReader(table.read_text(encoding="utf-8").splitlines())
    return [
        _Fact(
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


def _checked_split(split: str | None, *, scheme: str, fold: int) -> str:
    if scheme not in SPLITS:
        raise ParameterError(f"There is no scheme {scheme!r}; the schemes are {', '.join(SPLITS)}.")
    if split is not None and split not in SPLITS[scheme]:
        raise ParameterError(f"The scheme {scheme!r} has no split {split!r}, only {', '.join(SPLITS[scheme])}.")
    folds = _FOLDS if scheme == "artist-folds" else (1,)
    if fold not in folds:
        raise ParameterError(f"fold must be 1, 2 or 3, and 1 outside the scheme 'artist-folds', not {fold!r}.")
    return split or SPLITS[scheme][0]


def _find_files(root: Path) -> dict[str, Path]:
    """Track id to file, from the first layout that holds any."""
    if not root.is_dir():
        raise DatasetError(f"{root} is not a folder: give the folder that holds GTZAN's ten genre folders.")
    folders = [root / layout for layout in _LAYOUTS]
    for folder in folders:
        # The worst suffix first, so that the best one is what stays.
        files = {
            path.stem: path
            for suffix in reversed(_SUFFIXES)
            for genre in GENRES
            for path in sorted(folder.glob(f"{genre}/{genre}.*{suffix}"))
        }
        if files:
            return files
    looked = ", ".join(str(folder / "blues") for folder in folders)
    raise DatasetError(f"No GTZAN track such as blues.00000.wav (or .au, .flac) in {looked}, or its nine neighbours.")


def _line(what: str, names: Sequence[str]) -> str:
    return f"{what}: {len(names)}" + (f" ({abbreviated(names)})" if names else "")
