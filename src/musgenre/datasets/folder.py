"""Dataset from a directory of audio files with one sub-directory per genre."""

from __future__ import annotations

import csv
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from musgenre.core.errors import DatasetError
from musgenre.datasets.base import MissingTrack, Track, TrackDataset, abbreviated, probe, warn_missing
from musgenre.datasets.spectrograms import read_spectrograms

SUFFIXES = frozenset(
    [".aif", ".aifc", ".aiff", ".au", ".caf", ".flac", ".mp3", ".oga", ".ogg", ".opus", ".snd", ".w64", ".wav"]
)
"""Suffixes of audio files that libsndfile decodes, in lower case. Other files are ignored."""


class AudioFolder(TrackDataset):
    """Dataset of the audio files in a folder with one sub-folder per genre.

    The name of each sub-folder of ``root`` is a label; labels are sorted. Audio files are searched at any depth. A
    track's id is its path relative to ``root``, with ``/``. Hidden files and folders, such as macOS's ``._*``, are
    ignored. Files that cannot be decoded are left out, named in one warning, and listed in :attr:`missing`.

    Args:
        root: The folder; or a file of spectrograms with labels, such as
            :func:`~musgenre.datasets.spectrograms.store_spectrograms` writes from a folder.
        groups: CSV file with the columns ``track`` (an id) and ``group`` (such as the artist). Splits keep the tracks
            of a group together. A track without a row or with an empty group has no group.

    Raises:
        DatasetError: ``root`` is not a folder or a file of spectrograms, or has fewer than two genres or a genre
            without a decodable file; or ``groups`` cannot be read, lacks a column, has an unknown track, or repeats a
            track.

    Example:
        >>> import numpy as np, soundfile, tempfile
        >>> with tempfile.TemporaryDirectory() as root:
        ...     for genre in ("samba", "choro"):
        ...         Path(root, genre).mkdir()
        ...         soundfile.write(Path(root, genre, "song.wav"), np.zeros(8_000), 8_000)
        ...     data = AudioFolder(root)
        >>> data.labels, data[0].id, data[0].duration_seconds
        (('choro', 'samba'), 'choro/song.wav', 1.0)
    """

    def __init__(self, root: str | os.PathLike[str], *, groups: str | os.PathLike[str] | None = None) -> None:
        path = Path(root).expanduser()
        tracks, missing = _labelled_spectrograms(path) if path.is_file() else _find_tracks(path)
        if groups is not None:
            known = [*(track.id for track in tracks), *(track.id for track in missing)]
            group_of = _read_groups(Path(groups).expanduser(), known=known)
            tracks = [replace(track, group=group_of.get(track.id)) for track in tracks]
        labels = sorted({track.label for track in tracks})
        super().__init__(
            tracks, labels=labels, name=path.stem if path.is_file() else path.resolve().name, missing=missing
        )
        warn_missing(str(path), missing, expected=len(tracks) + len(missing))


def _find_tracks(folder: Path) -> tuple[list[Track], list[MissingTrack]]:
    tracks: list[Track] = []
    missing: list[MissingTrack] = []
    files = _find_files(folder)
    for track_id, path in files.items():
        found = probe(path)
        if isinstance(found, str):
            missing.append(MissingTrack(track_id, found))
        else:
            tracks.append(Track(track_id, path, track_id.partition("/")[0], None, found))
    empty = sorted({track_id.partition("/")[0] for track_id in files} - {track.label for track in tracks})
    if empty:
        raise DatasetError(f"{folder}: no file of {abbreviated(empty)} can be decoded ({missing[0].reason}).")
    return tracks, missing


def _labelled_spectrograms(path: Path) -> tuple[list[Track], list[MissingTrack]]:
    tracks = read_spectrograms(path)
    if not all(track.label for track in tracks):
        raise DatasetError(f"The spectrograms of {path} have no genres (the array 'label').")
    if len({track.label for track in tracks}) < 2:
        raise DatasetError(f"{path} needs at least two genres; found: {tracks[0].label}.")
    return tracks, []


def _find_files(root: Path) -> dict[str, Path]:
    """Maps track ids to files, sorted by genre and path."""
    files: dict[str, Path] = {}
    for genre in genre_folders(root):
        found = audio_files(genre)
        if not found:
            raise DatasetError(f"{genre} holds no audio file ({', '.join(sorted(SUFFIXES))}): add one, or remove it.")
        files.update((path.relative_to(root).as_posix(), path) for path in found)
    return files


def genre_folders(root: Path) -> list[Path]:
    """Lists the sub-folders of a folder, one per genre, sorted; hidden ones are ignored.

    Raises:
        DatasetError: ``root`` is not a folder, or has fewer than two sub-folders.
    """
    if not root.is_dir():
        raise DatasetError(f"{root} is not a folder: give a folder with one sub-folder per genre.")
    genres = sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    if len(genres) < 2:
        names = ", ".join(path.name for path in genres) or "none"
        raise DatasetError(f"{root} needs at least two sub-folders, one per genre; found: {names}.")
    return genres


def audio_files(folder: Path) -> list[Path]:
    """Lists the audio files of a folder at any depth, sorted; hidden files and folders are ignored.

    Raises:
        DatasetError: The folder, or one in it, cannot be read.
    """

    def fail(error: OSError) -> None:
        raise DatasetError(
            f"The folder '{error.filename}' cannot be read ({error.strerror}): check its permissions, or move it."
        )

    found: list[Path] = []
    for directory, subdirectories, names in os.walk(folder, onerror=fail):
        # os.walk descends into the directories that remain in this list.
        subdirectories[:] = [name for name in subdirectories if not name.startswith(".")]
        found += [
            Path(directory, name)
            for name in names
            if not name.startswith(".") and os.path.splitext(name)[1].lower() in SUFFIXES
        ]
    return sorted(found)


def _read_groups(path: Path, *, known: Sequence[str]) -> dict[str, str]:
    groups: dict[str, str] = {}
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file, strict=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(f"The group file {path} cannot be read: {error}.") from error
    ids = [row.get("track") for row in rows]
    if not rows or None in ids or any(row.get("group") is None for row in rows):
        raise DatasetError(f"The group file {path} needs the header 'track,group', and both values in each row.")
    for row in rows:
        track_id, group = row["track"], row["group"].strip()
        if track_id in groups:
            raise DatasetError(f"The group file {path} names the track {track_id!r} twice.")
        groups[track_id] = group
    unknown = [track_id for track_id in groups if track_id not in known]
    if unknown:
        raise DatasetError(
            f"The group file {path} names tracks that do not exist: {abbreviated(unknown)}. "
            f"Use the path within the folder, such as {known[0]!r}."
        )
    return {track_id: group for track_id, group in groups.items() if group}
