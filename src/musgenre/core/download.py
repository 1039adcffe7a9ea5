"""Files from other people's servers, fetched once and kept."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

from musgenre.core.errors import DownloadError, WeightsError
from musgenre.core.files import file_lock
from musgenre.core.http import ResumingDownloader

_log = logging.getLogger(__name__)


def cache_directory(*parts: str) -> Path:
    r"""Returns where musgenre keeps what can be had again; it need not exist yet.

    The environment variable ``MUSGENRE_CACHE`` names the directory; without it, it is the system's place for caches:
    ``~/.cache/musgenre`` on Linux, ``~/Library/Caches/musgenre`` on macOS, ``%LOCALAPPDATA%\musgenre`` on Windows.

    Args:
        *parts: Names of directories below it.

    Example:
        >>> cache_directory("yamnet", "yamnet.h5").parts[-2:]
        ('yamnet', 'yamnet.h5')
    """
    import platformdirs

    named = os.environ.get("MUSGENRE_CACHE")
    root = Path(named).expanduser() if named else Path(platformdirs.user_cache_dir("musgenre", appauthor=False))
    return root.joinpath(*parts)


def fetch(url: str, *parts: str, sha256: str | None) -> Path:
    """Returns a file of the cache, downloading it first if it is not there; see :func:`download`.

    Args:
        url: Where it is published, over HTTP.
        *parts: Its place in the cache: directories, then the file's name.
        sha256: Its SHA-256 as 64 hexadecimal digits, or ``None`` where it is not known and nothing can be compared.
            A file in the cache that has another one is downloaded again.

    Raises:
        WeightsError: It cannot be downloaded, has another checksum, or cannot be written; the message says where
            to put the file by hand.
    """
    try:
        return download(url, cache_directory(*parts), checksum=sha256 and f"sha256:{sha256}", progress=True)
    except DownloadError as error:
        raise WeightsError(str(error)) from error


def download(
    url: str, path: Path, *, checksum: str | None = None, size: int | None = None, progress: bool = False
) -> Path:
    """Returns a file, downloading it first if it is not there.

    The file appears whole or not at all. A connection that breaks is taken up again where it broke, and so is a
    download that a kill has ended, where the server can do that. Of several processes or threads that want one file,
    one downloads and the others wait. A file that is there needs no network.

    Args:
        url: Where it is published, over HTTP.
        path: Where it is put; the directory is made if need be.
        checksum: What it must be, as ``"sha256:<digits>"`` or ``"md5:<digits>"``; ``None`` where that is not known and
            nothing can be compared. A file that is there with another one is downloaded again.
        size: Its size in bytes, or ``None`` where it is not known.
        progress: Whether a bar is drawn on the standard error stream, if that is a terminal.

    Raises:
        DownloadError: It cannot be downloaded, has another checksum or size, or cannot be written; the message says
            where to put the file by hand.
    """
    import pooch

    # What is not whole yet, of this call or of one that was killed, is in a folder of its own.
    begun = path.with_name(f".{path.name}.download")
    try:
        if path.is_file() and pooch.hashes.hash_matches(path, checksum):
            return path
        path.parent.mkdir(parents=True, exist_ok=True)
        with file_lock(Path(f"{path}.lock")), _said_by_this_module():
            if path.is_file() and pooch.hashes.hash_matches(path, checksum):  # another did it while this one waited
                return path
            begun.mkdir(exist_ok=True)
            downloader = ResumingDownloader(begun, size=size, progress=progress)
            try:
                pooch.retrieve(url, known_hash=checksum, fname=path.name, path=begun, downloader=downloader)
                (begun / path.name).replace(path)
            finally:
                if not downloader.can_go_on():
                    shutil.rmtree(begun)
    # requests' errors are OSErrors, a wrong checksum is a ValueError.
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise DownloadError(
            f"{url} could not be fetched ({reason}). Check the network; or download it on another machine, and put it "
            f"at '{path}'."
        ) from error
    return path


@contextlib.contextmanager
def _said_by_this_module() -> Iterator[None]:
    """Gives what pooch logs in this thread to this module's logger; pooch's own prints it."""
    import pooch

    def heard(record: logging.LogRecord) -> bool:
        if record.thread != threading.get_ident():
            return True
        _log.log(record.levelno, "%s", record.getMessage())
        return False

    logger = pooch.get_logger()
    logger.addFilter(heard)
    try:
        yield
    finally:
        logger.removeFilter(heard)
