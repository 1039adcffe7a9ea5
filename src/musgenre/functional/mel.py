"""Mel filterbanks and mel spectrograms."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from musgenre.core.errors import ParameterError
from musgenre.functional.blocks import can_use_blocks, mel_power_in_blocks
from musgenre.functional.checks import check_matrix_size, check_positive
from musgenre.functional.spectrum import check_waveform, power_spectrogram

_GROUP_BANDS = 16
"""Mel bands in one matrix product. With fewer, the additional products cost more than they save; with more, most
weights are zeros."""

# Mel scale of Slaney, "Auditory Toolbox", 1998: linear below 1,000 Hz, then 27 mels for each factor of 6.4.
_MEL_HZ = 200.0 / 3
_BREAK_HZ = 1000.0
_BREAK_MEL = _BREAK_HZ / _MEL_HZ  # 15, with librosa's rounding
_LOG_STEP = math.log(6.4) / 27


def mel_filterbank(
    *, sample_rate: int, n_fft: int = 2048, n_mels: int = 128, f_min_hz: float = 0.0, f_max_hz: float | None = None
) -> Tensor:
    """Construct a mel filterbank, as ``librosa.filters.mel`` does.

    Filters are triangles of unit area whose edges are evenly spaced on the mel scale of Slaney ("Auditory Toolbox",
    1998). Their weights equal librosa's, which are rounded to float32, but are returned in float64.

    Args:
        sample_rate: Rate of the audio, in hertz.
        n_fft: Length of the Fourier transform, in samples.
        n_mels: Number of mel bands.
        f_min_hz: Lower edge of the lowest band, in hertz.
        f_max_hz: Upper edge of the highest band, in hertz; ``None`` is half the sample rate.

    Shape:
        Returns ``(n_mels, n_fft // 2 + 1)``, in float64.

    Raises:
        ParameterError: A count is not a positive integer, the matrix would have more than 2**24 entries, or the edges
            do not satisfy ``0 <= f_min_hz < f_max_hz <= sample_rate / 2``.

    Warns:
        UserWarning: A band lies between two bins of the transform, so that it is always zero.

    See Also:
        :func:`mel_spectrogram`, :func:`~musgenre.functional.chroma_filterbank`
    """
    check_positive(sample_rate=sample_rate, n_fft=n_fft, n_mels=n_mels)
    check_matrix_size(n_mels, n_fft // 2 + 1, name="mel filterbank")
    f_max = sample_rate / 2 if f_max_hz is None else f_max_hz
    if not 0 <= f_min_hz < f_max <= sample_rate / 2:
        raise ParameterError(
            f"Expected 0 <= f_min_hz < f_max_hz <= {sample_rate / 2:g} (half the sample rate), "
            f"not f_min_hz={f_min_hz!r} and f_max_hz={f_max_hz!r}."
        )
    low, high = _hz_to_mel(np.array([f_min_hz, f_max], dtype=np.float64)).tolist()
    edges = _mel_to_hz(np.linspace(low, high, n_mels + 2))
    above = np.fft.rfftfreq(n_fft, 1.0 / sample_rate) - edges[:, None]
    width = np.diff(edges)[:, None]
    triangles = np.minimum(above[:-2] / width[:-1], -above[2:] / width[1:]).clip(min=0).astype(np.float32)
    area = 2 / (edges[2:] - edges[:-2])
    bank = (triangles * area[:, None]).astype(np.float32)
    if not (bank.any(axis=1) | (edges[:-2] == 0)).all():
        warnings.warn(
            f"Some of {n_mels} mel bands are empty with n_fft={n_fft}: reduce n_mels or increase n_fft.",
            stacklevel=2,
        )
    return torch.from_numpy(bank.astype(np.float64))


def mel_groups(filterbank: Tensor) -> tuple[tuple[slice, slice], ...]:
    """Find the non-zero blocks of a mel filterbank: groups of adjacent bands and the bins that they cover.

    Args:
        filterbank: Weights, from :func:`mel_filterbank`.

    Returns:
        Pairs of slices ``(bands, bins)``. All weights outside of ``filterbank[bands, bins]`` are zero.

    Example:
        >>> mel_groups(mel_filterbank(sample_rate=22_050, n_mels=32))
        ((slice(0, 16, None), slice(1, 194, None)), (slice(16, 32, None), slice(175, 1024, None)))
    """
    groups = []
    for start in range(0, len(filterbank), _GROUP_BANDS):
        bands = slice(start, min(start + _GROUP_BANDS, len(filterbank)))
        covered = filterbank[bands].any(dim=0).nonzero().flatten().tolist() or [0]
        groups.append((bands, slice(covered[0], covered[-1] + 1)))
    return tuple(groups)


def mel_spectrogram(power: Tensor, *, filterbank: Tensor) -> Tensor:
    """Compute a mel spectrogram from a power spectrogram, as ``librosa.feature.melspectrogram`` does from ``S``.

    Args:
        power: Power spectrogram, from :func:`~musgenre.functional.power_spectrogram`.
        filterbank: Weights, from :func:`mel_filterbank`.

    Shape:
        ``(..., bins, frames)`` and ``(n_mels, bins)`` to ``(..., n_mels, frames)``.

    Raises:
        ParameterError: The numbers of bins differ.

    See Also:
        :func:`mel_power_spectrogram`, :func:`~musgenre.functional.chroma`
    """
    return project(power, filterbank)


def mel_power_spectrogram(
    waveform: Tensor,
    *,
    window: Tensor,
    hop_length: int,
    filterbank: Tensor,
    groups: Sequence[tuple[slice, slice]] | None = None,
) -> Tensor:
    """Compute a mel power spectrogram from a waveform.

    Equal to :func:`mel_spectrogram` of :func:`~musgenre.functional.power_spectrogram` and to
    ``librosa.feature.melspectrogram``, but faster, and without storing the power spectrogram. On a CPU, frames are
    windowed, transformed and projected in blocks that fit into the cache, and products with zero weights are skipped.
    Gradients, other devices, and compiled or exported graphs, which must not depend on the number of frames, use a
    single pass.

    Args:
        waveform: The signal, in floating point.
        window: The window; its length is that of the Fourier transform, in samples.
        hop_length: Samples between the starts of successive frames.
        filterbank: Weights, from :func:`mel_filterbank`.
        groups: Precomputed result of :func:`mel_groups`; ``None`` computes it.

    Shape:
        ``(..., samples)``, ``(n_fft,)`` and ``(n_mels, n_fft // 2 + 1)`` to ``(..., n_mels, frames)``.

    Raises:
        ParameterError: The signal is empty or not in floating point, or the filterbank does not match the window.

    Example:
        >>> bank, window = mel_filterbank(sample_rate=22_050), torch.hann_window(2048)
        >>> mel_power_spectrogram(torch.randn(2, 66_150), window=window, hop_length=512, filterbank=bank).shape
        torch.Size([2, 128, 130])

    See Also:
        :func:`~musgenre.functional.power_spectrogram`, :func:`mel_spectrogram`
    """
    check_waveform(waveform)
    window, filterbank = window.to(waveform), filterbank.to(waveform)
    if filterbank.shape[-1] != len(window) // 2 + 1:
        raise ParameterError(f"The filterbank must have {len(window) // 2 + 1} bins, not {filterbank.shape[-1]}.")
    if not can_use_blocks(waveform, window, filterbank):
        return project(power_spectrogram(waveform, n_fft=len(window), hop_length=hop_length, window=window), filterbank)
    with _no_autocast(waveform):
        mel = mel_power_in_blocks(
            waveform.reshape(-1, waveform.shape[-1]),
            window=window,
            hop_length=hop_length,
            filterbank=filterbank,
            groups=groups or mel_groups(filterbank),
        )
    return mel.reshape(*waveform.shape[:-1], *mel.shape[1:])


def project(spectrum: Tensor, matrix: Tensor) -> Tensor:
    """Multiply each spectrum by a matrix, in the precision of the spectrum.

    Shape:
        ``(..., bins, frames)`` and ``(rows, bins)`` to ``(..., rows, frames)``.

    Raises:
        ParameterError: The numbers of bins differ.
    """
    if spectrum.ndim < 2 or spectrum.shape[-2] != matrix.shape[-1]:
        raise ParameterError(f"Expected a spectrum of {matrix.shape[-1]} bins by frames, not {tuple(spectrum.shape)}.")
    with _no_autocast(spectrum):
        return matrix.to(spectrum) @ spectrum


def _no_autocast(like: Tensor) -> AbstractContextManager[Any]:
    # Power overflows in half precision, so autocast must not lower the precision of a product.
    device = like.device.type
    return torch.autocast(device, enabled=False) if torch.amp.is_autocast_available(device) else nullcontext()


def _hz_to_mel(hertz: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    above = _BREAK_MEL + np.log(np.maximum(hertz, _BREAK_HZ) / _BREAK_HZ) / _LOG_STEP
    return np.where(hertz >= _BREAK_HZ, above, hertz / _MEL_HZ)


def _mel_to_hz(mel: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    above = _BREAK_HZ * np.exp(_LOG_STEP * (mel - _BREAK_MEL))
    return np.where(mel >= _BREAK_MEL, above, _MEL_HZ * mel)
