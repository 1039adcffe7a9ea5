"""The bytes that libsndfile sees, and what it has to be told about them before it reads."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any, BinaryIO

import soundfile

from musgenre.core.errors import AudioFileError

REASONS = {7: "no MPEG frames", 24: "the header has no valid sample rate"}  # where libsndfile's words mislead
OGG_PAGE = 65_307  # bytes of the longest page
READ_AHEAD = 2**13
"""Bytes kept for the decoder, which takes an MP3 by four small calls for each of its frames."""


class ByteStream:
    """A binary file from its present position on, as libsndfile wants it.

    It has no name, so that libsndfile goes by the content: by its name it would take any text for headerless audio.
    No exception passes through libsndfile, so the first one is kept, and :meth:`errors` raises it.

    Args:
        file: Where to read from, from its present position on.
        name: What messages call it.
    """

    def __init__(self, file: BinaryIO, name: str) -> None:
        self._file, self.title = file, name
        self._origin = file.tell()
        file.seek(0, os.SEEK_END)
        self.size = self.claimed_size = max(0, file.tell() - self._origin)
        self._patch: tuple[int, bytes] | None = None
        self._position = 0
        self._ahead, self._ahead_at = b"", 0
        self._failure: BaseException | None = None

    @property
    def is_read(self) -> bool:
        """Whether reading has come to the last fiftieth of the file."""
        return self._position >= 0.98 * self.size

    def skip(self, count: int) -> None:
        """Moves the start of the stream."""
        self._origin += count
        self.size = self.claimed_size = self.size - count
        self._ahead = b""

    def replace(self, start: int, data: bytes) -> None:
        """Has other bytes seen from ``start`` on than there are."""
        self._patch = (start, data)
        self._ahead = b""

    def tell(self) -> int:
        """Returns the position in bytes."""
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> None:
        """Goes to a position; "the end" is where :attr:`claimed_size` puts it."""
        end = self.size if offset else self.claimed_size
        self._position = max(0, offset + (0, self._position, end)[whence])

    def readinto(self, buffer: Any) -> int:
        """Fills a buffer, and returns how many bytes there were for it."""
        at, count = self._position - self._ahead_at, len(buffer)
        if not 0 <= at <= at + count <= len(self._ahead):
            self._ahead, self._ahead_at, at = self.read(self._position, max(count, READ_AHEAD)), self._position, 0
        data = self._ahead[at : at + count]
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)

    def read(self, start: int, count: int) -> bytes:
        """Returns ``count`` bytes from ``start`` on, fewer at the end or where reading fails."""
        data = bytearray()
        try:
            self._file.seek(self._origin + start)
            while len(data) < count and (part := self._file.read(count - len(data))):
                data += part
        except BaseException as error:  # noqa: BLE001 - errors() raises it
            self._failure = self._failure or error
        if self._patch is not None:
            for index, value in enumerate(self._patch[1], self._patch[0] - start):
                if 0 <= index < len(data):
                    data[index] = value
        return bytes(data)

    @contextlib.contextmanager
    def errors(self, what: str) -> Iterator[None]:
        """Raises libsndfile's error, or the exception behind it, as an error of the file."""
        cause: soundfile.LibsndfileError | None = None
        try:
            yield
        except soundfile.LibsndfileError as error:
            cause = error
        if isinstance(self._failure, Exception):
            raise AudioFileError(f"{self.title}: reading failed ({self._failure!r}); try again.") from self._failure
        if self._failure is not None:  # KeyboardInterrupt and its like
            raise self._failure
        if cause is not None:
            reason = REASONS.get(cause.code, cause.error_string.strip("."))
            raise AudioFileError(f"{self.title}: {what} ({reason}).") from cause


def prepare_mp3(source: ByteStream) -> bool:
    """Skips the tags of an MP3, and claims the size that suits its decoder; leaves other files as they are.

    Returns whether the first frame counts those that follow (Xing's header). Without that count libsndfile estimates
    the length from the first frame, and stops there; a size beyond any possible estimate makes it read on to the end.
    With it, the size is the one that the header has, since another one makes mpg123 write to the terminal.
    """
    start = 0
    while (tag := source.read(start, 10))[:3] == b"ID3" and len(tag) == 10:
        size = 0
        for byte in tag[6:]:
            size = size << 7 | byte
        start += size + (20 if tag[5] & 0x10 else 10)
    padded = source.read(start, 4096)
    frame = padded.lstrip(b"\0")
    if len(frame) < 4 or frame[0] != 0xFF or frame[1] & 0xE0 != 0xE0:
        return False
    source.skip(start + len(padded) - len(frame))
    at = max(frame.find(b"Xing", 4, 48), frame.find(b"Info", 4, 48))
    flags = int.from_bytes(frame[at + 4 : at + 8], "big") if at > 0 else 0
    if flags & 3 == 3:
        source.claimed_size = int.from_bytes(frame[at + 12 : at + 16], "big")
    elif not flags & 1:
        source.claimed_size = 64 * source.size
    return bool(flags & 1)


def patch_length(source: ByteStream, kind: str) -> bool:
    """Replaces a length of nothing, as writers to a pipe leave it, by "until the end" where libsndfile knows that."""
    at = {"AU": 8, "WAV": source.read(0, 4096).find(b"data\0\0\0\0") + 4}.get(kind, 0)
    if at > 4:
        source.replace(at, b"\xff\xff\xff\xff")
    return at > 4


def ends_ogg(source: ByteStream) -> bool:
    """Whether the last page is whole and bears the flag that ends its stream (RFC 3533, section 6)."""
    tail = source.read(max(0, source.size - OGG_PAGE), OGG_PAGE)
    at = tail.rfind(b"OggS\0")
    if at < 0:  # something else, longer than any page, follows
        return True
    page = tail[at:]
    if len(page) < 27:
        return False
    lengths = page[27 : 27 + page[26]]
    return len(page) >= 27 + page[26] + sum(lengths) and bool(page[5] & 4)
