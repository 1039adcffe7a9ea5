"""The constant-Q transform: bins that are spaced like the keys of a piano."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from musgenre.core.errors import ParameterError
from musgenre.functional.checks import check_positive, check_size, is_power
from musgenre.functional.mel import project
from musgenre.functional.spectrum import check_waveform, frame

C1_HZ = 440.0 * 2 ** (-45 / 12)
"""The lowest C of a piano, 32.7 Hz."""

_HANN_BANDWIDTH = 1.50018310546875  # of the window in bins, as librosa has it
_NEGLIGIBLE = 1e-6  # of a kernel's largest weight: 120 dB below it


@dataclass(frozen=True)
class ConstantQKernel:
    """What computes one octave of a constant-Q transform from a Fourier transform.

    Attributes:
        weights: Real and imaginary parts, ``(2, filters, bins)``, in float64; the lowest filter first.
        bins: Which bins of the transform they are for; elsewhere the weights are negligible.
        n_fft: Length of the transform, in samples.
    """

    weights: Tensor
    bins: slice
    n_fft: int


def constant_q_frequencies(*, f_min_hz: float = C1_HZ, n_bins: int = 84, bins_per_octave: int = 12) -> Tensor:
    """Returns the frequencies of the bins, in hertz, as ``librosa.cqt_frequencies`` does.

    Args:
        f_min_hz: The lowest.
        n_bins: How many.
        bins_per_octave: How many in an octave.

    Shape:
        Returns ``(n_bins,)``, in float64.

    Raises:
        ParameterError: A value is not positive.

    Example:
        >>> constant_q_frequencies(f_min_hz=110.0, n_bins=3, bins_per_octave=1)
        tensor([110., 220., 440.], dtype=torch.float64)
    """
    check_positive(n_bins=n_bins, bins_per_octave=bins_per_octave)
    check_size(n_bins, 1, what="Frequencies")
    if not is_power(f_min_hz):
        raise ParameterError(f"f_min_hz must be positive and finite, not {f_min_hz!r}.")
    return f_min_hz * 2 ** (torch.arange(n_bins, dtype=torch.float64) / bins_per_octave)


def constant_q_kernels(
    *, sample_rate: int, f_min_hz: float = C1_HZ, n_bins: int = 84, bins_per_octave: int = 12
) -> tuple[ConstantQKernel, ...]:
    """Returns the filters of the constant-Q transform, an octave each, the lowest octave first.

    They are those of ``librosa.cqt``: Hann-windowed tones whose length is a fixed number of periods, scaled so that
    noise is as strong in long filters as in short ones (Schörkhuber and Klapuri, "Constant-Q transform toolbox for
    music processing", 2010). librosa halves the rate of the audio for each octave below the highest, rounding the
    filters to fewer samples, and leaves out the hundredth of each filter that counts least. Here every octave has
    filters for the full rate, and nothing is left out. So the highest octave equals librosa's with ``sparsity=0``, and
    the magnitudes of all agree with its default within 3 % of the largest, or 6 % near the ends of the signal.

    Args:
        sample_rate: Rate of the audio, in hertz.
        f_min_hz: Frequency of the lowest bin.
        n_bins: Number of bins.
        bins_per_octave: Bins in an octave.

    Raises:
        ParameterError: A value is not positive, the highest filters reach beyond half the rate, or the lowest are too
            long.
    """
    check_positive(sample_rate=sample_rate)
    hertz = constant_q_frequencies(f_min_hz=f_min_hz, n_bins=n_bins, bins_per_octave=bins_per_octave).numpy()
    step = 2 ** (2 / bins_per_octave)
    quality = (step + 1) / (step - 1)
    highest = hertz[-1] * (1 + 0.5 * _HANN_BANDWIDTH / quality)
    if highest > sample_rate / 2:
        raise ParameterError(
            f"{n_bins} bins from {f_min_hz:.1f} Hz on reach {highest:.0f} Hz, but half the sample rate is "
            f"{sample_rate / 2:g} Hz: take fewer bins, or a lower f_min_hz."
        )
    kernels = []
    for end in range(n_bins, 0, -bins_per_octave):
        octave = hertz[max(0, end - bins_per_octave) : end]
        length = min(quality * sample_rate / float(octave[0]), 2.0**30)
        n_fft = 2 ** math.ceil(math.log2(length))
        check_size(len(octave), n_fft, what="Constant-Q filters")
        filters = [_filter(one / sample_rate, quality=quality, n_fft=n_fft) for one in octave.tolist()]
        kernels.append(_kernel(torch.from_numpy(np.stack(filters)), n_fft=n_fft))
    return tuple(reversed(kernels))


def constant_q_power(waveform: Tensor, *, kernels: Sequence[ConstantQKernel], hop_length: int = 512) -> Tensor:
    """Computes the squared magnitude of the constant-Q transform, ``abs(librosa.cqt(...)) ** 2``.

    Frames are centred: the signal is padded with zeros at both ends. The filters of high bins are shorter than the
    default hop, so that what lies between their frames is not heard, as with librosa.

    Args:
        waveform: The signal, of floating-point numbers.
        kernels: From :func:`constant_q_kernels`.
        hop_length: Samples from one frame to the next.

    Shape:
        ``(..., samples)`` to ``(..., n_bins, frames)``, with ``frames = 1 + samples // hop_length``.

    Raises:
        ParameterError: The signal has no sample or whole numbers, or ``hop_length`` is not positive.

    Example:
        >>> tone = torch.sin(torch.arange(22_050) * (2 * torch.pi * 440 / 22_050))
        >>> power = constant_q_power(tone, kernels=constant_q_kernels(sample_rate=22_050))
        >>> power.shape, power[:, 20].argmax().item()  # three octaves and nine keys above C1
        (torch.Size([84, 44]), 45)
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


def _filter(share: float, *, quality: float, n_fft: int) -> np.ndarray[tuple[int], np.dtype[np.complex128]]:
    """Returns the transform of one filter; its frequency is a share of the sample rate."""
    length = quality / share
    places = np.arange(-length // 2, length // 2)
    # A window of whole length, periodic, as librosa's filters have it.
    tone = np.exp(2j * np.pi * share * places) * np.hanning(len(places) + 1)[:-1]
    tone *= math.sqrt(length) / n_fft / np.abs(tone).sum()
    before = (n_fft - len(tone)) // 2
    padded = np.pad(tone, (before, n_fft - len(tone) - before))
    return np.fft.fft(padded)[: n_fft // 2 + 1]


def _kernel(filters: Tensor, *, n_fft: int) -> ConstantQKernel:
    size = filters.abs()
    heard = (size > _NEGLIGIBLE * size.max()).any(dim=0).nonzero().flatten()
    bins = slice(int(heard[0]), int(heard[-1]) + 1)
    return ConstantQKernel(torch.stack([filters.real, filters.imag])[..., bins].clone(), bins, n_fft)
