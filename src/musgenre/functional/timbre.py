"""Features of timbre: spectral shape, contrast, level and zero crossings of each frame."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from musgenre.core.errors import ParameterError
from musgenre.functional.checks import check_positive, is_positive_finite
from musgenre.functional.levels import to_decibel
from musgenre.functional.spectrum import check_waveform, frame

_MAX_OCTAVES = 30

_ZERO_CROSSING_THRESHOLD = 1e-10
"""Samples of at most this magnitude count as zero, and zero as positive; librosa's default."""


def to_magnitude(power: Tensor) -> Tensor:
    """Compute the square root of power, with a gradient of 0 instead of infinity in silence.

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
    """Compute the frequency bands of the spectral contrast: their bins, and the number of bins per peak or valley.

    Args:
        sample_rate: Rate of the audio, in hertz.
        n_fft: Length of the Fourier transform, in samples.
        f_min_hz: Upper edge of the first band, in hertz. Each further band is an octave; the last one extends to half
            the sample rate.
        n_bands: Number of bands after the first, at most 30.
        quantile: Fraction of the bins of a band that form its peak and its valley, in (0, 1).

    Returns:
        For each band, the slice of its bins and the number of bins that are averaged for a peak or a valley.

    Raises:
        ParameterError: A parameter is out of range, a band starts above half the sample rate, or a band has too few
            bins.

    Example:
        >>> contrast_bands(sample_rate=8000, n_fft=256, n_bands=2)
        ((slice(0, 6, None), 1), (slice(6, 12, None), 1), (slice(12, 129, None), 2))

    See Also:
        :func:`spectral_contrast`
    """
    check_positive(sample_rate=sample_rate, n_fft=n_fft, n_bands=n_bands)
    if not (is_positive_finite(f_min_hz) and 0 < quantile < 1 and n_bands <= _MAX_OCTAVES):
        raise ParameterError(
            f"Expected f_min_hz > 0, 0 < quantile < 1 and n_bands <= {_MAX_OCTAVES}, not f_min_hz={f_min_hz!r}, "
            f"quantile={quantile!r} and n_bands={n_bands!r}."
        )
    edges = [0.0, *(f_min_hz * 2.0**octave for octave in range(n_bands + 1))]
    if edges[-2] >= sample_rate / 2:
        raise ParameterError(
            f"The last of {n_bands} octaves above f_min_hz={f_min_hz:g} starts at {edges[-2]:g} Hz, but half the "
            f"sample rate is {sample_rate / 2:g} Hz: reduce n_bands or f_min_hz."
        )
    hertz = np.fft.rfftfreq(n_fft, 1 / sample_rate)
    bands = []
    for number, (low, high) in enumerate(pairwise(edges)):
        inside = np.flatnonzero((hertz >= low) & (hertz <= high))
        last = number == n_bands
        # As in librosa, each band but the first starts one bin early, and each but the last ends one bin early.
        start = int(inside[0]) - (number > 0) if inside.size else 0
        stop = len(hertz) if last else int(inside[-1]) if inside.size else 0
        if stop <= start:
            raise ParameterError(
                f"No bin of n_fft={n_fft} lies in the band from {low:g} to {high:g} Hz: increase n_fft."
            )
        bands.append((slice(start, stop), max(1, round(quantile * (stop - start + (not last))))))
    return tuple(bands)


def spectral_contrast(magnitude: Tensor, *, bands: Sequence[tuple[slice, int]]) -> Tensor:
    """Compute the spectral contrast: the difference between peaks and valleys of each band.

    Equal to ``librosa.feature.spectral_contrast`` (Jiang et al., "Music type classification by spectral contrast
    feature", 2002). As in librosa, magnitudes are converted to decibels as if they were power. Peaks are clipped 80 dB
    below the highest peak of the example, and valleys 80 dB below its highest valley.

    Args:
        magnitude: Magnitude spectrogram, not negative.
        bands: Frequency bands, from :func:`contrast_bands`.

    Shape:
        ``(..., bins, frames)`` to ``(..., n_bands + 1, frames)``, in decibels.

    See Also:
        :func:`spectral_centroid`, :func:`spectral_flatness`
    """
    peaks, valleys = [], []
    for bins, count in bands:
        ordered = magnitude[..., bins, :].sort(dim=-2).values
        valleys.append(ordered[..., :count, :].mean(dim=-2))
        peaks.append(ordered[..., -count:, :].mean(dim=-2))
    return to_decibel(torch.stack(peaks, dim=-2)) - to_decibel(torch.stack(valleys, dim=-2))


def spectral_centroid(magnitude: Tensor, *, sample_rate: int) -> Tensor:
    """Compute the spectral centroid: the mean frequency of each frame, as ``librosa.feature.spectral_centroid`` does.

    Args:
        magnitude: Magnitude spectrogram, from 0 Hz to half the sample rate.
        sample_rate: Rate of the audio, in hertz.

    Shape:
        ``(..., bins, frames)`` to ``(..., 1, frames)``, in hertz; 0 in silence.

    See Also:
        :func:`spectral_bandwidth`, :func:`spectral_rolloff`
    """
    return (_frequencies_hz(magnitude, sample_rate) * _weights(magnitude)).sum(dim=-2, keepdim=True)


def spectral_bandwidth(magnitude: Tensor, *, sample_rate: int) -> Tensor:
    """Compute the spectral bandwidth: the standard deviation of each frame around its spectral centroid.

    Equal to ``librosa.feature.spectral_bandwidth``.

    Args:
        magnitude: Magnitude spectrogram, from 0 Hz to half the sample rate.
        sample_rate: Rate of the audio, in hertz.

    Shape:
        ``(..., bins, frames)`` to ``(..., 1, frames)``, in hertz; 0 in silence.

    See Also:
        :func:`spectral_centroid`
    """
    distance = _frequencies_hz(magnitude, sample_rate) - spectral_centroid(magnitude, sample_rate=sample_rate)
    variance = (_weights(magnitude) * distance.square()).sum(dim=-2, keepdim=True)
    return to_magnitude(variance)


def spectral_rolloff(magnitude: Tensor, *, sample_rate: int, roll_percent: float = 0.85) -> Tensor:
    """Compute the roll-off frequency of each frame, as ``librosa.feature.spectral_rolloff`` does.

    The roll-off frequency is the lowest bin below which the given fraction of the summed magnitude lies. Not
    differentiable.

    Args:
        magnitude: Magnitude spectrogram, from 0 Hz to half the sample rate.
        sample_rate: Rate of the audio, in hertz.
        roll_percent: Fraction of the summed magnitude, in (0, 1).

    Shape:
        ``(..., bins, frames)`` to ``(..., 1, frames)``, in hertz; 0 in silence.

    Raises:
        ParameterError: ``roll_percent`` is out of range.

    See Also:
        :func:`spectral_centroid`
    """
    if not 0 < roll_percent < 1:
        raise ParameterError(f"roll_percent must lie in (0, 1), not {roll_percent!r}.")
    cumulative = magnitude.cumsum(dim=-2)
    below = (cumulative < roll_percent * cumulative[..., -1:, :]).sum(dim=-2, keepdim=True)
    return below.to(magnitude.dtype) * _bin_width_hz(magnitude, sample_rate)


def spectral_flatness(power: Tensor, *, amin: float = 1e-10) -> Tensor:
    """Compute the spectral flatness: the geometric over the arithmetic mean of the power of each frame.

    Equal to ``librosa.feature.spectral_flatness``.

    Args:
        power: Power spectrogram.
        amin: Lower limit of ``power``, positive.

    Shape:
        ``(..., bins, frames)`` to ``(..., 1, frames)``, in (0, 1]: 1 for white noise, close to 0 for a tone.

    Raises:
        ParameterError: ``amin`` is not positive.

    See Also:
        :func:`spectral_contrast`
    """
    if not is_positive_finite(amin):
        raise ParameterError(f"amin must be a positive power, not {amin!r}.")
    power = power.clamp(min=amin)
    return power.log().mean(dim=-2, keepdim=True).exp() / power.mean(dim=-2, keepdim=True)


def rms(waveform: Tensor, *, frame_length: int = 2048, hop_length: int = 512) -> Tensor:
    """Compute the root-mean-square level of each centred frame, as ``librosa.feature.rms`` does.

    Args:
        waveform: The signal, in floating point.
        frame_length: Length of a frame, in samples.
        hop_length: Samples between the starts of successive frames.

    Shape:
        ``(..., samples)`` to ``(..., 1, frames)``, in the units of ``waveform``.

    Raises:
        ParameterError: The signal is empty or not in floating point, or a length is not a positive integer.

    See Also:
        :func:`zero_crossing_rate`
    """
    check_waveform(waveform)
    squares = torch.nn.functional.pad(waveform.square(), (frame_length // 2, frame_length // 2))
    power = frame(squares, frame_length=frame_length, hop_length=hop_length).mean(dim=-1)
    return to_magnitude(power).unsqueeze(-2)


def zero_crossing_rate(waveform: Tensor, *, frame_length: int = 2048, hop_length: int = 512) -> Tensor:
    """Compute the zero-crossing rate of each centred frame, as ``librosa.feature.zero_crossing_rate`` does.

    Not differentiable.

    Args:
        waveform: The signal, in floating point.
        frame_length: Length of a frame, in samples; at least 2.
        hop_length: Samples between the starts of successive frames.

    Shape:
        ``(..., samples)`` to ``(..., 1, frames)``, as a fraction of the samples, in [0, 1).

    Raises:
        ParameterError: The signal is empty or not in floating point, or a length is too small.

    Example:
        >>> square = torch.tensor([1.0, -1.0]).repeat(2048)
        >>> zero_crossing_rate(square)[0, 4].item() == 2047 / 2048
        True

    See Also:
        :func:`rms`
    """
    check_waveform(waveform)
    check_positive(frame_length=frame_length - 1, hop_length=hop_length)
    negative = waveform < -_ZERO_CROSSING_THRESHOLD
    crossings = (negative[..., 1:] != negative[..., :-1]).to(waveform.dtype)
    # The first and last sample are repeated beyond the ends, so that padding adds no crossing.
    padded = torch.nn.functional.pad(crossings, (frame_length // 2, frame_length // 2))
    counts = frame(padded, frame_length=frame_length - 1, hop_length=hop_length).sum(dim=-1)
    return (counts / frame_length).unsqueeze(-2)


def moments(values: Tensor) -> Tensor:
    """Compute mean, standard deviation and skewness over the frames.

    These are the population statistics of ``numpy.std`` and ``scipy.stats.skew``. Standard deviation and skewness of
    bins that vary only by rounding are 0.

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
    constant = variance <= (4 * limits.eps * mean).square() + limits.tiny
    deviation = variance.masked_fill(constant, 1.0).sqrt()
    skewness = ((values - mean) / deviation).pow(3).mean(dim=-1, keepdim=True)
    return torch.cat([mean, deviation.masked_fill(constant, 0.0), skewness.masked_fill(constant, 0.0)], dim=-1)


def _weights(magnitude: Tensor) -> Tensor:
    total = magnitude.sum(dim=-2, keepdim=True)
    return magnitude / total.masked_fill(total < torch.finfo(total.dtype).tiny, 1.0)


def _bin_width_hz(spectrum: Tensor, sample_rate: int) -> float:
    return sample_rate / 2 / (spectrum.shape[-2] - 1)


def _frequencies_hz(spectrum: Tensor, sample_rate: int) -> Tensor:
    bins = torch.arange(spectrum.shape[-2], dtype=spectrum.dtype, device=spectrum.device)
    return (bins * _bin_width_hz(spectrum, sample_rate)).unsqueeze(-1)
