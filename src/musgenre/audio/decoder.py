"""Decode audio files with libsndfile, strictly.

libsndfile pads or shortens damaged files without an error. Here, a file that contains less audio than its header
declares raises :class:`~musgenre.core.errors.AudioFileError`, and a stream of undeclared length is read to its end.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from typing import Any, BinaryIO, TypeAlias

import numpy as np
import numpy.typing as npt
import soundfile

from musgenre.core.config import MAX_SAMPLE_RATE, MIN_SAMPLE_RATE
from musgenre.core.errors import AudioFileError, MusgenreError
from musgenre.core.threads import no_fork

Frames: TypeAlias = npt.NDArray[np.floating[Any]]

BLOCK_SECONDS = 10
BLOCK_VALUES = 2**20  # 4 MB of float32, for any number of channels
UNKNOWN_FRAMES = 2**63 - 1  # libsndfile's value for a length that the header does not declare
OPEN_LENGTH = 0x7FFF0000  # programs that write to a pipe declare this length or more, up to 0xFFFFFFFF
LENGTHS = re.compile(r"^\s*(?:data|Data Size|SSND|BODY|riff|Riff size)\s*: (\d+) \(should be (\d+)\)", re.MULTILINE)
REASONS = {7: "no MPEG frames", 24: "the header has no valid sample rate"}  # where libsndfile's message misleads
OGG_PAGE = 65_307  # bytes of the longest page
READ_AHEAD = 2**13
"""Size of the read buffer in bytes. libsndfile reads an MP3 in four small calls a frame."""


class ByteStream:
    """A binary file, from its current position to its end, with the methods that libsndfile's virtual I/O needs.

    It has no ``name`` attribute, so that libsndfile detects the format from the content. Exceptions cannot pass through
    libsndfile: the first one is stored, and :meth:`errors` raises it.

    Args:
        file: File to read from, starting at its current position.
        name: Name used in error messages.
    """

    def __init__(self, file: BinaryIO, name: str) -> None:
        self._file, self.title = file, name
        self._origin = file.tell()
        file.seek(0, os.SEEK_END)
        self.size = self.claimed_size = max(0, file.tell() - self._origin)
        self._patch: tuple[int, bytes] | None = None
        self._position = 0
        self._buffer, self._buffer_start = b"", 0
        self._failure: BaseException | None = None

    @property
    def is_read(self) -> bool:
        """Whether the position is in the last two percent of the file."""
        return self._position >= 0.98 * self.size

    def skip(self, count: int) -> None:
        """Move the start of the stream forward by ``count`` bytes."""
        self._origin += count
        self.size = self.claimed_size = self.size - count
        self._buffer = b""

    def replace(self, start: int, data: bytes) -> None:
        """Return ``data`` instead of the file's bytes from ``start`` on."""
        self._patch = (start, data)
        self._buffer = b""

    def tell(self) -> int:
        """Return the position in bytes."""
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> None:
        """Set the position. The end of the stream is at :attr:`claimed_size`."""
        end = self.size if offset else self.claimed_size
        self._position = max(0, offset + (0, self._position, end)[whence])

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer and return the number of bytes read."""
        at, count = self._position - self._buffer_start, len(buffer)
        if not 0 <= at <= at + count <= len(self._buffer):
            self._buffer, self._buffer_start = self.read(self._position, max(count, READ_AHEAD)), self._position
            at = 0
        data = self._buffer[at : at + count]
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)

    def read(self, start: int, count: int) -> bytes:
        """Return ``count`` bytes from ``start``, or fewer at the end of the file or if reading fails."""
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
        """Convert libsndfile's error, or the stored exception behind it, to :class:`AudioFileError`."""
        cause: soundfile.LibsndfileError | None = None
        try:
            yield
        except soundfile.LibsndfileError as error:
            cause = error
        if isinstance(self._failure, Exception):
            raise AudioFileError(f"{self.title}: reading failed ({self._failure!r}); try again.") from self._failure
        if self._failure is not None:  # KeyboardInterrupt and the like
            raise self._failure
        if cause is not None:
            reason = REASONS.get(cause.code, cause.error_string.strip("."))
            raise AudioFileError(f"{self.title}: {what} ({reason}).") from cause


