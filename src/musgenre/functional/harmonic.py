"""Pitch classes, and where they lie among the keys."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from musgenre.core.errors import ParameterError
from musgenre.functional.checks import check_positive, check_size
from musgenre.functional.mel import project

_A0_HZ = 27.5
_CENTRE_OCTAVES, _WIDTH_OCTAVES = 5.0, 2.0  # the weight of an octave: a bell around five octaves above A0


def chroma_filterbank(*, sample_rate: int, n_fft: int = 2048, n_chroma: int = 12, tuning: float = 0.0) -> Tensor:
    """Returns the weights with which each bin of a transform counts towards each pitch class, C first.

    They are the numbers of ``librosa.filters.chroma``, which are rounded to float32, here as float64: bells around the
    pitch classes, of unit length for each bin, and a weight for the octave (Ellis, "Chroma feature analysis and
    synthesis", 2007).

    Args:
        sample_rate: Rate of the audio, in hertz.
        n_fft: Length of the Fourier transform, in samples.
        n_chroma: Number of pitch classes in an octave.
        tuning: How far the music's A lies above 440 Hz, in shares of a pitch class.

    Shape:
        Returns ``(n_chroma, n_fft // 2 + 1)``.

    Raises:
        ParameterError: A count is not positive, the matrix is too large, or ``tuning`` is not finite.
    """
    check_positive(sample_rate=sample_rate, n_fft=n_fft, n_chroma=n_chroma)
    check_size(n_chroma, n_fft, what="Chroma filters")
    if not math.isfinite(tuning):
        raise ParameterError(f"tuning must be finite, not {tuning!r}.")
    hertz = np.arange(1, n_fft) * (sample_rate / n_fft)
    pitches = n_chroma * np.log2(hertz / (_A0_HZ * 2 ** (tuning / n_chroma)))
    # 0 Hz has no pitch: an octave and a half below the first bin, its bell is as wide as can be.
    pitches = np.concatenate([[pitches[:1].sum() - 1.5 * n_chroma], pitches])
    widths = np.append(np.maximum(np.diff(pitches), 1.0), 1.0)
    half = np.round(n_chroma / 2)
    distances = (pitches - np.arange(n_chroma)[:, None] + half + 10 * n_chroma) % n_chroma - half
    bells = np.exp(-0.5 * (2 * distances / widths) ** 2)
    bells /= np.linalg.norm(bells, axis=0)
    bells *= np.exp(-0.5 * ((pitches / n_chroma - _CENTRE_OCTAVES) / _WIDTH_OCTAVES) ** 2)
    bank = np.roll(bells, -3 * (n_chroma // 12), axis=0)[:, : n_fft // 2 + 1].astype(np.float32)
    return torch.from_numpy(bank.astype(np.float64))


def chroma(power: Tensor, *, filterbank: Tensor) -> Tensor:
    """Sums a power spectrogram into pitch classes, as ``librosa.feature.chroma_stft`` does with a given tuning.

    Args:
        power: Power by frequency, from :func:`~musgenre.functional.power_spectrogram`.
        filterbank: Weights, from :func:`chroma_filterbank`.

    Shape:
        ``(..., bins, frames)`` with ``(n_chroma, bins)`` to ``(..., n_chroma, frames)``, in [0, 1]; the strongest
        class of a frame is 1, and all are 0 in silence.

    Raises:
        ParameterError: The two differ in ``bins``.

    Example:
        >>> from musgenre.functional import power_spectrogram
        >>> tone = torch.sin(torch.arange(22_050) * (2 * torch.pi * 440 / 22_050))
        >>> chroma(power_spectrogram(tone), filterbank=chroma_filterbank(sample_rate=22_050))[:, 20].argmax().item()
        9
    """
    return normalise_frames(project(power, filterbank))


def tonnetz_matrix(*, n_chroma: int = 12) -> Tensor:
    """Returns the six axes of the tonal centroids: sine and cosine of the circles of fifths, minor and major thirds.

    Harte, Sandler and Gasser, "Detecting harmonic change in musical audio", 2006; thirds have circles of half the size.

    Args:
        n_chroma: Number of pitch classes in an octave.

    Shape:
        Returns ``(6, n_chroma)``, in float64.

    Raises:
        ParameterError: ``n_chroma`` is not positive.

    Example:
        >>> tonnetz_matrix()[:, 0].tolist()  # of C alone  # doctest: +ELLIPSIS
        [6.12...e-17, 1.0, 6.12...e-17, 1.0, 3.06...e-17, 0.5]
    """
    check_positive(n_chroma=n_chroma)
    classes = torch.arange(n_chroma, dtype=torch.float64) * (12 / n_chroma)
    angles = torch.outer(torch.tensor([7 / 6, 7 / 6, 3 / 2, 3 / 2, 2 / 3, 2 / 3], dtype=torch.float64), classes)
    angles[::2] -= 0.5
    radius = torch.tensor([1, 1, 1, 1, 0.5, 0.5], dtype=torch.float64)
    return radius[:, None] * torch.cos(torch.pi * angles)


def tonnetz(chroma: Tensor, *, matrix: Tensor | None = None) -> Tensor:
    """Computes the tonal centroids of pitch classes, as ``librosa.feature.tonnetz`` does from ``chroma``.

    Args:
        chroma: Strengths of the pitch classes, not negative.
        matrix: What :func:`tonnetz_matrix` gives; ``None`` computes it anew.

    Shape:
        ``(..., n_chroma, frames)`` to ``(..., 6, frames)``, in [-1, 1].

    Raises:
        ParameterError: ``matrix`` does not fit.
    """
    axes = tonnetz_matrix(n_chroma=chroma.shape[-2]) if matrix is None else matrix
    return project(normalise_frames(chroma, norm="sum"), axes)


def normalise_frames(spectrum: Tensor, *, norm: Literal["max", "sum"] = "max") -> Tensor:
    """Divides each frame by the largest of its magnitudes, or by their sum, as ``librosa.util.normalize`` does.

    A frame with next to nothing in it (less than the smallest normal number) stays as it is.

    Args:
        spectrum: The frames.
        norm: What becomes 1.

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
