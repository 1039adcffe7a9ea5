"""One number, or a few, for how the spectrum of each frame is shaped."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from musgenre.core.errors import ParameterError
from musgenre.functional.checks import check_positive, is_power
from musgenre.functional.levels import to_decibel
from musgenre.functional.spectrum import check_waveform, frame

_MOST_OCTAVES = 30

_ZERO = 1e-10
"""Samples up to this far from 0 count as 0, and as positive."""


def to_magnitude(power: Tensor) -> Tensor:
    """Returns the square root of power, with a gradient that is 0 and not infinite in silence.

    Args:
        power: Power, not negative.

    Shape:
        ``(...)``, unchanged.

    Example:
        >>> to_magnitude(torch.tensor([0.0, 4.0]))
        tensor([0., 2.])
    """
    tiny = torch.finfo(power.dtype).tiny
    return power.clamp(min=tiny).sqrt().masked_fill(power < tiny, 0.0)


def contrast_bands(
    *, sample_rate: int, n_fft: int = 2048, f_min_hz: float = 200.0, n_bands: int = 6, quantile: float = 0.02
) -> tuple[tuple[slice, int], ...]:
    """Returns the bins of each band of the spectral contrast, and how many of them make a peak or a valley.

    Args:
        sample_rate: Rate of the audio, in hertz.
        n_fft: Length of the Fourier transform, in samples.
        f_min_hz: Where the first band ends; each of the others is an octave, but the last, which goes up to the end.
        n_bands: How many bands follow the first.
        quantile: Share of a band's bins that make its peak, and its valley, in (0, 1).

    Raises:
        ParameterError: A value is out of range, a band begins beyond half the sample rate, or one has too few bins.

    Example:
        >>> contrast_bands(sample_rate=8000, n_fft=256, n_bands=2)
        ((slice(0, 6, None), 1), (slice(6, 12, None), 1), (slice(12, 129, None), 2))
    """
    check_positive(sample_rate=sample_rate, n_fft=n_fft, n_bands=n_bands)
    if not (is_power(f_min_hz) and 0 < quantile < 1 and n_bands <= _MOST_OCTAVES):
        raise ParameterError(
            f"Need f_min_hz > 0, 0 < quantile < 1 and n_bands of at most {_MOST_OCTAVES}, not {f_min_hz!r}, "
            f"{quantile!r} and {n_bands!r}."
        )
    edges = [0.0, *(f_min_hz * 2.0**octave for octave in range(n_bands + 1))]
    if edges[-2] >= sample_rate / 2:
        raise ParameterError(
            f"The last of {n_bands} octaves from f_min_hz={f_min_hz:g} on begins at {edges[-2]:g} Hz, but half the "
            f"sample rate is {sample_rate / 2:g} Hz: take fewer bands (n_bands), or a lower f_min_hz."
        )
    hertz = np.fft.rfftfreq(n_fft, 1 / sample_rate)
    bands = []
    for number, (low, high) in enumerate(pairwise(edges)):
        inside = np.flatnonzero((hertz >= low) & (hertz <= high))
        last = number == n_bands
        # librosa's rule: each band begins a bin early and, but for the last one, ends a bin early.
        start = int(inside[0]) - (number > 0) if inside.size else 0
        stop = len(hertz) if last else int(inside[-1]) if inside.size else 0
        if stop <= start:
            raise ParameterError(
                f"No bin of n_fft={n_fft} lies in the band from {low:g} to {high:g} Hz: take a longer transform."
            )
        bands.append((slice(start, stop), max(1, round(quantile * (stop - start + (not last))))))
    return tuple(bands)


def spectral_contrast(magnitude: Tensor, *, bands: Sequence[tuple[slice, int]]) -> Tensor:
    """Returns how far the peaks of each band stand above its valleys, as ``librosa.feature.spectral_contrast`` does.

    Jiang et al., "Music type classification by spectral contrast feature", 2002. As in librosa, magnitudes are taken to
    decibels as if they were power. Each example has a floor of its own, 80 dB below its highest peak and valley.

    Args:
        magnitude: Magnitude by frequency, not negative.
        bands: From :func:`contrast_bands`.

    Shape:
        ``(..., bins, frames)`` to ``(..., n_bands + 1, frames)``, in decibels.
    """
    peaks, valleys = [], []
    for bins, count in bands:
        ordered = magnitude[..., bins, :].sort(dim=-2).values
        valleys.append(ordered[..., :count, :].mean(dim=-2))
        peaks.append(ordered[..., -count:, :].mean(dim=-2))
    return to_decibel(torch.stack(peaks, dim=-2)) - to_decibel(torch.stack(valleys, dim=-2))


def spectral_centroid(magnitude: Tensor, *, sample_rate: int) -> Tensor:
    """Returns the mean frequency of each frame, in hertz, as ``librosa.feature.spectral_centroid`` does.

    Args:
        magnitude: Magnitude by frequency, from 0 Hz to half the rate.
        sample_rate: Rate of the audio, in hertz.

    Shape:
        ``(..., bins, frames)`` to ``(..., 1, frames)``; 0 in silence.
    """
    return (_hertz(magnitude, sample_rate) * _shares(magnitude)).sum(dim=-2, keepdim=True)


def spectral_bandwidth(magnitude: Tensor, *, sample_rate: int) -> Tensor:
    """Returns each frame's standard deviation around its mean frequency, in hertz.

    Args:
        magnitude: Magnitude by frequency, from 0 Hz to half the rate.
        sample_rate: Rate of the audio, in hertz.

    Shape:
        ``(..., bins, frames)`` to ``(..., 1, frames)``, as ``librosa.feature.spectral_bandwidth``; 0 in silence.
    """
    distance = _hertz(magnitude, sample_rate) - spectral_centroid(magnitude, sample_rate=sample_rate)
    variance = (_shares(magnitude) * distance.square()).sum(dim=-2, keepdim=True)
    return to_magnitude(variance)


def spectral_rolloff(magnitude: Tensor, *, sample_rate: int, roll_percent: float = 0.85) -> Tensor:
    """Returns the frequency below which most of each frame lies, in hertz, as ``librosa.feature.spectral_rolloff``.

    It is the frequency of a bin, so that no gradient passes.

    Args:
        magnitude: Magnitude by frequency, from 0 Hz to half the rate.
        sample_rate: Rate of the audio, in hertz.
        roll_percent: How much of the sum of magnitudes is most, in (0, 1).

    Shape:
        ``(..., bins, frames)`` to ``(..., 1, frames)``; 0 in silence.

    Raises:
        ParameterError: ``roll_percent`` is out of range.
    """
    if not 0 < roll_percent < 1:
        raise ParameterError(f"roll_percent must lie in (0, 1), not {roll_percent!r}.")
    total = magnitude.cumsum(dim=-2)
    below = (total < roll_percent * total[..., -1:, :]).sum(dim=-2, keepdim=True)
    return below.to(magnitude.dtype) * _bin_hz(magnitude, sample_rate)


def spectral_flatness(power: Tensor, *, amin: float = 1e-10) -> Tensor:
    """Returns the geometric mean over the arithmetic mean of each frame, as ``librosa.feature.spectral_flatness``.

    Args:
        power: Power by frequency.
        amin: Lesser powers count as this one.

    Shape:
        ``(..., bins, frames)`` to ``(..., 1, frames)``, in (0, 1]: 1 for an even spectrum, near 0 for a tone.

    Raises:
        ParameterError: ``amin`` is not positive.
    """
    if not is_power(amin):
        raise ParameterError(f"amin must be a positive power, not {amin!r}.")
    power = power.clamp(min=amin)
    return power.log().mean(dim=-2, keepdim=True).exp() / power.mean(dim=-2, keepdim=True)


def rms(waveform: Tensor, *, frame_length: int = 2048, hop_length: int = 512) -> Tensor:
    """Returns the root of the mean square of each centred frame, as ``librosa.feature.rms`` does.

    Args:
        waveform: The signal, of floating-point numbers.
        frame_length: Samples in a frame.
        hop_length: Samples from one frame to the next.

    Shape:
        ``(..., samples)`` to ``(..., 1, frames)``.

    Raises:
        ParameterError: The signal has no sample or whole numbers, or a length is not positive.
    """
    check_waveform(waveform)
    squares = torch.nn.functional.pad(waveform.square(), (frame_length // 2, frame_length // 2))
    power = frame(squares, frame_length=frame_length, hop_length=hop_length).mean(dim=-1)
    return to_magnitude(power).unsqueeze(-2)


def zero_crossing_rate(waveform: Tensor, *, frame_length: int = 2048, hop_length: int = 512) -> Tensor:
    """Returns the share of samples in each centred frame at which the sign changes, in [0, 1).

    It is ``librosa.feature.zero_crossing_rate``. It counts, so that no gradient passes.

    Args:
        waveform: The signal, of floating-point numbers.
        frame_length: Samples in a frame, at least 2.
        hop_length: Samples from one frame to the next.

    Shape:
        ``(..., samples)`` to ``(..., 1, frames)``.

    Raises:
        ParameterError: The signal has no sample or whole numbers, or a length is too small.

    Example:
        >>> square = torch.tensor([1.0, -1.0]).repeat(2048)
        >>> zero_crossing_rate(square)[0, 4].item() == 2047 / 2048
        True
    """
    check_waveform(waveform)
    check_positive(frame_length=frame_length - 1, hop_length=hop_length)
    negative = waveform < -_ZERO
    crossings = (negative[..., 1:] != negative[..., :-1]).to(waveform.dtype)
    # Beyond the ends the signal goes on as it is there, without a crossing.
    padded = torch.nn.functional.pad(crossings, (frame_length // 2, frame_length // 2))
    counts = frame(padded, frame_length=frame_length - 1, hop_length=hop_length).sum(dim=-1)
    return (counts / frame_length).unsqueeze(-2)


def moments(values: Tensor) -> Tensor:
    """Returns mean, standard deviation and skewness over the frames.

    Both are the population's, as ``numpy.std`` and ``scipy.stats.skew`` have them; the skewness of what hardly varies
    beyond rounding is 0.

    Args:
        values: The frames.

    Shape:
        ``(..., bins, frames)`` to ``(..., bins, 3)``.

    Example:
        >>> moments(torch.tensor([[0.0, 0.0, 0.0, 4.0], [5.0, 5.0, 5.0, 5.0]]))
        tensor([[1.0000, 1.7321, 1.1547],
                [5.0000, 0.0000, 0.0000]])
    """
    mean = values.mean(dim=-1, keepdim=True)
    variance = (values - mean).square().mean(dim=-1, keepdim=True)
    limits = torch.finfo(values.dtype)
    even = variance <= (4 * limits.eps * mean).square() + limits.tiny
    deviation = variance.masked_fill(even, 1.0).sqrt()
    skewness = ((values - mean) / deviation).pow(3).mean(dim=-1, keepdim=True)
    return torch.cat([mean, deviation.masked_fill(even, 0.0), skewness.masked_fill(even, 0.0)], dim=-1)


def _shares(magnitude: Tensor) -> Tensor:
    size = magnitude.sum(dim=-2, keepdim=True)
    return magnitude / size.masked_fill(size < torch.finfo(size.dtype).tiny, 1.0)


def _bin_hz(spectrum: Tensor, sample_rate: int) -> float:
    return sample_rate / 2 / (spectrum.shape[-2] - 1)


def _hertz(spectrum: Tensor, sample_rate: int) -> Tensor:
    bins = torch.arange(spectrum.shape[-2], dtype=spectrum.dtype, device=spectrum.device)
    return (bins * _bin_hz(spectrum, sample_rate)).unsqueeze(-1)
