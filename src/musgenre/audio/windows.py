"""From a file, a file object or samples to mono float32 at one rate: the only way in, and the only resampler.

libsndfile decodes (WAV, AU, FLAC, OGG, MP3 and more), soxr resamples; both block by block, so that memory does not
grow with the song. What is wrong with a file is an :class:`~musgenre.core.errors.AudioFileError`, what is wrong with
samples an :class:`~musgenre.core.errors.AudioError`. Nothing is cut short or repaired in silence.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Generator, Iterator
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import soxr

from musgenre.audio.decoder import whole_rate
from musgenre.audio.options import ReadOptions
from musgenre.audio.sources import AudioSource, opened
from musgenre.core.config import AudioSpec
from musgenre.core.errors import AudioError, ParameterError
from musgenre.core.threads import ahead as decoded_ahead

__all__ = ["AudioSource", "AudioWindows", "ReadOptions", "blocks", "duration_seconds", "load", "read_window", "tile"]

Samples: TypeAlias = npt.NDArray[np.float32]

SHORTEST_SECONDS = 0.1
"""Less audio than this is an error: no genre can be heard in it."""

LOUDEST = 1e10
"""A sample beyond this is damage, not sound; its power spectrum would overflow float32."""

FILTER_SAMPLES = 512
"""What :func:`read_window` reads on either side, at the lower of the two rates; soxr's filter is shorter."""


class AudioWindows:
    """The windows of a song, decoded as they are asked for.

    One starts every ``spec.hop_samples``; where these do not meet the end, one more ends with the last sample. Audio
    shorter than a window is repeated to fill it. At most one window and one block of ten seconds are held.

    Args:
        source: As for :func:`blocks`.
        spec: Rate and windows.
        ahead: Whether a thread of its own decodes the next two blocks while one is resampled and used.
        reading: How far a file is trusted; by default as :class:`~musgenre.audio.options.ReadOptions` has it.

    Attributes:
        duration_seconds: Seconds read so far; the length of the song once the iteration has ended.

    Example:
        >>> windows = AudioWindows((np.zeros(70), 100), AudioSpec(100, window_seconds=0.3, hop_seconds=0.3))
        >>> [start for start, window in windows], windows.duration_seconds
        ([0.0, 0.3, 0.4], 0.7)
    """

    def __init__(
        self, source: AudioSource, spec: AudioSpec, *, ahead: bool = False, reading: ReadOptions | None = None
    ) -> None:
        self.source = source
        self.spec = spec
        self.ahead = ahead
        self.reading = reading
        self.duration_seconds = 0.0

    def __iter__(self) -> Iterator[tuple[float, Samples]]:
        """Yields ``(start_seconds, window)``, each window its own copy.

        Shape:
            window: ``(spec.window_samples,)``

        Raises:
            AudioFileError: As for :func:`blocks`.
            AudioError: As for :func:`blocks`.
        """
        length, hop, rate = self.spec.window_samples, self.spec.hop_samples, self.spec.sample_rate
        start = end = 0
        tail = np.empty(0, np.float32)  # the samples up to ``end``
        with contextlib.closing(blocks(self.source, sample_rate=rate, ahead=self.ahead, reading=self.reading)) as parts:
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


def blocks(
    source: AudioSource, *, sample_rate: int, ahead: bool = False, reading: ReadOptions | None = None
) -> Generator[Samples, None, None]:
    """Yields a source block by block as mono at the rate wanted, with memory that does not grow with its length.

    The blocks joined equal the whole file's mean over channels, resampled by soxr at its high quality.

    Args:
        source: A path; a seekable binary file object, read from where it stands and left there; or ``(waveform,
            sample_rate)`` with floats (full scale is 1) or ``int8``, ``uint8``, ``int16`` or ``int32`` samples.
        sample_rate: The rate wanted, in hertz.
        ahead: Whether a thread of its own decodes the next two blocks while one is resampled and used.
        reading: How far a file is trusted; by default as :class:`~musgenre.audio.options.ReadOptions` has it.

    Shape:
        waveform: ``(samples,)`` or ``(channels, samples)``; an array, a CPU or GPU tensor, or nested lists
        each block: ``(any,)``

    Raises:
        AudioFileError: The file is missing, empty, cut short, beyond a limit, or in no format that can be decoded.
        AudioError: The source is of the wrong kind, shorter than 0.1 s, not finite, or has no channel or no valid rate.
        ParameterError: ``sample_rate`` is no whole number of hertz from 100 to 1,000,000.

    Example:
        >>> waveform = np.ones((2, 44_100), np.int16)
        >>> sum(block.size for block in blocks((waveform, 44_100), sample_rate=22_050))
        22050
    """
    wanted = whole_rate(sample_rate, "sample_rate", kind=ParameterError)
    with opened(source, reading) as song:
        parts = _mono(song.parts(), song.rate, name=song.name, shortest_seconds=SHORTEST_SECONDS)
        # Closed before the song is, so that no thread still decodes it.
        with contextlib.closing(decoded_ahead(parts) if ahead else parts) as ready:
            yield from _resampled(ready, song.rate, wanted=wanted)


