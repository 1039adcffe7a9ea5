"""Read a file, a file object or samples as mono float32 windows at one sample rate.

This is the only reader and the only resampler. libsndfile decodes (WAV, AU, FLAC, OGG, MP3 and more) and soxr
resamples, both block by block, so that memory does not grow with the length of a file. Damaged files raise
:class:`~musgenre.core.errors.AudioFileError`, invalid samples :class:`~musgenre.core.errors.AudioError`. Nothing is
truncated or repaired silently.
"""

from __future__ import annotations

import contextlib
import io
import math
import os
from collections.abc import Callable, Generator, Iterator
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt
import soxr

from musgenre.audio.decoder import ByteStream, Decoder, Frames, block_frames, whole_rate
from musgenre.audio.options import ReadOptions
from musgenre.core.config import AudioSpec
from musgenre.core.errors import AudioError, AudioFileError, ParameterError

if TYPE_CHECKING:
    from musgenre.audio.subprocess_decoder import SubprocessDecoder

T = TypeVar("T")
Samples: TypeAlias = npt.NDArray[np.float32]
AudioSource: TypeAlias = str | os.PathLike[str] | BinaryIO | tuple[Any, int]
"""A path, a seekable binary file object, or ``(waveform, sample_rate)``."""

SHORTEST_SECONDS = 0.1
"""Minimum length of a recording, in seconds."""

LOUDEST = 1e10
"""Maximum magnitude of a sample. The power spectrum of a larger one would overflow float32."""

FILTER_SAMPLES = 512
"""Context that :func:`read_window` reads on either side, at the lower of the two rates; soxr's filter is shorter."""

INTEGERS = {("i", 1), ("u", 1), ("i", 2), ("i", 4)}
"""Kind and size in bytes of the integer sample types that have a full scale."""

_DEFAULTS = ReadOptions()


class AudioWindows:
    """Windows of a recording, decoded on demand.

    A window starts every ``spec.hop_samples``; if these do not reach the end, one more window ends with the last
    sample. A recording shorter than a window is repeated to fill it. At most one window and one block of ten seconds
    are in memory.

    Args:
        source: As for :func:`blocks`.
        spec: Sample rate, window and hop.
        reading: Limits and decoder for files; by default those of :class:`~musgenre.audio.options.ReadOptions`.

    Attributes:
        duration_seconds: Seconds read so far; the length of the recording after the iteration.

    Example:
        >>> windows = AudioWindows((np.zeros(70), 100), AudioSpec(100, window_seconds=0.3, hop_seconds=0.3))
        >>> [start for start, window in windows], windows.duration_seconds
        ([0.0, 0.3, 0.4], 0.7)
    """

    def __init__(self, source: AudioSource, spec: AudioSpec, *, reading: ReadOptions | None = None) -> None:
        self.source = source
        self.spec = spec
        self.reading = reading
        self.duration_seconds = 0.0

    def __iter__(self) -> ClosingIterator[tuple[float, Samples]]:
        """Yield ``(start_seconds, window)``; each window is a copy.

        Shape:
            window: ``(spec.window_samples,)``

        Raises:
            AudioFileError: As for :func:`blocks`.
            AudioError: As for :func:`blocks`.
        """
        parts = blocks(self.source, sample_rate=self.spec.sample_rate, reading=self.reading)
        return ClosingIterator(self._cut(parts), close=parts.close)

    def _cut(self, parts: Iterator[Samples]) -> Iterator[tuple[float, Samples]]:
        length, hop, rate = self.spec.window_samples, self.spec.hop_samples, self.spec.sample_rate
        start = end = 0
        tail = np.empty(0, np.float32)  # the samples up to ``end``
        for part in parts:
            tail = np.concatenate((tail[-length:], part))
            end += part.size
            self.duration_seconds = end / rate
            while start + length <= end:
                first = start - end + tail.size
                yield start / rate, tail[first : first + length].copy()
                start += hop
        if end < length:
            yield 0.0, tile(tail, length)
        elif start - hop + length < end:
            yield (end - length) / rate, tail[-length:].copy()


