"""The songs of a collection: a folder, a pattern, or a manifest, as batches of ids and paths."""

from __future__ import annotations

import itertools
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
from musgenre.scale.dependencies import needed
from musgenre.scale.filesystems import is_local, resolve

if TYPE_CHECKING:
    import pyarrow as pa
    from pyarrow.fs import FileSystem

BATCH = 50_000
"""Songs in a batch of ids and paths, at most."""

_MANIFESTS = {".parquet": "parquet", ".csv": "csv"}
_MAGIC = re.compile(r"[*?\[]")


@dataclass(frozen=True)
class Source:
    """Songs that are to be predicted.

    Attributes:
        filesystem: Where their paths are, unless they are URIs.
        batches: Gives all songs anew at each call, as tables of ``id`` and ``path`` with at most :data:`BATCH` rows.
    """

    filesystem: FileSystem
    batches: Callable[[], Iterator[pa.Table]]


def source_of(place: str | os.PathLike[str], *, id_column: str, filesystem: Any = None) -> Source:
    """Returns the songs of a folder, a pattern, or a manifest.

    Args:
        place: A folder, which is searched at any depth, hidden files left out; a pattern such as ``music/**/*.mp3``; or
            one or more manifests (``.parquet``, ``.csv``) by their name or a pattern.
        id_column: The column of a manifest that holds the ids; its column ``path`` holds the files, as URIs or as
            paths, which count from the manifest's folder where they are local and relative.
        filesystem: As for :func:`~musgenre.scale.filesystems.resolve`.

    Raises:
        DatasetError: There is nothing there, or a manifest lacks a column.
    """
    found, path = resolve(place, filesystem=filesystem)
    kind = _MANIFESTS.get(posixpath.splitext(path)[1].lower())
    if kind is not None:
        files = _matching(found, path, suffixes=None) if _MAGIC.search(posixpath.basename(path)) else [path]
        return Source(found, lambda: _listed(found, files, kind=kind, id_column=id_column))
    base = posixpath.dirname(path[: match.start()]) if (match := _MAGIC.search(path)) else path
    if id_column != "path":
        raise DatasetError(f"{place}: is no manifest, so it has no column {id_column!r}; give a .parquet or .csv file.")
    return Source(found, lambda: _found(_matching(found, path, suffixes=SUFFIXES), base))


def repeated(source: Source, hashes: list[npt.NDArray[np.uint64]]) -> list[str]:
    """Returns a few ids that occur twice or more.

    Eight bytes an id are held; only ids with equal hashes are compared themselves.

    Args:
        source: The songs.
        hashes: What :func:`hashed` gives of each batch.
    """
    ordered = np.sort(np.concatenate(hashes)) if hashes else np.empty(0, np.uint64)
    suspects = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
    if not suspects.size:
        return []
    seen: set[str] = set()
    twice: dict[str, None] = {}
    for batch in source.batches():
        ids = batch["id"].to_pylist()
        for index in np.flatnonzero(np.isin(hashed(ids), suspects)):
            if ids[index] in seen:
                twice[ids[index]] = None
            seen.add(ids[index])
    return list(twice)


def hashed(ids: Iterable[str]) -> npt.NDArray[np.uint64]:
    """Returns a 64-bit hash of each id, the same in every process.

    Example:
        >>> hashed(["waltz", "tango"]) == hashed(["waltz", "polka"])
        array([ True, False])
    """
    from pandas.util import hash_array

    hashes: npt.NDArray[np.uint64] = hash_array(np.array(list(ids), dtype=object), categorize=False)
    return hashes


def _matching(filesystem: FileSystem, path: str, *, suffixes: frozenset[str] | None) -> list[str]:
    """Returns the files of a folder, or those that a pattern describes, sorted."""
    fs = needed("pyarrow.fs")
    match = _MAGIC.search(path)
    base = posixpath.dirname(path[: match.start()]) if match else path
    pattern = re.compile(needed("fsspec.utils").glob_translate(path)) if match else None
    try:
        entries = filesystem.get_file_info(fs.FileSelector(base, recursive=True))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise DatasetError(f"{path}: there is no such folder; give a folder, a pattern or a manifest.") from error
    except OSError as error:
        raise DatasetError(f"{path}: cannot be listed ({error}); check the place and its permissions.") from error
    files = [
        entry.path
        for entry in entries
        if entry.type == fs.FileType.File
        and (suffixes is None or posixpath.splitext(entry.path)[1].lower() in suffixes)
        and not any(part.startswith(".") for part in posixpath.relpath(entry.path, base).split("/"))
        and (pattern is None or pattern.match(entry.path))
    ]
    if not files:
        what = f"audio ({', '.join(sorted(suffixes))})" if suffixes else "manifest"
        raise DatasetError(f"{path}: no {what} is there; check the place or the pattern.")
    return sorted(files)


def _found(files: list[str], base: str) -> Iterator[pa.Table]:
    pa = needed("pyarrow")
    for start in range(0, len(files), BATCH):
        paths = files[start : start + BATCH]
        yield pa.table({"id": [posixpath.relpath(path, base) for path in paths], "path": paths})


def _listed(filesystem: FileSystem, files: list[str], *, kind: str, id_column: str) -> Iterator[pa.Table]:
    """Yields the rows of manifests."""
    pa = needed("pyarrow")
    try:
        rows = needed("pyarrow.dataset").dataset(files, format=kind, filesystem=filesystem)
        if absent := sorted({id_column, "path"} - set(rows.schema.names)):
            known = ", ".join(rows.schema.names)
            raise DatasetError(f"{files[0]}: a manifest needs the column {' and '.join(absent)}; it has {known}.")
        folder = posixpath.dirname(files[0]) if is_local(filesystem) else ""
        for batch in rows.to_batches(columns=list({id_column, "path"}), batch_size=BATCH):
            ids, paths = (batch[name].cast(pa.string()).to_pylist() for name in (id_column, "path"))
            if not (all(ids) and all(paths)):
                raise DatasetError(f"{files[0]}: a row has no {id_column} or no path; every song needs both.")
            yield pa.table({"id": ids, "path": [_from(folder, path) for path in paths]})
    except (OSError, pa.ArrowException) as error:
        raise DatasetError(f"{files[0]}: cannot be read as a manifest ({error}).") from error


def _from(folder: str, path: str) -> str:
    return path if "://" in path or not folder else posixpath.join(folder, path)


def refuse_repeats(source: Source, hashes: list[npt.NDArray[np.uint64]]) -> None:
    """Raises an error when an id occurs twice.

    Raises:
        DatasetError: It does.
    """
    if twice := list(itertools.islice(repeated(source, hashes), 100)):
        raise DatasetError(
            f"The collection has songs with the same id: {abbreviated(twice)}. Each song needs an id of its own; "
            "with a manifest, id_column says which column holds them."
        )
