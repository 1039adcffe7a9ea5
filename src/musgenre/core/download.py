"""Cached downloads over HTTP, which resume where a connection or a process broke off."""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from musgenre.core.errors import DownloadError, WeightsError
from musgenre.core.files import file_lock

if TYPE_CHECKING:
    from requests import Response, Session
    from rich.progress import Progress

_log = logging.getLogger(__name__)

TIMEOUT_SECONDS = 30
RETRY_PAUSE_SECONDS = 1.0
MAX_ATTEMPTS = 3
"""Number of consecutive attempts without any received data after which a download fails."""

_CHUNK_BYTES = 1 << 18
_TEMPORARY_FAILURES = (429, 500, 502, 503, 504)
_UNVERSIONED = "whole"  # marks the part of a server that cannot resume


def cache_directory(*parts: str) -> Path:
    r"""Returns the path of a directory or file in musgenre's cache, without creating it.

    The environment variable ``MUSGENRE_CACHE`` sets the cache directory. The default is the system's cache directory:
    ``~/.cache/musgenre`` on Linux, ``~/Library/Caches/musgenre`` on macOS, ``%LOCALAPPDATA%\musgenre`` on Windows.

    Args:
        *parts: Components of the path below the cache directory.

    Example:
        >>> cache_directory("yamnet", "yamnet.h5").parts[-2:]
        ('yamnet', 'yamnet.h5')
    """
    import platformdirs

    variable = os.environ.get("MUSGENRE_CACHE")
    root = Path(variable).expanduser() if variable else Path(platformdirs.user_cache_dir("musgenre", appauthor=False))
    return root.joinpath(*parts)


def fetch(url: str, *parts: str, sha256: str | None) -> Path:
    """Returns a file of the cache, downloading it if it is missing; see :func:`download`.

    Args:
        url: The URL, over HTTP.
        *parts: Components of the path below the cache directory.
        sha256: The SHA-256 digest in hexadecimal, or ``None`` if it is unknown. A cached file with another digest is
            downloaded again.

    Raises:
        WeightsError: The file cannot be downloaded or written, or has another digest; the message names the path where
            a manually downloaded file is expected.
    """
    try:
        return download(url, cache_directory(*parts), checksum=sha256 and f"sha256:{sha256}", progress=True)
    except DownloadError as error:
        raise WeightsError(str(error)) from error


def download(
    url: str, path: Path, *, checksum: str | None = None, size: int | None = None, progress: bool = False
) -> Path:
    """Returns a file, downloading it if it is missing.

    The file is created atomically. Interrupted downloads are resumed, also those of a killed process, if the server
    supports it. If several processes or threads need the same file, one downloads it and the others wait. An existing
    file needs no network.

    Args:
        url: The URL, over HTTP.
        path: The path of the file; its directory is created if necessary.
        checksum: The expected checksum, as ``"sha256:<digits>"`` or ``"md5:<digits>"``, or ``None`` if it is unknown.
            An existing file with another checksum is downloaded again.
        size: The expected size in bytes, or ``None`` if it is unknown.
        progress: Whether to show a progress bar on the standard error stream, if that is a terminal.

    Raises:
        DownloadError: The file cannot be downloaded or written, or has another checksum or size; the message names the
            path where a manually downloaded file is expected.
    """
    # The parts of this download, or of a killed process, have their own directory.
    directory = path.with_name(f".{path.name}.download")
    try:
        if _is_complete(path, checksum):
            return path
        path.parent.mkdir(parents=True, exist_ok=True)
        with file_lock(Path(f"{path}.lock")):
            if _is_complete(path, checksum):  # downloaded by another process while this one waited
                return path
            directory.mkdir(exist_ok=True)
            transfer = _Transfer(url, directory, size=size, progress=progress)
            _log.info("Downloading data from '%s' to '%s'.", url, path)
            try:
                transfer.run(path, checksum=checksum)
            finally:
                if not transfer.is_resumable():
                    shutil.rmtree(directory)
    # The errors of requests are OSErrors; a wrong checksum or size is a ValueError.
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise DownloadError(
            f"{url} could not be downloaded ({reason}). Check the network; or download it on another machine, and put "
            f"it at '{path}'."
        ) from error
    return path


def _is_complete(path: Path, checksum: str | None) -> bool:
    return path.is_file() and (checksum is None or _checksum(path, kind=checksum) == checksum.lower())


def _checksum(path: Path, *, kind: str) -> str:
    """Returns a file's checksum in the format of :func:`download`, by the algorithm before the colon of ``kind``."""
    algorithm = kind.partition(":")[0]
    digest = hashlib.new(algorithm, usedforsecurity=False)
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return f"{algorithm}:{digest.hexdigest()}"


