"""Decibels and mel-frequency cepstral coefficients."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from musgenre.core.errors import ParameterError
from musgenre.functional.blocks import apply_in_blocks, can_use_blocks
from musgenre.functional.checks import check_matrix_size, check_positive, is_positive_finite
from musgenre.functional.mel import project


def to_decibel(
    power: Tensor,
    *,
    reference: float | Literal["max"] = 1.0,
    amin: float = 1e-10,
    floor_db: float | None = 80.0,
    inplace: bool = False,
) -> Tensor:
    """Convert power to decibels, as ``librosa.power_to_db`` does.

    The result is ``10 * log10(power / reference)``. Maxima are taken over the last two dimensions, separately for each
    example, so that the result of an example does not depend on the rest of its batch. librosa takes one maximum over
    the whole array.

    Args:
        power: Power, not negative.
        reference: Power that corresponds to 0 dB, positive; ``"max"`` is the maximum of the example.
        amin: Lower limit of ``power`` and ``reference``, positive.
        floor_db: Dynamic range below the maximum of the example, in decibels; lower values are clipped. ``None``
            disables clipping.
        inplace: Whether ``power`` may be overwritten. It is only where that saves time.

    Shape:
        ``(..., bins, frames)``, unchanged.

    Raises:
        ParameterError: ``reference`` or ``amin`` is not positive, ``floor_db`` is negative, or ``power`` has
            fewer than two dimensions.

    Example:
        >>> to_decibel(torch.tensor([[1e-12, 0.01, 1.0, 100.0]]), reference="max")
        tensor([[-80., -40., -20.,   0.]])
    """
    if reference != "max" and not is_positive_finite(reference):
        raise ParameterError(f'reference must be a positive power or "max", not {reference!r}.')
    if not is_positive_finite(amin):
        raise ParameterError(f"amin must be a positive power, not {amin!r}.")
    if floor_db is not None and not floor_db >= 0:
        raise ParameterError(f"floor_db must be None or at least 0 dB, not {floor_db!r}.")
    if power.ndim < 2:
        raise ParameterError(f"Power needs the shape (..., bins, frames), not {tuple(power.shape)}.")
    in_blocks = can_use_blocks(power)
    if in_blocks:
        decibel = power if inplace else power.clone()
        apply_in_blocks(decibel, lambda block: block.clamp_(min=amin).log10_().mul_(10))
    else:
        decibel = power.clamp(min=amin).log10_().mul_(10)
    peak = decibel.amax(dim=(-2, -1), keepdim=True)
    if reference == "max":
        offset, top = peak, torch.zeros_like(peak)
    else:
        offset = torch.full_like(peak, 10 * math.log10(max(amin, reference)))
        top = peak - offset
    floor = top - (math.inf if floor_db is None else floor_db)
    if not in_blocks:
        return (decibel - offset).clamp(min=floor)
    apply_in_blocks(decibel, lambda block, offset, floor: block.sub_(offset).clamp_(min=floor), offset, floor)
    return decibel


def dct_matrix(*, n_mfcc: int = 20, n_mels: int = 128) -> Tensor:
    """Construct the first rows of the orthonormal discrete cosine transform of type II.

    Equal to ``scipy.fft.dct(..., type=2, norm="ortho")``.

    Args:
        n_mfcc: Number of rows, at most ``n_mels``.
        n_mels: Length of the transform, in mel bands.

    Shape:
        Returns ``(n_mfcc, n_mels)``, in float64.

    Raises:
        ParameterError: A count is not a positive integer, the matrix is too large, or ``n_mfcc`` exceeds ``n_mels``.

    Example:
        >>> basis = dct_matrix(n_mfcc=4, n_mels=4)
        >>> torch.allclose(basis @ basis.T, torch.eye(4, dtype=torch.float64))
        True

    See Also:
        :func:`mfcc`
    """
    check_positive(n_mfcc=n_mfcc, n_mels=n_mels)
    check_matrix_size(n_mfcc, n_mels, name="cosine transform")
    if n_mfcc > n_mels:
        raise ParameterError(f"n_mfcc ({n_mfcc}) must not exceed n_mels ({n_mels}).")
    order, band = torch.arange(n_mfcc, dtype=torch.float64), torch.arange(n_mels, dtype=torch.float64)
    basis = torch.cos(torch.pi / n_mels * torch.outer(order, band + 0.5)) * math.sqrt(2 / n_mels)
    basis[0] /= math.sqrt(2)
    return basis


def mfcc(decibel: Tensor, *, n_mfcc: int = 20, dct: Tensor | None = None) -> Tensor:
    """Compute mel-frequency cepstral coefficients, as ``librosa.feature.mfcc`` does from ``S``.

    Args:
        decibel: A mel spectrogram in decibels.
        n_mfcc: Number of coefficients, at most ``n_mels``.
        dct: Precomputed rows of :func:`dct_matrix`; ``None`` computes them.

    Shape:
        ``(..., n_mels, frames)`` to ``(..., n_mfcc, frames)``.

    Raises:
        ParameterError: ``n_mfcc`` exceeds the number of bands, or the shape of ``dct`` is wrong.

    See Also:
        :func:`to_decibel`, :func:`~musgenre.functional.mel_spectrogram`
    """
    basis = dct_matrix(n_mfcc=n_mfcc, n_mels=decibel.shape[-2]) if dct is None else dct[:n_mfcc]
    return project(decibel, basis)