def blocks(source: AudioSource, *, sample_rate: int, reading: ReadOptions | None = None) -> ClosingIterator[Samples]:
    """Read a source as mono blocks at a given sample rate, in bounded memory.

    The concatenated blocks equal the mean of the channels of the entire file, resampled by soxr at its high quality.

    Args:
        source: A path; a seekable binary file object, which is read from its current position and left there; or
            ``(waveform, sample_rate)`` with floats (full scale is 1) or ``int8``, ``uint8``, ``int16`` or ``int32``
            samples.
        sample_rate: Sample rate of the blocks, in hertz.
        reading: Limits and decoder for files; by default those of :class:`~musgenre.audio.options.ReadOptions`.

    Returns:
        An iterator over the blocks with a method ``close()``. It closes the file, and restores a file object's
        position, at the end, after an error and in ``close()``. An iterator that is dropped earlier closes the file
        only.

    Shape:
        waveform: ``(samples,)`` or ``(channels, samples)``; an array, a CPU or GPU tensor, or nested lists
        each block: ``(any,)``

    Raises:
        AudioFileError: The file is missing, empty, truncated, beyond a limit, or in no supported format.
        AudioError: The source has the wrong type, is shorter than 0.1 s, not finite, or has no channel or valid rate.
        ParameterError: ``sample_rate`` is not a whole number of hertz from 100 to 1,000,000.

    Example:
        >>> waveform = np.ones((2, 44_100), np.int16)
        >>> sum(block.size for block in blocks((waveform, 44_100), sample_rate=22_050))
        22050
    """
    target = whole_rate(sample_rate, "sample_rate", kind=ParameterError)
    audio = open_audio(source, reading)
    parts = _mono(audio.parts(), audio.rate, name=audio.name, shortest_seconds=SHORTEST_SECONDS)
    return ClosingIterator(_resampled(parts, audio.rate, target=target), close=audio.close)


