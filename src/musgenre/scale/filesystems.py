"""Where collections lie: local disks, and whatever PyArrow or fsspec can reach."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from musgenre.core.errors import AudioFileError, ParameterError
from musgenre.scale.dependencies import needed

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem

_BUFFER_BYTES = 2**20  # of one request to an object store


def resolve(place: str | os.PathLike[str], *, filesystem: Any = None) -> tuple[FileSystem, str]:
    """Returns PyArrow's file system and the path in it that a place stands for.

    Args:
        place: A local path, a URI such as ``s3://bucket/music``, or a path in ``filesystem``.
        filesystem: A file system of PyArrow or of fsspec, with credentials of its own; ``None`` goes by the place.

    Raises:
        ParameterError: There is no such kind of place, or the extra ``scale`` is not installed.

    Example:
        >>> resolve("/music/jazz")[1], resolve("memory://music/jazz")[1]
        ('/music/jazz', '/music/jazz')
    """
    fs = needed("pyarrow.fs")
    text = os.fspath(place)
    if filesystem is not None:
        known = isinstance(filesystem, fs.FileSystem)
        return (filesystem if known else fs.PyFileSystem(fs.FSSpecHandler(filesystem))), text.partition("://")[
            2
        ] or text
    if "://" not in text:
        return fs.LocalFileSystem(), os.path.abspath(os.path.expanduser(text))
    try:
        return cast("tuple[FileSystem, str]", fs.FileSystem.from_uri(text))
    except (ValueError, OSError):  # PyArrow does not know the scheme, or not how to sign in: fsspec may
        try:
            found, path = needed("fsspec.core").url_to_fs(text)
        except (ValueError, ImportError, OSError) as error:
            raise ParameterError(
                f"{text}: no file system for this place ({error}); give filesystem, of PyArrow or fsspec."
            ) from error
        return fs.PyFileSystem(fs.FSSpecHandler(found)), path


def is_local(filesystem: FileSystem) -> bool:
    """Says whether paths of a file system are paths of this machine."""
    return bool(filesystem.type_name == "local")


@contextlib.contextmanager
def opened(path: str, *, filesystem: FileSystem | None = None) -> Iterator[str | BinaryIO]:
    """Gives what :mod:`musgenre.audio` reads a song from: the path where it is local, else a file that seeks.

    Of a file elsewhere only what is asked for is fetched, a megabyte at a time.

    Args:
        path: A path in the file system, or a URI that names its own.
        filesystem: Where ``path`` is, unless it is a URI.

    Raises:
        AudioFileError: There is no such file, or it cannot be opened.
    """
    if "://" in path or filesystem is None:
        filesystem, path = resolve(path)
    if is_local(filesystem):
        yield path
        return
    try:
        raw = filesystem.open_input_file(path)
    except FileNotFoundError as error:
        raise AudioFileError(f"{path}: there is no such file; check the path.") from error
    except OSError as error:
        raise AudioFileError(f"{path}: cannot be opened ({error}); check the path and its permissions.") from error
    with raw, _Named(raw, path) as file:
        yield file


class _Named(io.BufferedReader):
    """A file that messages can call by its name; PyArrow's have none."""

    name = ""

    def __init__(self, raw: Any, name: str) -> None:
        super().__init__(raw, _BUFFER_BYTES)
        self.name = name
