"""What audio comes from: files through libsndfile, and samples in memory; :mod:`musgenre.audio` makes mono of them."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterator
from typing import Any, BinaryIO, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from musgenre.audio.byte_stream import ByteStream
from musgenre.audio.decoder import Decoder, Frames, block_frames, whole_rate
from musgenre.audio.options import ReadOptions
from musgenre.core.errors import AudioError, AudioFileError

AudioSource: TypeAlias = str | os.PathLike[str] | BinaryIO | tuple[Any, int]
"""A path, a seekable binary file object, or ``(waveform, sample_rate)``."""

INTEGERS = {("i", 1), ("u", 1), ("i", 2), ("i", 4)}  # kinds and bytes of the samples that have a full scale


class Audio(Protocol):
    """What every opened source is.

    Attributes:
        name: What messages call it.
        rate: Frames a second.
        frames: How many there are, or ``None`` where only reading tells.
    """

    name: str
    rate: int
    frames: int | None

    def parts(self, start: int = 0, stop: int | None = None) -> Iterator[Frames]:
        """Yields the frames from ``start`` to ``stop``, or to the end, in blocks ``(frames, channels)``."""


@contextlib.contextmanager
def opened(source: AudioSource, reading: ReadOptions | None = None) -> Iterator[Audio]:
    """Opens a source; a file object is read from where it stands, and left there and open.

    Args:
        source: The source.
        reading: How far a file is trusted; what is in memory is taken as it is.

    Raises:
        AudioFileError: There is no such file, or it is empty, cut short, beyond a limit or in no format that can be
            decoded.
        AudioError: The source is of the wrong kind, or its samples cannot be used.
    """
    if isinstance(source, tuple):
        yield Waveform(source)
        return
    reading = reading or ReadOptions()
    with _stream(source) as stream:
        reading.check(stream.title, size=stream.size)
        isolated = reading.decode == "subprocess"
        with contextlib.closing(reading.processes.open(stream) if isolated else Decoder(stream)) as decoder:
            yield _Limited(decoder, reading)


class _Limited:
    """A decoder whose file is an error as soon as it turns out to be longer or wider than is allowed."""

    def __init__(self, decoder: Any, reading: ReadOptions) -> None:
        self.name, self.rate, self.frames = decoder.name, decoder.rate, decoder.frames
        self._decoder = decoder
        self._reading = reading
        reading.check(self.name, channels=decoder.channels, seconds=(self.frames or 0) / self.rate)

    def parts(self, start: int = 0, stop: int | None = None) -> Iterator[Frames]:
        position = start
        for part in self._decoder.parts(start, stop):
            position += len(part)
            self._reading.check(self.name, seconds=position / self.rate)
            yield part


@contextlib.contextmanager
def _stream(source: Any) -> Iterator[ByteStream]:
    if isinstance(source, (str, bytes, os.PathLike)):
        path = os.fsdecode(source)
        with _open_path(path) as file:
            yield ByteStream(file, path)
        return
    kind = type(source).__name__
    if isinstance(source, io.TextIOBase) or not all(hasattr(source, word) for word in ("read", "seek", "tell")):
        raise AudioError(
            f"Audio cannot be read from an object of type {kind}; give a path, a file opened with mode 'rb', or "
            "(waveform, sample_rate)."
        )
    name = source.name if isinstance(getattr(source, "name", None), str) else f"<{kind}>"
    try:
        start = source.tell()
        source.seek(start)
    except (OSError, ValueError) as error:  # ValueError: the file is closed
        raise AudioFileError(f"{name}: cannot seek ({error}); read it into an io.BytesIO first.") from error
    try:
        yield ByteStream(source, name)
    finally:
        # A courtesy to the caller; where it is impossible, reading has failed before and said so.
        with contextlib.suppress(OSError, ValueError):
            source.seek(start)


def _open_path(path: str) -> BinaryIO:
    if os.path.isdir(path):
        raise AudioFileError(f"{path}: is a directory; give the path of one audio file.")
    if os.path.exists(path) and not os.path.isfile(path):
        raise AudioFileError(f"{path}: is a pipe or a device; read it into an io.BytesIO, or write it to a file first.")
    try:
        return open(path, "rb")
    except FileNotFoundError as error:
        raise AudioFileError(f"{path}: there is no such file; check the path.") from error
    except (OSError, ValueError) as error:  # ValueError: a null character in the path
        raise AudioFileError(f"{path!r}: cannot be opened ({error}); check the path and its permissions.") from error


class Waveform:
    """Samples in memory, with a :class:`Decoder`'s attributes."""

    def __init__(self, source: tuple[Any, ...]) -> None:
        if len(source) != 2:
            raise AudioError(f"Expected (waveform, sample_rate), got a tuple of {len(source)}.")
        self.name = "waveform"
        self.rate = whole_rate(source[1], "(waveform, sample_rate)", kind=AudioError)
        self._waveform = _channels(source[0])
        self.frames: int | None = self._waveform.shape[1]

    def parts(self, start: int = 0, stop: int | None = None) -> Iterator[Frames]:
        """Yields the samples from ``start`` to ``stop``, or to the end, in blocks ``(samples, channels)``."""
        channels, samples = self._waveform.shape
        size, stop = block_frames(self.rate, channels), samples if stop is None else min(stop, samples)
        for at in range(start, stop, size):
            yield _scaled(self._waveform[:, at : min(at + size, stop)].T)


def _channels(waveform: Any) -> npt.NDArray[Any]:
    """Checks samples that a caller gave, and returns them as ``(channels, samples)``."""
    try:
        if hasattr(waveform, "detach"):  # a tensor, perhaps on a device or with a gradient
            waveform = waveform.detach().cpu()
        array = np.asarray(waveform)
    except (TypeError, ValueError, RuntimeError) as error:
        raise AudioError(f"waveform: no array can be made of {type(waveform).__name__} ({error}).") from error
    if array.dtype.kind != "f" and (array.dtype.kind, array.dtype.itemsize) not in INTEGERS:
        raise AudioError(
            f"waveform: samples of type {array.dtype}; give floats from -1 to 1, or int8, uint8, int16 or int32."
        )
    if array.ndim not in (1, 2) or array.size == 0:
        raise AudioError(f"waveform: shape {array.shape}; expected (samples,) or (channels, samples), not empty.")
    array = np.atleast_2d(array)
    if array.shape[0] > array.shape[1]:
        raise AudioError(
            f"waveform: shape {array.shape} has more channels than samples; give waveform.T, of shape "
            "(channels, samples)."
        )
    return array


def _scaled(block: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Brings integers to [-1, 1); ``uint8`` has its zero at 128, as in WAV files."""
    if block.dtype.kind == "f":
        return block
    if block.dtype == np.uint8:
        return (block.astype(np.float32) - 128) / 128
    return block.astype(np.float32) / -float(np.iinfo(block.dtype).min)
