"""Mel bands: the filters, and what passes through them."""

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
from musgenre.functional.blocks import by_pieces, mel_of_frames
from musgenre.functional.checks import check_positive, check_size
from musgenre.functional.spectrum import check_waveform, power_spectrogram

_GROUP_BANDS = 16
"""Bands multiplied together: fewer are more products than they save, more are mostly zeros."""

# Slaney's scale (Auditory Toolbox, 1998): linear up to 1,000 Hz, then 27 mels for each factor of 6.4.
_MEL_HZ = 200.0 / 3
_BREAK_HZ = 1000.0
_BREAK_MEL = _BREAK_HZ / _MEL_HZ  # 15, rounded as librosa has it
_LOG_STEP = math.log(6.4) / 27


def mel_filterbank(
    *, sample_rate: int, n_fft: int = 2048, n_mels: int = 128, f_min_hz: float = 0.0, f_max_hz: float | None = None
) -> Tensor:
    """Returns librosa's triangular mel filters: Slaney's scale, each of unit area.

    They are the numbers that librosa's own features use, which are rounded to float32, here as float64.

    Args:
        sample_rate: Rate of the audio, in hertz.
        n_fft: Length of the Fourier transform, in samples.
        n_mels: Number of bands.
        f_min_hz: Lower edge of the lowest band.
        f_max_hz: Upper edge of the highest band; ``None`` is half the sample rate.

    Shape:
        Returns ``(n_mels, n_fft // 2 + 1)``.

    Raises:
        ParameterError: A count is not positive, the matrix would have more than 2**24 numbers, or not
            ``0 <= f_min_hz < f_max_hz <= sample_rate / 2``.

    Warns:
        UserWarning: A band lies between two bins of the transform, and will always be silent.
    """
    check_positive(sample_rate=sample_rate, n_fft=n_fft, n_mels=n_mels)
    check_size(n_mels, n_fft // 2 + 1, what="Mel filters")
    f_max = sample_rate / 2 if f_max_hz is None else f_max_hz
    if not 0 <= f_min_hz < f_max <= sample_rate / 2:
        raise ParameterError(
            f"Need 0 <= f_min_hz < f_max_hz <= {sample_rate / 2:g} (half the sample rate), "
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
            f"Some of {n_mels} mel bands are empty with n_fft={n_fft}: take fewer bands or a longer transform.",
            stacklevel=2,
        )
    return torch.from_numpy(bank.astype(np.float64))


def mel_groups(filterbank: Tensor) -> tuple[tuple[slice, slice], ...]:
    """Finds where a filterbank is not zero: for each few neighbouring bands, the bins that they hear.

    Args:
        filterbank: From :func:`mel_filterbank`.

    Returns:
        Pairs of slices ``(bands, bins)``; outside of all of them ``filterbank[bands, bins]`` is zero.

    Example:
        >>> mel_groups(mel_filterbank(sample_rate=22_050, n_mels=32))
        ((slice(0, 16, None), slice(1, 194, None)), (slice(16, 32, None), slice(175, 1024, None)))
    """
    groups = []
    for start in range(0, len(filterbank), _GROUP_BANDS):
        bands = slice(start, min(start + _GROUP_BANDS, len(filterbank)))
        heard = filterbank[bands].any(dim=0).nonzero().flatten().tolist() or [0]
        groups.append((bands, slice(heard[0], heard[-1] + 1)))
    return tuple(groups)


def mel_spectrogram(power: Tensor, *, filterbank: Tensor) -> Tensor:
    """Sums a power spectrogram into bands.

    Args:
        power: Power by frequency, from :func:`~musgenre.functional.power_spectrogram`.
        filterbank: Weights, from :func:`mel_filterbank`.

    Shape:
        ``(..., bins, frames)`` with ``(n_mels, bins)`` to ``(..., n_mels, frames)``.

    Raises:
        ParameterError: The two differ in ``bins``.
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
    """Computes ``mel_spectrogram(power_spectrogram(waveform))`` faster, and without ever holding the power spectrogram.

    On a CPU a few frames at a time are windowed, transformed and summed, so that they do not leave its cache, and only
    those products are formed that are not zero. Elsewhere, for gradients, and in a graph that is compiled or exported,
    which must not depend on the number of frames, all go together.

    Args:
        waveform: The signal, of floating-point numbers.
        window: As for :func:`~musgenre.functional.power_spectrogram`; its length is that of the transform.
        hop_length: Samples from one frame to the next.
        filterbank: Weights, from :func:`mel_filterbank`.
        groups: What :func:`mel_groups` finds in ``filterbank``; ``None`` finds it anew.

    Shape:
        ``(..., samples)`` with ``(n_fft,)`` and ``(n_mels, n_fft // 2 + 1)`` to ``(..., n_mels, frames)``.

    Raises:
        ParameterError: The signal has no sample or whole numbers, or the filterbank does not fit the window.

    Example:
        >>> bank, window = mel_filterbank(sample_rate=22_050), torch.hann_window(2048)
        >>> mel_power_spectrogram(torch.randn(2, 66_150), window=window, hop_length=512, filterbank=bank).shape
        torch.Size([2, 128, 130])
    """
    check_waveform(waveform)
    window, filterbank = window.to(waveform), filterbank.to(waveform)
    if filterbank.shape[-1] != len(window) // 2 + 1:
        raise ParameterError(f"The filterbank needs {len(window) // 2 + 1} bins, not {filterbank.shape[-1]}.")
    if not by_pieces(waveform, window, filterbank):
        return project(power_spectrogram(waveform, n_fft=len(window), hop_length=hop_length, window=window), filterbank)
    with _no_autocast(waveform):
        mel = mel_of_frames(
            waveform.reshape(-1, waveform.shape[-1]),
            window=window,
            hop_length=hop_length,
            filterbank=filterbank,
            groups=groups or mel_groups(filterbank),
        )
    return mel.reshape(*waveform.shape[:-1], *mel.shape[1:])


def project(spectrum: Tensor, matrix: Tensor) -> Tensor:
    """Multiplies a matrix with each spectrum, in the spectrum's own precision.

    Shape:
        ``(..., bins, frames)`` with ``(rows, bins)`` to ``(..., rows, frames)``.

    Raises:
        ParameterError: The two differ in ``bins``.
    """
    if spectrum.ndim < 2 or spectrum.shape[-2] != matrix.shape[-1]:
        raise ParameterError(f"Need a spectrum of {matrix.shape[-1]} bins by frames, not {tuple(spectrum.shape)}.")
    with _no_autocast(spectrum):
        return matrix.to(spectrum) @ spectrum


def _no_autocast(like: Tensor) -> AbstractContextManager[Any]:
    # Powers overflow half precision, so a product must not be carried out in it under autocast.
    device = like.device.type
    return torch.autocast(device, enabled=False) if torch.amp.is_autocast_available(device) else nullcontext()


def _hz_to_mel(hertz: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    above = _BREAK_MEL + np.log(np.maximum(hertz, _BREAK_HZ) / _BREAK_HZ) / _LOG_STEP
    return np.where(hertz >= _BREAK_HZ, above, hertz / _MEL_HZ)


def _mel_to_hz(mel: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    above = _BREAK_HZ * np.exp(_LOG_STEP * (mel - _BREAK_MEL))
    return np.where(mel >= _BREAK_MEL, above, _MEL_HZ * mel)