@dataclass(frozen=True)
class _Transfer:
    """A resumable download.

    The received data is stored in a part file, named by the version of the remote file (``ETag`` or
    ``Last-Modified``). A later call, in this process or another, resumes the part if the server supports ranges and
    still has that version. Two processes must not download to one directory at the same time.

    Attributes:
        url: The URL.
        directory: The directory of the part files; it must contain no other files with that suffix.
        size: The expected size in bytes; ``None`` if it is unknown.
        progress: Whether to show a progress bar on the standard error stream, if that is a terminal.
    """

    url: str
    directory: Path
    size: int | None
    progress: bool

    def run(self, path: Path, *, checksum: str | None) -> None:
        """Downloads the file, checks it and moves it to ``path``.

        Raises:
            OSError: The server cannot be reached, has no such file or closes the connection, or the file cannot be
                written.
            ValueError: The file has another size or checksum; nothing of it is stored.
        """
        try:
            part = self._receive()
            if checksum is not None and (found := _checksum(part, kind=checksum)) != checksum.lower():
                raise ValueError(f"the checksum does not match: expected {checksum}, got {found}")
            os.replace(part, path)
        except ValueError:
            for part in self._parts():
                part.unlink()
            raise
        finally:
            self._part(_UNVERSIONED).unlink(missing_ok=True)

    def is_resumable(self) -> bool:
        """Returns whether there is a part that a later call can resume."""
        return any(self.directory.glob("*.part"))

    def _receive(self) -> Path:
        """Returns the completed part, after as many attempts as necessary."""
        import requests
        from urllib3.exceptions import HTTPError

        failures = 0
        with _session() as session, self._progress_bar() as bar:
            while True:
                before = self._received_bytes()
                try:
                    return self._attempt(session, bar=bar)
                except requests.HTTPError:  # an error status, which is final
                    raise
                except (requests.RequestException, HTTPError) as error:
                    received = self._received_bytes()
                    failures = 0 if received > before else failures + 1
                    if failures == MAX_ATTEMPTS or not received:
                        raise OSError(f"{error or type(error).__name__}") from error
                time.sleep(RETRY_PAUSE_SECONDS if failures else 0)

    def _attempt(self, session: Session, *, bar: Progress) -> Path:
        with _get(session, self.url) as response:
            part, total = self._part_of(response), _content_length(response)
            start = part.stat().st_size if part.exists() and _supports_resuming(response) else 0
            if start and start == total:
                return part
            if not start or (total is not None and start > total):
                return self._append(response, part, bar=bar)
        headers = {"Range": f"bytes={start}-", "If-Range": _version(response)}
        with _get(session, self.url, headers=headers) as response:
            if response.status_code == 206 and _first_byte(response) != start:
                part.unlink()
                raise OSError(f"the server did not send the requested range from byte {start}")
            return self._append(response, self._part_of(response), bar=bar)

    def _part_of(self, response: Response) -> Path:
        """Returns the part for a response, and removes those of other versions."""
        part = self._part(_short_digest(_version(response)) if _supports_resuming(response) else _UNVERSIONED)
        for other in self._parts():
            if other != part:
                other.unlink()
        return part

    def _received_bytes(self) -> int:
        return sum(part.stat().st_size for part in self._parts() if part != self._part(_UNVERSIONED))

    def _parts(self) -> list[Path]:
        return list(self.directory.glob(f"{_short_digest(self.url)}.*.part"))

    def _part(self, version: str) -> Path:
        return self.directory / f"{_short_digest(self.url)}.{version}.part"

    def _append(self, response: Response, part: Path, *, bar: Progress) -> Path:
        start = _first_byte(response) if response.status_code == 206 else 0
        length = _content_length(response)
        total = None if length is None else start + length
        if total is not None:
            self._check_size(total)
            if shutil.disk_usage(part.parent).free < total - start:
                raise OSError(errno.ENOSPC, f"its {total} bytes do not fit on the disk", str(part.parent))
        task = bar.add_task("Downloading", total=total, completed=start)
        try:
            with part.open("ab" if start else "wb") as file:
                for chunk in response.raw.stream(_CHUNK_BYTES, decode_content=False):
                    file.write(chunk)
                    self._check_size(file.tell(), is_complete=False)
                    bar.update(task, completed=file.tell())
        finally:
            bar.remove_task(task)
        self._check_size(part.stat().st_size)
        return part

    def _check_size(self, size: int, *, is_complete: bool = True) -> None:
        if self.size is not None and (size > self.size or (size < self.size and is_complete)):
            raise ValueError(f"the file has {size} bytes{'' if is_complete else ' or more'} instead of {self.size}")

    def _progress_bar(self) -> Progress:
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

        console = Console(stderr=True)
        columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
        return Progress(*columns, console=console, disable=not (self.progress and console.is_terminal))


def _session() -> Session:
    """Returns a session that retries temporary failures and requests uncompressed files."""
    import requests
    from requests.adapters import HTTPAdapter
    from urllib3 import Retry

    retries = Retry(
        total=MAX_ATTEMPTS - 1,
        connect=1,
        backoff_factor=RETRY_PAUSE_SECONDS / 2,
        status_forcelist=_TEMPORARY_FAILURES,
        raise_on_status=False,
    )
    session = requests.Session()
    for scheme in ("http://", "https://"):
        session.mount(scheme, HTTPAdapter(max_retries=retries))
    session.headers["Accept-Encoding"] = "identity"
    return session


def _get(session: Session, url: str, *, headers: dict[str, str] | None = None) -> Response:
    response = session.get(url, stream=True, timeout=TIMEOUT_SECONDS, headers=headers)
    response.raise_for_status()
    return response


def _content_length(response: Response) -> int | None:
    length = response.headers.get("Content-Length", "")
    return int(length) if length.isdecimal() else None


def _version(response: Response) -> str:
    """Returns the version of a remote file, or an empty string; a weak tag does not identify its bytes."""
    tag: str = response.headers.get("ETag", "")
    return response.headers.get("Last-Modified", "") if not tag or tag.startswith("W/") else tag


def _supports_resuming(response: Response) -> bool:
    ranges = response.status_code == 206 or response.headers.get("Accept-Ranges", "none") == "bytes"
    return ranges and _version(response) != ""


def _first_byte(response: Response) -> int:
    """Returns the start of a partial response in bytes; -1 if it is unknown."""
    unit, _, content_range = response.headers.get("Content-Range", "").partition(" ")
    first = content_range.partition("-")[0]
    return int(first) if unit == "bytes" and first.isdecimal() else -1


def _short_digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]