class ClosingIterator(Iterator[T]):
    """An iterator that closes its source at its end, after an error and in :meth:`close`.

    Unlike a generator with a ``finally`` block, it runs no code when it is garbage-collected, which may happen in any
    thread and at any time. The operating system's file is then closed by its own finaliser.

    Args:
        items: Items to iterate over. The iterator must own no resource itself.
        close: Function that closes the source; called at most once.
    """

    def __init__(self, items: Iterator[T], *, close: Callable[[], None]) -> None:
        self._items = items
        self._close: Callable[[], None] | None = close

    def __next__(self) -> T:
        """Return the next item.

        Raises:
            StopIteration: There are no more items, or the iterator is closed.
        """
        if self._close is None:
            raise StopIteration
        try:
            return next(self._items)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the source. Closing twice has no effect."""
        close, self._close = self._close, None
        if close is not None:
            close()


def load(source: AudioSource, *, sample_rate: int, reading: ReadOptions | None = None) -> Samples:
    """Read an entire source as mono at a given sample rate; arguments and errors are those of :func:`blocks`.

    Shape:
        returns: ``(samples,)``

    Example:
        >>> load(([[0.5] * 800, [-0.5] * 800], 8_000), sample_rate=8_000).max()
        np.float32(0.0)
    """
    return np.concatenate(list(blocks(source, sample_rate=sample_rate, reading=reading)))


def read_window(
    source: AudioSource,
    *,
    start_seconds: float,
    seconds: float,
    sample_rate: int,
    reading: ReadOptions | None = None,
) -> Samples:
    """Read one section of a file by seeking: equal to the same section of :func:`load`.

    Args:
        source: As for :func:`blocks`.
        start_seconds: Start of the section, at least 0; rounded to a sample.
        seconds: Length of the section; the part beyond the end of the file is omitted.
        sample_rate: Sample rate of the result, in hertz.
        reading: As for :func:`blocks`.

    Shape:
        returns: ``(round(seconds * sample_rate),)``, fewer at the end of the file

    Raises:
        AudioFileError: As for :func:`blocks`.
        AudioError: The file ends before the section starts, or as for :func:`blocks`.
        ParameterError: A time is negative or not finite, the section is empty, or the rate is not valid.
    """
    target = whole_rate(sample_rate, "sample_rate", kind=ParameterError)
    if not (0 <= start_seconds < math.inf and 0 < seconds < math.inf):
        raise ParameterError(f"start_seconds must be 0 or more, seconds positive, not {start_seconds!r}, {seconds!r}.")
    first, length = round(start_seconds * target), round(seconds * target)
    with contextlib.closing(open_audio(source, reading)) as audio:
        rate = audio.rate
        # Reading starts where a sample of the file and one of the result coincide, so that the two grids agree.
        step = rate // math.gcd(rate, target)
        margin = math.ceil(FILTER_SAMPLES * rate / min(rate, target))
        start = max(0, (first * rate // target - margin) // step * step)
        stop = -(-(first + length) * rate // target) + margin
        if audio.frames is None or start < audio.frames:
            parts = _mono(audio.parts(start, stop), rate, name=audio.name, start=start)
            skip = first - start * target // rate
            window = np.concatenate([*_resampled(parts, rate, target=target), np.empty(0, np.float32)])
            window = window[skip : skip + length]
            if window.size:
                return window
    raise AudioError(f"{audio.name}: ends before {start_seconds} s; use an earlier start.")


def duration_seconds(source: AudioSource, *, reading: ReadOptions | None = None) -> float:
    """Return the length of a file from its header, or by decoding it if the header does not declare a length.

    Args:
        source: As for :func:`blocks`.
        reading: As for :func:`blocks`.

    Raises:
        AudioFileError: As for :func:`blocks`.
    """
    with contextlib.closing(open_audio(source, reading)) as audio:
        frames = audio.frames
        return (sum(map(len, audio.parts())) if frames is None else frames) / audio.rate


def tile(waveform: Samples, samples: int) -> Samples:
    """Repeat a waveform to exactly ``samples`` samples; a longer one is truncated.

    Shape:
        waveform: ``(any,)``, not empty
        returns: ``(samples,)``

    Raises:
        AudioError: ``waveform`` is empty or not one-dimensional.
        ParameterError: ``samples`` is below one.

    Example:
        >>> tile(np.float32([1, 2, 3]), 5)
        array([1., 2., 3., 1., 2.], dtype=float32)
    """
    if waveform.ndim != 1 or waveform.size == 0:
        raise AudioError(f"A waveform of shape {waveform.shape} cannot be repeated; give (samples,), not empty.")
    if samples < 1:
        raise ParameterError(f"samples must be at least 1, not {samples!r}.")
    return np.resize(waveform, samples)


class AudioInput(Protocol):
    """An open source.

    Attributes:
        name: Name used in error messages.
        rate: Sample rate in hertz.
        frames: Length in frames, or ``None`` if only decoding can tell.
    """

    name: str
    rate: int
    frames: int | None

    def parts(self, start: int = 0, stop: int | None = None) -> Iterator[Frames]:
        """Yield the frames from ``start`` to ``stop``, or to the end, in blocks ``(frames, channels)``."""

    def close(self) -> None:
        """Close the source."""


def open_audio(source: AudioSource, reading: ReadOptions | None = None) -> AudioInput:
    """Open a source; a file object is read from its current position.

    Args:
        source: The source.
        reading: Limits and decoder for files; samples in memory are not limited.

    Raises:
        AudioFileError: The file does not exist, is empty, truncated, beyond a limit or in no supported format.
        AudioError: The source has the wrong type, or its samples cannot be used.
    """
    return _Waveform(source) if isinstance(source, tuple) else _open_file(source, reading or _DEFAULTS)


def _open_file(source: Any, reading: ReadOptions) -> AudioInput:
    with contextlib.ExitStack() as stack:
        if isinstance(source, (str, bytes, os.PathLike)):
            name = os.fsdecode(source)
            file = stack.enter_context(_open_path(name))
        else:
            name, file = _check_file_object(source)
            stack.callback(_restore_position, file, file.tell())
        stream = ByteStream(file, name)
        _check_limits(reading, name, size=stream.size)
        decoder = reading.processes.open(stream) if reading.decode == "subprocess" else Decoder(stream)
        stack.callback(decoder.close)
        _check_limits(reading, name, channels=decoder.channels, seconds=(decoder.frames or 0) / decoder.rate)
        return _AudioFile(decoder, reading, close=stack.pop_all().close)


class _AudioFile:
    """An open file of limited length."""

    def __init__(
        self, decoder: Decoder | SubprocessDecoder, reading: ReadOptions, *, close: Callable[[], None]
    ) -> None:
        self.name, self.rate, self.frames = decoder.name, decoder.rate, decoder.frames
        self.close = close
        self._decoder = decoder
        self._reading = reading

    def parts(self, start: int = 0, stop: int | None = None) -> Iterator[Frames]:
        position = start
        for part in self._decoder.parts(start, stop):
            position += len(part)
            _check_limits(self._reading, self.name, seconds=position / self.rate)
            yield part


class _Waveform:
    """Samples in memory, with the interface of an open file."""

    name = "waveform"

    def __init__(self, source: tuple[Any, ...]) -> None:
        if len(source) != 2:
            raise AudioError(f"Expected (waveform, sample_rate), got a tuple of {len(source)}.")
        self.rate = whole_rate(source[1], "(waveform, sample_rate)", kind=AudioError)
        self._waveform = _as_channels(source[0])
        self.frames: int | None = self._waveform.shape[1]

    def parts(self, start: int = 0, stop: int | None = None) -> Iterator[Frames]:
        channels, samples = self._waveform.shape
        size, stop = block_frames(self.rate, channels), samples if stop is None else min(stop, samples)
        for at in range(start, stop, size):
            yield _scaled(self._waveform[:, at : min(at + size, stop)].T)

    def close(self) -> None:
        pass


def _check_limits(reading: ReadOptions, name: str, *, size: int = 0, channels: int = 0, seconds: float = 0.0) -> None:
    for unit, value, limit in (
        ("bytes", size, "max_bytes"),
        ("channels", channels, "max_channels"),
        ("seconds", round(seconds, 1), "max_duration_seconds"),
    ):
        most = getattr(reading, limit)
        if value > most:
            raise AudioFileError(
                f"{name}: {value} {unit}, but the limit is {most}. Raise {limit} of ReadOptions if you trust the file."
            )


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


def _check_file_object(source: Any) -> tuple[str, BinaryIO]:
    """Return the name of a file object, and the object."""
    kind = type(source).__name__
    if isinstance(source, io.TextIOBase) or not all(hasattr(source, word) for word in ("read", "seek", "tell")):
        raise AudioError(
            f"Audio cannot be read from an object of type {kind}; give a path, a file opened with mode 'rb', or "
            "(waveform, sample_rate)."
        )
    name = source.name if isinstance(getattr(source, "name", None), str) else f"<{kind}>"
    try:
        source.seek(source.tell())
    except (OSError, ValueError) as error:  # ValueError: the file is closed
        raise AudioFileError(f"{name}: cannot seek ({error}); read it into an io.BytesIO first.") from error
    return name, source


def _restore_position(file: BinaryIO, start: int) -> None:
    # A file object that cannot seek has already raised an error when it was opened or read.
    with contextlib.suppress(OSError, ValueError):
        file.seek(start)


def _as_channels(waveform: Any) -> npt.NDArray[Any]:
    """Validate samples from a caller, and return them as ``(channels, samples)``."""
    try:
        if hasattr(waveform, "detach"):  # a tensor, perhaps on a device or with a gradient
            waveform = waveform.detach().cpu()
        array = np.asarray(waveform)
    except (TypeError, ValueError, RuntimeError) as error:
        raise AudioError(f"waveform: {type(waveform).__name__} cannot be converted to an array ({error}).") from error
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
    """Scale integers to [-1, 1); the zero of ``uint8`` is 128, as in WAV files."""
    if block.dtype.kind == "f":
        return block
    if block.dtype == np.uint8:
        return (block.astype(np.float32) - 128) / 128
    return block.astype(np.float32) / -float(np.iinfo(block.dtype).min)


def _mono(
    parts: Iterator[npt.NDArray[Any]], rate: int, *, name: str, start: int = 0, shortest_seconds: float = 0.0
) -> Generator[Samples, None, None]:
    """Average the channels, and check that all samples are finite and that there are enough of them."""
    position = start
    for part in parts:
        with np.errstate(over="ignore", invalid="ignore"):  # the check below finds overflow
            total = part[:, 0].astype(np.float32)  # a copy; summing by columns is eight times as fast as np.mean
            for channel in range(1, part.shape[1]):
                total += part[:, channel]
            total /= part.shape[1]
        if not (total.min(initial=0) >= -LOUDEST and total.max(initial=0) <= LOUDEST):  # also true for NaN
            bad = np.flatnonzero(~(np.abs(total) <= LOUDEST))
            at = position + int(bad[0])
            raise AudioError(
                f"{name}: the sample at {at / rate:.3f} s (index {at}) is {total[bad[0]]}; expected finite numbers "
                "with full scale at 1. Repair the recording or omit it."
            )
        position += total.size
        yield total
    if position - start < shortest_seconds * rate:
        length = (position - start) / rate
        raise AudioError(f"{name}: lasts {length:.3f} s; at least {shortest_seconds} s of audio are needed.")


def _resampled(parts: Iterator[Samples], rate: int, *, target: int) -> Iterator[Samples]:
    if rate == target:
        yield from parts
        return
    stream = soxr.ResampleStream(rate, target, 1, dtype="float32")
    for part in parts:
        if (block := stream.resample_chunk(part)).size:
            yield block
    if (block := stream.resample_chunk(np.empty(0, np.float32), last=True)).size:
        yield block
