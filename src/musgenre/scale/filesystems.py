"""Access to files on local disks and on file systems of PyArrow and fsspec."""

from __future__ import annotations

import contextlib
import io
import os
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from musgenre.core.errors import AudioFileError, ParameterError
from musgenre.scale.dependencies import require

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem

_BUFFER_BYTES = 2**20  # of one request to an object store


def resolve(location: str | os.PathLike[str], *, filesystem: Any = None) -> tuple[FileSystem, str]:
    """Returns PyArrow's file system and the path in it for a location.

    Args:
        location: A local path, a URI such as ``s3://bucket/music``, or a path in ``filesystem``.
        filesystem: A file system of PyArrow or fsspec, which holds its own credentials; by default it is inferred from
            the location.

    Raises:
        ParameterError: No file system is known for the location, or the extra ``scale`` is not installed.

    Example:
        >>> resolve("/music/jazz")[1], resolve("memory://music/jazz")[1]
        ('/music/jazz', '/music/jazz')
    """
    fs = require("pyarrow.fs")
    text = os.fspath(location)
    if filesystem is not None:
        if not isinstance(filesystem, fs.FileSystem):
            filesystem = fs.PyFileSystem(fs.FSSpecHandler(filesystem))
        return filesystem, text.partition("://")[2] or text
    if "://" not in text:
        return fs.LocalFileSystem(), os.path.abspath(os.path.expanduser(text))
    try:
        return cast("tuple[FileSystem, str]", fs.FileSystem.from_uri(text))
    except (ValueError, OSError):  # PyArrow does not know the scheme or the credentials; fsspec may
        try:
            found, path = require("fsspec.core").url_to_fs(text)
        except (ValueError, ImportError, OSError) as error:
            raise ParameterError(
                f"{text}: no file system for this location ({error}); give filesystem, of PyArrow or fsspec."
            ) from error
        return fs.PyFileSystem(fs.FSSpecHandler(found)), path


def is_local(filesystem: FileSystem) -> bool:
    """Returns whether the paths of a file system are local paths."""
    return bool(filesystem.type_name == "local")


def open_source(
    path: str, *, filesystem: FileSystem | None = None
) -> contextlib.AbstractContextManager[str | BinaryIO]:
    """Returns a context manager for a file as :mod:`musgenre.audio` reads it: a local path, or a seekable binary file.

    Of a remote file, only the requested parts are fetched, in requests of one megabyte.

    Args:
        path: A path in the file system, or a URI.
        filesystem: The file system of ``path``, unless it is a URI; ``None`` is the local disk.

    Raises:
        AudioFileError: There is no such file, or it cannot be opened.
    """
    if "://" in path or filesystem is None:
        filesystem, path = resolve(path)
    if is_local(filesystem):
        return contextlib.nullcontext(path)
    try:
        return _NamedReader(filesystem.open_input_file(path), path)
    except FileNotFoundError as error:
        raise AudioFileError(f"{path}: there is no such file; check the path.") from error
    except OSError as error:
        raise AudioFileError(f"{path}: cannot be opened ({error}); check the path and its permissions.") from error


class _NamedReader(io.BufferedReader):
    """A buffered file with a name for error messages, which PyArrow's files lack."""

    name = ""

    def __init__(self, raw: Any, name: str) -> None:
        super().__init__(raw, _BUFFER_BYTES)
        self.name = name
