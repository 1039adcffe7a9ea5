"""Constant-Q transform, with bins spaced evenly in pitch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from musgenre.core.errors import ParameterError
from musgenre.functional.checks import check_matrix_size, check_positive, is_positive_finite
from musgenre.functional.mel import project
from musgenre.functional.spectrum import check_waveform, frame

C1_HZ = 440.0 * 2 ** (-45 / 12)
"""Frequency of C1, the lowest C of a piano: 32.7 Hz."""

_HANN_BANDWIDTH_BINS = 1.50018310546875  # librosa's value
_NEGLIGIBLE_WEIGHT = 1e-6  # relative to the largest weight of a kernel: -120 dB


@dataclass(frozen=True)
class ConstantQKernel:
    """Kernel that computes one octave of a constant-Q transform from a Fourier transform.

    Attributes:
        weights: Real and imaginary parts, of shape ``(2, filters, bins)``, in float64; the lowest filter first.
        bins: Range of Fourier bins that the weights cover; weights outside of it are negligible.
        n_fft: Length of the Fourier transform, in samples.
    """

    weights: Tensor
    bins: slice
    n_fft: int


def constant_q_frequencies(*, f_min_hz: float = C1_HZ, n_bins: int = 84, bins_per_octave: int = 12) -> Tensor:
    """Compute the centre frequencies of constant-Q bins, as ``librosa.cqt_frequencies`` does.

    Args:
        f_min_hz: Frequency of the lowest bin, in hertz.
        n_bins: Number of bins.
        bins_per_octave: Number of bins per octave.

    Shape:
        Returns ``(n_bins,)``, in hertz and float64.

    Raises:
        ParameterError: A count is not a positive integer, or ``f_min_hz`` is not positive and finite.

    Example:
        >>> constant_q_frequencies(f_min_hz=110.0, n_bins=3, bins_per_octave=1)
        tensor([110., 220., 440.], dtype=torch.float64)
    """
    check_positive(n_bins=n_bins, bins_per_octave=bins_per_octave)
    check_matrix_size(n_bins, 1, name="vector of frequencies")
    if not is_positive_finite(f_min_hz):
        raise ParameterError(f"f_min_hz must be positive and finite, not {f_min_hz!r}.")
    return f_min_hz * 2 ** (torch.arange(n_bins, dtype=torch.float64) / bins_per_octave)


def constant_q_kernels(
    *, sample_rate: int, f_min_hz: float = C1_HZ, n_bins: int = 84, bins_per_octave: int = 12
) -> tuple[ConstantQKernel, ...]:
    """Construct the kernels of a constant-Q transform, one for each octave, from the lowest octave up.

    Filters follow ``librosa.cqt``: Hann-windowed complex tones that span a fixed number of periods, scaled so that
    noise has the same level in long and short filters (Schörkhuber and Klapuri, "Constant-Q transform toolbox for music
    processing", 2010). librosa halves the sample rate for each octave below the highest, which rounds filters to fewer
    samples, and drops the smallest 1 % of each filter's weights. Here, all filters are computed at the full sample rate
    and none of their weights above -120 dB is dropped. Therefore the highest octave equals librosa's with
    ``sparsity=0``, and all magnitudes agree with librosa's default within 3 % of the largest magnitude, or 6 % near the
    ends of the signal.

    Args:
        sample_rate: Rate of the audio, in hertz.
        f_min_hz: Frequency of the lowest bin, in hertz.
        n_bins: Number of bins.
        bins_per_octave: Number of bins per octave.

    Raises:
        ParameterError: A parameter is not positive, the highest filter exceeds half the sample rate, or the lowest
            filter is too long.

    See Also:
        :func:`constant_q_power`, :func:`constant_q_frequencies`
    """
    check_positive(sample_rate=sample_rate)
    hertz = constant_q_frequencies(f_min_hz=f_min_hz, n_bins=n_bins, bins_per_octave=bins_per_octave).numpy()
    step = 2 ** (2 / bins_per_octave)
    quality = (step + 1) / (step - 1)
    highest = hertz[-1] * (1 + 0.5 * _HANN_BANDWIDTH_BINS / quality)
    if highest > sample_rate / 2:
        raise ParameterError(
            f"{n_bins} bins from {f_min_hz:.1f} Hz reach {highest:.0f} Hz, but half the sample rate is "
            f"{sample_rate / 2:g} Hz: reduce n_bins or f_min_hz."
        )
    kernels = []
    for end in range(n_bins, 0, -bins_per_octave):
        octave = hertz[max(0, end - bins_per_octave) : end]
        length = min(quality * sample_rate / float(octave[0]), 2.0**30)
        n_fft = 2 ** math.ceil(math.log2(length))
        check_matrix_size(len(octave), n_fft, name="constant-Q kernel")
        filters = [_filter(f_hz / sample_rate, quality=quality, n_fft=n_fft) for f_hz in octave.tolist()]
        kernels.append(_kernel(torch.from_numpy(np.stack(filters)), n_fft=n_fft))
    return tuple(reversed(kernels))


def constant_q_power(waveform: Tensor, *, kernels: Sequence[ConstantQKernel], hop_length: int = 512) -> Tensor:
    """Compute the power of a constant-Q transform, ``abs(librosa.cqt(...)) ** 2``.

    Frames are centred: the signal is padded with zeros at both ends. As in librosa, the filters of high bins are
    shorter than the default hop, so that samples between their frames do not contribute.

    Args:
        waveform: The signal, in floating point.
        kernels: Kernels, from :func:`constant_q_kernels`.
        hop_length: Samples between the starts of successive frames.

    Shape:
        ``(..., samples)`` to ``(..., n_bins, frames)``, with ``frames = 1 + samples // hop_length``.

    Raises:
        ParameterError: The signal is empty or not in floating point, or ``hop_length`` is not a positive integer.

    Example:
        >>> tone = torch.sin(torch.arange(22_050) * (2 * torch.pi * 440 / 22_050))
        >>> power = constant_q_power(tone, kernels=constant_q_kernels(sample_rate=22_050))
        >>> power.shape, power[:, 20].argmax().item()  # A4 is three octaves and nine semitones above C1
        (torch.Size([84, 44]), 45)

    See Also:
        :func:`~musgenre.functional.power_spectrogram`, :func:`~musgenre.functional.chroma`
    """
    check_waveform(waveform)
    octaves = []
    for kernel in kernels:
        padded = torch.nn.functional.pad(waveform, (kernel.n_fft // 2, kernel.n_fft // 2))
        frames = frame(padded, frame_length=kernel.n_fft, hop_length=hop_length)
        spectrum = torch.view_as_real(torch.fft.rfft(frames))[..., kernel.bins, :].transpose(-3, -2)
        real, imaginary = spectrum[..., 0], spectrum[..., 1]
        real_weights, imaginary_weights = kernel.weights.to(waveform)
        even = project(real, real_weights) - project(imaginary, imaginary_weights)
        odd = project(real, imaginary_weights) + project(imaginary, real_weights)
        octaves.append(even.square() + odd.square())
    return torch.cat(octaves, dim=-2)


def _filter(frequency: float, *, quality: float, n_fft: int) -> np.ndarray[tuple[int], np.dtype[np.complex128]]:
    """Return the Fourier transform of one filter, whose frequency is given relative to the sample rate."""
    length = quality / frequency
    samples = np.arange(-length // 2, length // 2)
    # A periodic window with an integer number of samples, as in librosa.
    tone = np.exp(2j * np.pi * frequency * samples) * np.hanning(len(samples) + 1)[:-1]
    tone *= math.sqrt(length) / n_fft / np.abs(tone).sum()
    before = (n_fft - len(tone)) // 2
    padded = np.pad(tone, (before, n_fft - len(tone) - before))
    return np.fft.fft(padded)[: n_fft // 2 + 1]


def _kernel(filters: Tensor, *, n_fft: int) -> ConstantQKernel:
    magnitude = filters.abs()
    covered = (magnitude > _NEGLIGIBLE_WEIGHT * magnitude.max()).any(dim=0).nonzero().flatten()
    bins = slice(int(covered[0]), int(covered[-1]) + 1)
    return ConstantQKernel(torch.stack([filters.real, filters.imag])[..., bins].clone(), bins, n_fft)
