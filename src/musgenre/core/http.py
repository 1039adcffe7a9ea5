"""How a file comes over HTTP: in pieces if need be, each going on where the last one broke off."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from requests import Response, Session
    from rich.progress import Progress

SECONDS_WITHOUT_AN_ANSWER = 30
PAUSE_SECONDS = 1.0
ATTEMPTS = 3
"""How often in a row nothing may come before it is given up."""

_CHUNK_BYTES = 1 << 18
_TEMPORARY_FAILURES = (429, 500, 502, 503, 504)
_NO_VERSION = "whole"  # of what comes from a server that cannot go on


@dataclass(frozen=True)
class ResumingDownloader:
    """What ``pooch.retrieve`` is given to download with.

    What has come so far stands in a part, if the server says which version of the file it is (``ETag`` or
    ``Last-Modified``) and can give the rest of it (``Range``). A later call, in this process or another, goes on there
    as long as the server still has that version. Two must not download one file at a time.

    Attributes:
        place: The folder of the parts, which holds nothing else of that suffix.
        size: Its size in bytes; ``None`` where it is not known.
        progress: Whether a bar is drawn on the standard error stream, if that is a terminal.
    """

    place: Path
    size: int | None = None
    progress: bool = False

    def __call__(self, url: str, output_file: str, *_: object) -> None:
        """Downloads a file, called by pooch.

        Raises:
            OSError: The server cannot be reached, has no such file or breaks off, or the file cannot be written.
            ValueError: The file has another size than it should.
        """
        try:
            os.replace(self._part(url), output_file)
        except ValueError:
            for part in self._parts(url):
                part.unlink()
            raise
        finally:
            self._named(url, _NO_VERSION).unlink(missing_ok=True)

    def can_go_on(self) -> bool:
        """Returns whether there is anything that a later call can go on with."""
        return any(self.place.glob("*.part"))

    def _part(self, url: str) -> Path:
        """Returns the file that has come, after as many attempts as it takes."""
        import requests
        from urllib3.exceptions import HTTPError

        fruitless = 0
        with _session() as session, self._bar() as bar:
            while True:
                before = self._here(url)
                try:
                    return self._come(session, url, bar=bar)
                except requests.HTTPError:  # the server's own word
                    raise
                except (requests.RequestException, HTTPError) as error:
                    here = self._here(url)
                    fruitless = 0 if here > before else fruitless + 1
                    if fruitless == ATTEMPTS or not here:
                        raise OSError(f"{error or type(error).__name__}") from error
                time.sleep(PAUSE_SECONDS if fruitless else 0)

    def _come(self, session: Session, url: str, *, bar: Progress) -> Path:
        with _answer(session, url) as response:
            part, total = self._place(response, url), _length(response)
            start = part.stat().st_size if part.exists() and _can_go_on(response) else 0
            if start and start == total:
                return part
            if not start or (total is not None and start > total):
                return self._receive(response, part, bar=bar)
        with _answer(session, url, Range=f"bytes={start}-", **{"If-Range": _version(response)}) as response:
            if response.status_code == 206 and _first_byte(response) != start:
                part.unlink()
                raise OSError(f"asked for what follows byte {start}, the server gave something else")
            return self._receive(response, self._place(response, url), bar=bar)

    def _place(self, response: Response, url: str) -> Path:
        """Returns the file for what comes; parts of other versions are removed."""
        part = self._named(url, _digest(_version(response)) if _can_go_on(response) else _NO_VERSION)
        for other in self._parts(url):
            if other != part:
                other.unlink()
        return part

    def _here(self, url: str) -> int:
        return sum(part.stat().st_size for part in self._parts(url) if part != self._named(url, _NO_VERSION))

    def _parts(self, url: str) -> list[Path]:
        return list(self.place.glob(f"{_digest(url)}.*.part"))

    def _named(self, url: str, version: str) -> Path:
        return self.place / f"{_digest(url)}.{version}.part"

    def _receive(self, response: Response, part: Path, *, bar: Progress) -> Path:
        start = _first_byte(response) if response.status_code == 206 else 0
        length = _length(response)
        total = None if length is None else start + length
        if total is not None:
            self._check(total)
            if shutil.disk_usage(part.parent).free < total - start:
                raise OSError(errno.ENOSPC, f"there is no room for its {total} bytes", str(part.parent))
        task = bar.add_task("Downloading", total=total, completed=start)
        try:
            with part.open("ab" if start else "wb") as file:
                for chunk in response.raw.stream(_CHUNK_BYTES, decode_content=False):
                    file.write(chunk)
                    self._check(file.tell(), so_far=True)
                    bar.update(task, completed=file.tell())
        finally:
            bar.remove_task(task)
        self._check(part.stat().st_size)
        return part

    def _check(self, size: int, *, so_far: bool = False) -> None:
        if self.size is not None and (size > self.size or (size < self.size and not so_far)):
            raise ValueError(f"the file has {size} bytes{' or more' * so_far} instead of {self.size}")

    @contextlib.contextmanager
    def _bar(self) -> Iterator[Progress]:
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

        console = Console(stderr=True)
        columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
        with Progress(*columns, console=console, disable=not (self.progress and console.is_terminal)) as bar:
            yield bar


def _session() -> Session:
    """Returns a session that asks again where a server is only busy, and takes files as they are."""
    import requests
    from requests.adapters import HTTPAdapter
    from urllib3 import Retry

    retries = Retry(
        total=ATTEMPTS - 1,
        connect=1,
        backoff_factor=PAUSE_SECONDS / 2,
        status_forcelist=_TEMPORARY_FAILURES,
        raise_on_status=False,
    )
    session = requests.Session()
    for scheme in ("http://", "https://"):
        session.mount(scheme, HTTPAdapter(max_retries=retries))
    session.headers["Accept-Encoding"] = "identity"
    return session


@contextlib.contextmanager
def _answer(session: Session, url: str, **headers: str) -> Iterator[Response]:
    with session.get(url, stream=True, timeout=SECONDS_WITHOUT_AN_ANSWER, headers=headers) as response:
        response.raise_for_status()
        yield response


def _length(response: Response) -> int | None:
    length = response.headers.get("Content-Length", "")
    return int(length) if length.isdecimal() else None


def _version(response: Response) -> str:
    """Returns what names this version of a file, or an empty text; a weak tag does not name its bytes."""
    tag: str = response.headers.get("ETag", "")
    return response.headers.get("Last-Modified", "") if not tag or tag.startswith("W/") else tag


def _can_go_on(response: Response) -> bool:
    ranges = response.status_code == 206 or response.headers.get("Accept-Ranges", "none") == "bytes"
    return ranges and _version(response) != ""


def _first_byte(response: Response) -> int:
    """Returns where a partial answer starts; -1 where it does not say so."""
    unit, _, where = response.headers.get("Content-Range", "").partition(" ")
    first = where.partition("-")[0]
    return int(first) if unit == "bytes" and first.isdecimal() else -1


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]
