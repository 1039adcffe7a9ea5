"""Chroma and tonal centroids."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from musgenre.core.errors import ParameterError
from musgenre.functional.checks import check_matrix_size, check_positive
from musgenre.functional.mel import project

_A0_HZ = 27.5
_CENTRE_OCTAVES, _WIDTH_OCTAVES = 5.0, 2.0  # Gaussian weight over octaves above A0, librosa's defaults


def chroma_filterbank(*, sample_rate: int, n_fft: int = 2048, n_chroma: int = 12, tuning: float = 0.0) -> Tensor:
    """Construct a filterbank that projects Fourier bins onto pitch classes, C first.

    Weights equal those of ``librosa.filters.chroma``, which are rounded to float32, but are returned in float64. Each
    bin has a Gaussian weight around each pitch class, normalised to unit length, and a Gaussian weight for its octave
    (Ellis, "Chroma feature analysis and synthesis", 2007).

    Args:
        sample_rate: Rate of the audio, in hertz.
        n_fft: Length of the Fourier transform, in samples.
        n_chroma: Number of pitch classes per octave.
        tuning: Deviation of A4 from 440 Hz, in fractions of a pitch class.

    Shape:
        Returns ``(n_chroma, n_fft // 2 + 1)``, in float64.

    Raises:
        ParameterError: A count is not a positive integer, the matrix is too large, or ``tuning`` is not finite.

    See Also:
        :func:`chroma`, :func:`~musgenre.functional.mel_filterbank`
    """
    check_positive(sample_rate=sample_rate, n_fft=n_fft, n_chroma=n_chroma)
    check_matrix_size(n_chroma, n_fft, name="chroma filterbank")
    if not math.isfinite(tuning):
        raise ParameterError(f"tuning must be finite, not {tuning!r}.")
    hertz = np.arange(1, n_fft) * (sample_rate / n_fft)
    pitches = n_chroma * np.log2(hertz / (_A0_HZ * 2 ** (tuning / n_chroma)))
    # 0 Hz has no pitch. As in librosa, it is assigned the pitch 1.5 octaves below the first bin.
    pitches = np.concatenate([[pitches[:1].sum() - 1.5 * n_chroma], pitches])
    widths = np.append(np.maximum(np.diff(pitches), 1.0), 1.0)
    half = np.round(n_chroma / 2)
    distances = (pitches - np.arange(n_chroma)[:, None] + half + 10 * n_chroma) % n_chroma - half
    weights = np.exp(-0.5 * (2 * distances / widths) ** 2)
    weights /= np.linalg.norm(weights, axis=0)
    weights *= np.exp(-0.5 * ((pitches / n_chroma - _CENTRE_OCTAVES) / _WIDTH_OCTAVES) ** 2)
    bank = np.roll(weights, -3 * (n_chroma // 12), axis=0)[:, : n_fft // 2 + 1].astype(np.float32)
    return torch.from_numpy(bank.astype(np.float64))


def chroma(power: Tensor, *, filterbank: Tensor) -> Tensor:
    """Compute a chromagram from a power spectrogram, as ``librosa.feature.chroma_stft`` does with a given tuning.

    Args:
        power: Power spectrogram, from :func:`~musgenre.functional.power_spectrogram`.
        filterbank: Weights, from :func:`chroma_filterbank`.

    Shape:
        ``(..., bins, frames)`` and ``(n_chroma, bins)`` to ``(..., n_chroma, frames)``, in [0, 1]. The strongest pitch
        class of each frame is 1; all are 0 in silence.

    Raises:
        ParameterError: The numbers of bins differ.

    Example:
        >>> from musgenre.functional import power_spectrogram
        >>> tone = torch.sin(torch.arange(22_050) * (2 * torch.pi * 440 / 22_050))
        >>> chroma(power_spectrogram(tone), filterbank=chroma_filterbank(sample_rate=22_050))[:, 20].argmax().item()
        9

    See Also:
        :func:`tonnetz`, :func:`~musgenre.functional.constant_q_power`
    """
    return normalise_frames(project(power, filterbank))


def tonnetz_matrix(*, n_chroma: int = 12) -> Tensor:
    """Construct the projection from pitch classes onto the six tonal centroid axes.

    The axes are the sine and cosine on the circles of fifths, minor thirds and major thirds (Harte, Sandler and Gasser,
    "Detecting harmonic change in musical audio", 2006). As in librosa, the circle of major thirds has half the radius.

    Args:
        n_chroma: Number of pitch classes per octave.

    Shape:
        Returns ``(6, n_chroma)``, in float64.

    Raises:
        ParameterError: ``n_chroma`` is not a positive integer.

    Example:
        >>> tonnetz_matrix()[:, 0].tolist()  # C  # doctest: +ELLIPSIS
        [6.12...e-17, 1.0, 6.12...e-17, 1.0, 3.06...e-17, 0.5]

    See Also:
        :func:`tonnetz`
    """
    check_positive(n_chroma=n_chroma)
    classes = torch.arange(n_chroma, dtype=torch.float64) * (12 / n_chroma)
    angles = torch.outer(torch.tensor([7 / 6, 7 / 6, 3 / 2, 3 / 2, 2 / 3, 2 / 3], dtype=torch.float64), classes)
    angles[::2] -= 0.5
    radius = torch.tensor([1, 1, 1, 1, 0.5, 0.5], dtype=torch.float64)
    return radius[:, None] * torch.cos(torch.pi * angles)


def tonnetz(chroma: Tensor, *, matrix: Tensor | None = None) -> Tensor:
    """Compute tonal centroid features from a chromagram, as ``librosa.feature.tonnetz`` does from ``chroma``.

    Args:
        chroma: Chromagram, not negative.
        matrix: Precomputed result of :func:`tonnetz_matrix`; ``None`` computes it.

    Shape:
        ``(..., n_chroma, frames)`` to ``(..., 6, frames)``, in [-1, 1].

    Raises:
        ParameterError: The shape of ``matrix`` is wrong.

    See Also:
        :func:`chroma`
    """
    axes = tonnetz_matrix(n_chroma=chroma.shape[-2]) if matrix is None else matrix
    return project(normalise_frames(chroma, norm="sum"), axes)


def normalise_frames(spectrum: Tensor, *, norm: Literal["max", "sum"] = "max") -> Tensor:
    """Normalise each frame by its maximum or its sum of magnitudes, as ``librosa.util.normalize`` does.

    Frames whose norm is below the smallest normal number of the dtype are left unchanged.

    Args:
        spectrum: The frames.
        norm: Norm that becomes 1: ``"max"`` or ``"sum"``.

    Shape:
        ``(..., bins, frames)``, unchanged.

    Example:
        >>> normalise_frames(torch.tensor([[1.0, 0.0], [-4.0, 0.0]]))
        tensor([[ 0.2500,  0.0000],
                [-1.0000,  0.0000]])
    """
    size = spectrum.abs()
    size = size.amax(dim=-2, keepdim=True) if norm == "max" else size.sum(dim=-2, keepdim=True)
    return spectrum / size.masked_fill(size < torch.finfo(size.dtype).tiny, 1.0)