def load(source: AudioSource, *, sample_rate: int, reading: ReadOptions | None = None) -> Samples:
    """Returns a whole source as mono at the rate wanted; arguments and errors are those of :func:`blocks`.

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
    """Returns a stretch of a file without decoding what comes before: what ``load`` gives, cut.

    Args:
        source: As for :func:`blocks`.
        start_seconds: Where the stretch starts, from 0 on; rounded to a sample.
        seconds: Its length; what lies beyond the end of the file is left out.
        sample_rate: The rate wanted, in hertz.
        reading: As for :func:`blocks`.

    Shape:
        returns: ``(round(seconds * sample_rate),)``, fewer at the end of the file

    Raises:
        AudioFileError: As for :func:`blocks`.
        AudioError: The file ends before the stretch starts, or as for :func:`blocks`.
        ParameterError: A time is negative or not finite, the stretch is empty, or the rate is not valid.
    """
    wanted = whole_rate(sample_rate, "sample_rate", kind=ParameterError)
    if not (0 <= start_seconds < math.inf and 0 < seconds < math.inf):
        raise ParameterError(f"start_seconds must be 0 or more, seconds positive, not {start_seconds!r}, {seconds!r}.")
    first, length = round(start_seconds * wanted), round(seconds * wanted)
    with opened(source, reading) as song:
        rate = song.rate
        # Reading starts where a sample of the file and one of the result coincide, so that the two grids agree.
        step = rate // math.gcd(rate, wanted)
        margin = math.ceil(FILTER_SAMPLES * rate / min(rate, wanted))
        start = max(0, (first * rate // wanted - margin) // step * step)
        stop = -(-(first + length) * rate // wanted) + margin
        if song.frames is None or start < song.frames:
            parts = _mono(song.parts(start, stop), rate, name=song.name, start=start)
            skip = first - start * wanted // rate
            window = np.concatenate([*_resampled(parts, rate, wanted=wanted), np.empty(0, np.float32)])
            window = window[skip : skip + length]
            if window.size:
                return window
    raise AudioError(f"{song.name}: ends before {start_seconds} s; let the stretch start earlier.")


def duration_seconds(source: AudioSource, *, reading: ReadOptions | None = None) -> float:
    """Returns the length of a file from its header alone, or by decoding it where the header leaves that open.

    Args:
        source: As for :func:`blocks`.
        reading: As for :func:`blocks`.

    Raises:
        AudioFileError: As for :func:`blocks`.
    """
    with opened(source, reading) as song:
        frames = song.frames
        return (sum(map(len, song.parts())) if frames is None else frames) / song.rate


def tile(waveform: Samples, samples: int) -> Samples:
    """Repeats a waveform to exactly ``samples`` samples; a longer one is cut.

    Shape:
        waveform: ``(any,)``, not empty
        returns: ``(samples,)``

    Raises:
        AudioError: ``waveform`` is empty or not of one dimension.
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


def _mono(
    parts: Iterator[npt.NDArray[Any]], rate: int, *, name: str, start: int = 0, shortest_seconds: float = 0.0
) -> Generator[Samples, None, None]:
    """Averages the channels, and checks that every sample is a finite number and that there are enough of them."""
    position = start
    for part in parts:
        with np.errstate(over="ignore", invalid="ignore"):  # the check below finds what overflows
            total = part[:, 0].astype(np.float32)  # a copy; summing by columns beats np.mean eightfold
            for channel in range(1, part.shape[1]):
                total += part[:, channel]
            total /= part.shape[1]
        if not (total.min(initial=0) >= -LOUDEST and total.max(initial=0) <= LOUDEST):  # also where one is no number
            bad = np.flatnonzero(~(np.abs(total) <= LOUDEST))
            at = position + int(bad[0])
            raise AudioError(
                f"{name}: the sample at {at / rate:.3f} s (index {at}) is {total[bad[0]]}; expected finite numbers "
                "with full scale at 1. Repair the recording or leave it out."
            )
        position += total.size
        yield total
    if position - start < shortest_seconds * rate:
        length = (position - start) / rate
        raise AudioError(f"{name}: lasts {length:.3f} s; give at least {shortest_seconds} s of audio.")


def _resampled(parts: Iterator[Samples], rate: int, *, wanted: int) -> Iterator[Samples]:
    if rate == wanted:
        yield from parts
        return
    stream = soxr.ResampleStream(rate, wanted, 1, dtype="float32")
    for part in parts:
        if (block := stream.resample_chunk(part)).size:
            yield block
    if (block := stream.resample_chunk(np.empty(0, np.float32), last=True)).size:
        yield block
