"""A file that is decoded by libsndfile, and what libsndfile would keep to itself.

It fills in silently what a file lacks. Here a file that holds less than its header promises is an
:class:`~musgenre.core.errors.AudioFileError`, and a stream whose header leaves the length open is read to its end.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import soundfile

from musgenre.audio.byte_stream import ByteStream, ends_ogg, patch_length, prepare_mp3
from musgenre.core.config import MAX_SAMPLE_RATE, MIN_SAMPLE_RATE
from musgenre.core.errors import AudioFileError, MusgenreError

Frames: TypeAlias = npt.NDArray[np.floating[Any]]

BLOCK_SECONDS = 10
BLOCK_VALUES = 2**20  # 4 MB of float32, however many channels there are
UNKNOWN_FRAMES = 2**63 - 1  # libsndfile's word for a length that the header leaves open
OPEN_LENGTH = 0x7FFF0000  # writers to a pipe put this or more for "until the end", up to 0xFFFFFFFF
LENGTHS = re.compile(r"^\s*(?:data|Data Size|SSND|BODY|riff|Riff size)\s*: (\d+) \(should be (\d+)\)", re.MULTILINE)


def block_frames(rate: int, channels: int) -> int:
    """Returns how many frames make one block: ten seconds, or fewer where there are very many channels."""
    return max(1, min(BLOCK_SECONDS * rate, BLOCK_VALUES // channels))


class Decoder:
    """A file that is being decoded.

    Args:
        source: Its bytes.

    Attributes:
        name: What messages call it.
        rate: Frames a second, as the header has it.
        channels: Their number, at least one.
        frames: The length that the header promises, or ``None`` where it leaves that open.
    """

    def __init__(self, source: ByteStream) -> None:
        self.name = name = source.title
        self._input = source
        if self._input.size == 0:
            raise AudioFileError(f"{name}: holds nothing to read (0 bytes from its position on); give an audio file.")
        with self._input.errors("holds no audio that can be decoded; convert it to WAV, AU, FLAC, OGG or MP3"):
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
        """Lets go of libsndfile's handle; the file itself stays open."""
        self._stream.close()

    def _check_header(self) -> None:
        if self._stream.frames == 0:
            raise AudioFileError(f"{self.name}: has a header, but no audio behind it; get the whole file.")
        for promised, present in LENGTHS.findall(self._stream.extra_info):
            if int(promised) < OPEN_LENGTH:
                frames: int = self._stream.frames
                self._check_length(frames, promised=frames * int(promised) // max(1, int(present)))
        with self._input.errors("cannot be read"):
            complete = self._stream.format != "OGG" or ends_ogg(self._input)
        if not complete:
            raise AudioFileError(
                f"{self.name}: cut short: the last page of its OGG stream is missing; get the whole file, or close it "
                "with 'ffmpeg -i old.ogg -c copy new.ogg' to use what there is."
            )

    def _check_length(self, frames: int, *, promised: int) -> None:
        # Encoders' counts may be off by a few frames of MPEG, and some players cope with a broken one in the middle.
        share = 0.02 if self._stream.format == "MP3" else 0.0
        if promised - frames > max(0.1 * self.rate, share * promised):
            raise AudioFileError(
                f"{self.name}: cut short: its header promises {promised / self.rate:.1f} s, but only "
                f"{frames / self.rate:.1f} s are there; get the whole file, or convert it anew to use what there is."
            )

    def _check_end(self, position: int) -> None:
        if self.frames is not None:
            self._check_length(position, promised=self.frames)
        elif self._stream.format == "MP3" and not self._input.is_read:
            raise AudioFileError(
                f"{self.name}: is damaged: its MPEG frames end at {position / self.rate:.1f} s, but more bytes follow; "
                "get the file anew."
            )

    def parts(self, start: int = 0, stop: int | None = None) -> Iterator[Frames]:
        """Yields the frames from ``start`` to ``stop``, or to the end, in blocks.

        Shape:
            each block: ``(frames, channels)``

        Raises:
            AudioFileError: The data are damaged, or end before the promised length.
        """
        if start:
            with self._input.errors(f"has no frame {start} that can be found; get the file anew"):
                self._stream.seek(start)
        # Asking for more than there is would take a tag behind a FLAC for a damaged frame.
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
        what = f"is damaged or cut short, somewhere from {position / self.rate:.1f} s on; get the file anew"
        if self._stream.format != "MP3":
            with self._input.errors(what):
                block: Frames = self._stream.read(count, "float32", always_2d=True)
            return block
        # mpg123 fails on tags behind the last frame and on half a frame, and then does not say how much it has written.
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
    """A sound file that is read in order: no seek after each read, no end where the header's estimate says so."""

    def seekable(self) -> bool:
        return False


def whole_rate(rate: Any, name: str, *, kind: type[MusgenreError]) -> int:
    """Returns a rate from 100 Hz to 1 MHz as an ``int``; anything else is an error of the given kind."""
    number = isinstance(rate, (int, float, np.integer, np.floating)) and not isinstance(rate, bool)
    if not (number and MIN_SAMPLE_RATE <= rate <= MAX_SAMPLE_RATE and rate == int(rate)):
        raise kind(f"{name}: a sample rate of {rate!r}; expected a whole number of hertz from 100 to 1,000,000.")
    return int(rate)