class Decoder:
    """Decoder for one file.

    Args:
        source: The bytes of the file.

    Attributes:
        name: Name used in error messages.
        rate: Sample rate in hertz, from the header.
        channels: Number of channels, at least one.
        frames: Length in frames that the header declares, or ``None``.

    Raises:
        AudioFileError: The file is empty, truncated or in no supported format.
    """

    def __init__(self, source: ByteStream) -> None:
        self.name = name = source.title
        self._input = source
        if self._input.size == 0:
            raise AudioFileError(f"{name}: the file is empty (0 bytes from its position on); give an audio file.")
        with self._input.errors("contains no audio that can be decoded; convert it to WAV, AU, FLAC, OGG or MP3"):
            counted = prepare_mp3(self._input)
            self._stream = _Stream(self._input)
            if self._stream.frames == 0 and patch_length(self._input, self._stream.format):
                self._stream.close()
                self._input.seek(0)
                self._stream = _Stream(self._input)
        self.rate = whole_rate(self._stream.samplerate, name, kind=AudioFileError)
        self.channels: int = self._stream.channels
        known = counted if self._stream.format == "MP3" else self._stream.frames != UNKNOWN_FRAMES
        self.frames: int | None = self._stream.frames if known else None
        self._check_header()

    def close(self) -> None:
        """Close libsndfile's handle. The file object stays open."""
        self._stream.close()

    def _check_header(self) -> None:
        if self._stream.frames == 0:
            raise AudioFileError(f"{self.name}: has a header but no audio data; get the complete file.")
        for declared, present in LENGTHS.findall(self._stream.extra_info):
            if int(declared) < OPEN_LENGTH:
                frames: int = self._stream.frames
                self._check_length(frames, declared=frames * int(declared) // max(1, int(present)))
        with self._input.errors("cannot be read"):
            complete = self._stream.format != "OGG" or ends_ogg(self._input)
        if not complete:
            raise AudioFileError(
                f"{self.name}: is truncated: the last page of its OGG stream is missing; get the complete file, or use "
                "the part that exists after 'ffmpeg -i old.ogg -c copy new.ogg'."
            )

    def _check_length(self, frames: int, *, declared: int) -> None:
        # Encoders may miscount by a few MPEG frames, and players tolerate a damaged frame in the middle.
        share = 0.02 if self._stream.format == "MP3" else 0.0
        if declared - frames > max(0.1 * self.rate, share * declared):
            raise AudioFileError(
                f"{self.name}: is truncated: its header declares {declared / self.rate:.1f} s, but only "
                f"{frames / self.rate:.1f} s are present; get the complete file, or convert it to use the part that "
                "exists."
            )

    def _check_end(self, position: int) -> None:
        if self.frames is not None:
            self._check_length(position, declared=self.frames)
        elif self._stream.format == "MP3" and not self._input.is_read:
            raise AudioFileError(
                f"{self.name}: is damaged: its MPEG frames end at {position / self.rate:.1f} s, but more bytes follow; "
                "get the file again."
            )

    def parts(self, start: int = 0, stop: int | None = None) -> Iterator[Frames]:
        """Yield the frames from ``start`` to ``stop``, or to the end, in blocks.

        Shape:
            each block: ``(frames, channels)``

        Raises:
            AudioFileError: The data are damaged, or end before the declared length.
        """
        if start:
            with self._input.errors(f"has no frame {start} that can be found; get the file again"):
                self._stream.seek(start)
        # Reading beyond the last frame would report a tag behind a FLAC stream as a damaged frame.
        stop = min((end for end in (stop, self.frames) if end is not None), default=None)
        size, position = block_frames(self.rate, self.channels), start
        while stop is None or position < stop:
            part = self._read(size if stop is None else min(size, stop - position), position=position)
            if not len(part):
                self._check_end(position)
                return
            position += len(part)
            yield part

    def _read(self, count: int, *, position: int) -> Frames:
        what = f"is damaged or truncated at {position / self.rate:.1f} s or later; get the file again"
        if self._stream.format != "MP3":
            with self._input.errors(what):
                block: Frames = self._stream.read(count, "float32", always_2d=True)
            return block
        # mpg123 fails on tags behind the last frame and on half a frame, and does not report how much it has written.
        buffer = np.full((count, self.channels), np.nan, np.float32)
        try:
            with self._input.errors(what):
                return buffer[: self._stream.buffer_read_into(buffer, "float32")]
        except AudioFileError as error:
            if not (isinstance(error.__cause__, soundfile.LibsndfileError) and self._input.is_read):
                raise
        unwritten = np.isnan(buffer[:, -1])
        return buffer[: int(unwritten.argmax()) if unwritten.any() else count]


class _Stream(soundfile.SoundFile):  # type: ignore[misc]  # soundfile has no types
    """A sound file that is read sequentially: no seek after each read, no end at the header's estimated length."""

    def __init__(self, source: ByteStream) -> None:
        with no_fork():  # soundfile opens files under a global lock
            super().__init__(source)

    def seekable(self) -> bool:
        return False


def block_frames(rate: int, channels: int) -> int:
    """Return the number of frames in a block: ten seconds, or fewer for a large number of channels."""
    return max(1, min(BLOCK_SECONDS * rate, BLOCK_VALUES // channels))


def whole_rate(rate: Any, name: str, *, kind: type[MusgenreError]) -> int:
    """Return a sample rate as an ``int``; raise ``kind`` unless it is a whole number from 100 Hz to 1 MHz."""
    number = isinstance(rate, (int, float, np.integer, np.floating)) and not isinstance(rate, bool)
    if not (number and MIN_SAMPLE_RATE <= rate <= MAX_SAMPLE_RATE and rate == int(rate)):
        raise kind(f"{name}: a sample rate of {rate!r}; expected a whole number of hertz from 100 to 1,000,000.")
    return int(rate)


def prepare_mp3(source: ByteStream) -> bool:
    """Skip the tags of an MP3 and declare the size that its decoder needs; leave other files unchanged.

    Returns whether the first frame holds the number of frames (Xing's header). Without it, libsndfile estimates the
    length from the first frame and stops there; a size beyond any estimate makes it read to the end. With it, the size
    is the one in the header, since with any other mpg123 prints warnings to the terminal.
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
    """Replace a declared length of zero, as programs that write to a pipe leave it, by "until the end"."""
    at = {"AU": 8, "WAV": source.read(0, 4096).find(b"data\0\0\0\0") + 4}.get(kind, 0)
    if at > 4:
        source.replace(at, b"\xff\xff\xff\xff")
    return at > 4


def ends_ogg(source: ByteStream) -> bool:
    """Return whether the last page is complete and has the flag that ends its stream (RFC 3533, section 6)."""
    tail = source.read(max(0, source.size - OGG_PAGE), OGG_PAGE)
    at = tail.rfind(b"OggS\0")
    if at < 0:  # other data, longer than any page, follow
        return True
    page = tail[at:]
    if len(page) < 27:
        return False
    lengths = page[27 : 27 + page[26]]
    return len(page) >= 27 + page[26] + sum(lengths) and bool(page[5] & 4)
