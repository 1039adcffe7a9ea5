"""What follows a power spectrogram: decibels, and cepstral coefficients of them."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from musgenre.core.errors import ParameterError
from musgenre.functional.blocks import by_pieces, change
from musgenre.functional.checks import check_positive, check_size, is_power
from musgenre.functional.mel import project


def to_decibel(
    power: Tensor,
    *,
    reference: float | Literal["max"] = 1.0,
    amin: float = 1e-10,
    floor_db: float | None = 80.0,
    inplace: bool = False,
) -> Tensor:
    """Turns power into decibels, as ``librosa.power_to_db`` does.

    Maxima are taken for each example, over the last two dimensions, where librosa takes one of the whole
    array: what a batch holds beside an example changes nothing about it.

    Args:
        power: Power, not negative.
        reference: Power that becomes 0 dB; ``"max"`` is the example's maximum.
        amin: Lesser powers, and a lesser reference, count as this one.
        floor_db: Decibels below the example's maximum at which it is cut off; ``None`` cuts nothing.
        inplace: Whether ``power`` may be overwritten, as it is where that saves time.

    Shape:
        ``(..., bins, frames)``, unchanged.

    Raises:
        ParameterError: ``reference`` or ``amin`` is not positive, ``floor_db`` is negative, or ``power`` has
            fewer than two dimensions.

    Example:
        >>> to_decibel(torch.tensor([[1e-12, 0.01, 1.0, 100.0]]), reference="max")
        tensor([[-80., -40., -20.,   0.]])
    """
    if reference != "max" and not is_power(reference):
        raise ParameterError(f'reference must be a positive power or "max", not {reference!r}.')
    if not is_power(amin):
        raise ParameterError(f"amin must be a positive power, not {amin!r}.")
    if floor_db is not None and not floor_db >= 0:
        raise ParameterError(f"floor_db must be None or at least 0 dB, not {floor_db!r}.")
    if power.ndim < 2:
        raise ParameterError(f"Power needs the shape (..., bins, frames), not {tuple(power.shape)}.")
    quick = by_pieces(power)
    if quick:
        decibel = power if inplace else power.clone()
        change(decibel, lambda piece: piece.clamp_(min=amin).log10_().mul_(10))
    else:
        decibel = power.clamp(min=amin).log10_().mul_(10)
    peak = decibel.amax(dim=(-2, -1), keepdim=True)
    if reference == "max":
        shift, top = peak, torch.zeros_like(peak)
    else:
        shift = torch.full_like(peak, 10 * math.log10(max(amin, reference)))
        top = peak - shift
    floor = top - (math.inf if floor_db is None else floor_db)
    if not quick:
        return (decibel - shift).clamp(min=floor)
    change(decibel, lambda piece, shift, floor: piece.sub_(shift).clamp_(min=floor), shift, floor)
    return decibel


def dct_matrix(*, n_mfcc: int = 20, n_mels: int = 128) -> Tensor:
    """Returns the first rows of the orthonormal discrete cosine transform of type II, in float64.

    Args:
        n_mfcc: Number of rows, at most ``n_mels``.
        n_mels: Length of what is transformed.

    Shape:
        Returns ``(n_mfcc, n_mels)``.

    Raises:
        ParameterError: A count is not positive, or there are more rows than bands.

    Example:
        >>> basis = dct_matrix(n_mfcc=4, n_mels=4)
        >>> torch.allclose(basis @ basis.T, torch.eye(4, dtype=torch.float64))
        True
    """
    check_positive(n_mfcc=n_mfcc, n_mels=n_mels)
    check_size(n_mfcc, n_mels, what="A cosine transform")
    if n_mfcc > n_mels:
        raise ParameterError(f"n_mfcc ({n_mfcc}) must not exceed n_mels ({n_mels}).")
    order, band = torch.arange(n_mfcc, dtype=torch.float64), torch.arange(n_mels, dtype=torch.float64)
    basis = torch.cos(torch.pi / n_mels * torch.outer(order, band + 0.5)) * math.sqrt(2 / n_mels)
    basis[0] /= math.sqrt(2)
    return basis


def mfcc(decibel: Tensor, *, n_mfcc: int = 20, dct: Tensor | None = None) -> Tensor:
    """Computes mel-frequency cepstral coefficients, as ``librosa.feature.mfcc`` does from ``S``.

    Args:
        decibel: A mel spectrogram in decibels.
        n_mfcc: Number of coefficients, at most ``n_mels``.
        dct: The rows of :func:`dct_matrix`; ``None`` computes them anew.

    Shape:
        ``(..., n_mels, frames)`` to ``(..., n_mfcc, frames)``.

    Raises:
        ParameterError: ``n_mfcc`` exceeds the number of bands, or ``dct`` does not fit.
    """
    basis = dct_matrix(n_mfcc=n_mfcc, n_mels=decibel.shape[-2]) if dct is None else dct[:n_mfcc]
    return project(decibel, basis)
