"""Lists of the songs in a folder, a pattern or a manifest, as batches of ids and paths."""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from musgenre.core.errors import DatasetError
from musgenre.datasets.base import abbreviated
from musgenre.datasets.folder import SUFFIXES
from musgenre.scale.dependencies import require
from musgenre.scale.filesystems import is_local, resolve

if TYPE_CHECKING:
    import pyarrow as pa
    from pyarrow.fs import FileSystem

BATCH = 50_000
"""Maximum number of songs in a batch of ids and paths."""

_MANIFESTS = {".parquet": "parquet", ".csv": "csv"}
_WILDCARD = re.compile(r"[*?\[]")


@dataclass(frozen=True)
class Source:
    """List of songs to predict.

    Attributes:
        filesystem: File system of the paths that are not URIs.
        batches: Returns a new iterator over tables with the columns ``id`` and ``path`` and at most :data:`BATCH` rows.
    """

    filesystem: FileSystem
    batches: Callable[[], Iterator[pa.Table]]


def list_songs(location: str | os.PathLike[str], *, id_column: str, filesystem: Any = None) -> Source:
    """Lists the songs of a folder, a pattern or a manifest.

    Args:
        location: A folder, which is searched at any depth, without hidden files; a pattern such as
            ``music/**/*.mp3``; or one or more manifests (``.parquet``, ``.csv``), by name or pattern.
        id_column: The column of a manifest that holds the ids. Its column ``path`` holds URIs or paths; relative local
            paths are relative to the folder of the manifest.
        filesystem: See :func:`~musgenre.scale.filesystems.resolve`.

    Raises:
        DatasetError: No songs are found, or a manifest lacks a column.
    """
    found, path = resolve(location, filesystem=filesystem)
    kind = _MANIFESTS.get(posixpath.splitext(path)[1].lower())
    if kind is not None:
        files = _match_files(found, path, suffixes=None) if _WILDCARD.search(posixpath.basename(path)) else [path]
        return Source(found, lambda: _manifest_batches(found, files, kind=kind, id_column=id_column))
    base = posixpath.dirname(path[: match.start()]) if (match := _WILDCARD.search(path)) else path
    if id_column != "path":
        raise DatasetError(
            f"{location}: is not a manifest, so it has no column {id_column!r}; give a .parquet or .csv file."
        )
    return Source(found, lambda: _file_batches(_match_files(found, path, suffixes=SUFFIXES), base))


def check_unique_ids(source: Source, hashes: list[npt.NDArray[np.uint64]]) -> None:
    """Checks that no id is repeated. Only ids with equal hashes are compared, to save memory.

    Args:
        source: The songs.
        hashes: Result of :func:`hash_ids` for each batch.

    Raises:
        DatasetError: An id is repeated.
    """
    ordered = np.sort(np.concatenate(hashes)) if hashes else np.empty(0, np.uint64)
    suspects = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
    if not suspects.size:
        return
    seen: set[str] = set()
    repeated: dict[str, None] = {}
    for batch in source.batches():
        ids = batch["id"].to_pylist()
        for index in np.flatnonzero(np.isin(hash_ids(ids), suspects)):
            if ids[index] in seen:
                repeated[ids[index]] = None
            seen.add(ids[index])
    if repeated:
        raise DatasetError(
            f"The collection has songs with the same id: {abbreviated(list(repeated))}. Each song needs a unique id; "
            "for a manifest, id_column names the column of ids."
        )


def hash_ids(ids: Iterable[str]) -> npt.NDArray[np.uint64]:
    """Returns a 64-bit hash of each id, the same in every process.

    Example:
        >>> hash_ids(["waltz", "tango"]) == hash_ids(["waltz", "polka"])
        array([ True, False])
    """
    from pandas.util import hash_array

    hashes: npt.NDArray[np.uint64] = hash_array(np.array(list(ids), dtype=object), categorize=False)
    return hashes


def _match_files(filesystem: FileSystem, path: str, *, suffixes: frozenset[str] | None) -> list[str]:
    """Returns the files of a folder, or those that match a pattern, sorted."""
    fs = require("pyarrow.fs")
    match = _WILDCARD.search(path)
    base = posixpath.dirname(path[: match.start()]) if match else path
    pattern = re.compile(require("fsspec.utils").glob_translate(path)) if match else None
    try:
        entries = filesystem.get_file_info(fs.FileSelector(base, recursive=True))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise DatasetError(f"{path}: there is no such folder; give a folder, a pattern or a manifest.") from error
    except OSError as error:
        raise DatasetError(f"{path}: cannot be listed ({error}); check the path and its permissions.") from error
    files = [
        entry.path
        for entry in entries
        if entry.type == fs.FileType.File
        and (suffixes is None or posixpath.splitext(entry.path)[1].lower() in suffixes)
        and not any(part.startswith(".") for part in posixpath.relpath(entry.path, base).split("/"))
        and (pattern is None or pattern.match(entry.path))
    ]
    if not files:
        kind = f"audio file ({', '.join(sorted(suffixes))})" if suffixes else "manifest"
        raise DatasetError(f"{path}: no {kind} was found; check the path or the pattern.")
    return sorted(files)


def _file_batches(files: list[str], base: str) -> Iterator[pa.Table]:
    pa = require("pyarrow")
    for start in range(0, len(files), BATCH):
        paths = files[start : start + BATCH]
        yield pa.table({"id": [posixpath.relpath(path, base) for path in paths], "path": paths})


def _manifest_batches(filesystem: FileSystem, files: list[str], *, kind: str, id_column: str) -> Iterator[pa.Table]:
    pa = require("pyarrow")
    try:
        rows = require("pyarrow.dataset").dataset(files, format=kind, filesystem=filesystem)
        if missing := sorted({id_column, "path"} - set(rows.schema.names)):
            known = ", ".join(rows.schema.names)
            raise DatasetError(f"{files[0]}: a manifest needs the column {' and '.join(missing)}; it has {known}.")
        folder = posixpath.dirname(files[0]) if is_local(filesystem) else ""
        for batch in rows.to_batches(columns=list({id_column, "path"}), batch_size=BATCH):
            ids, paths = (batch[name].cast(pa.string()).to_pylist() for name in (id_column, "path"))
            if not (all(ids) and all(paths)):
                raise DatasetError(f"{files[0]}: a row has no {id_column} or no path; every song needs both.")
            yield pa.table({"id": ids, "path": [_join(folder, path) for path in paths]})
    except (OSError, pa.ArrowException) as error:
        raise DatasetError(f"{files[0]}: cannot be read as a manifest ({error}).") from error


def _join(folder: str, path: str) -> str:
    return path if "://" in path or not folder else posixpath.join(folder, path)
