"""What sounds on and what is struck: the two parts of a spectrogram."""

from __future__ import annotations

import torch
from torch import Tensor

from musgenre.core.errors import ParameterError
from musgenre.functional.checks import check_positive

_MOST = 99


def hpss(power: Tensor, *, kernel_size: int = 31) -> tuple[Tensor, Tensor]:
    """Separates a power spectrogram into its harmonic and its percussive part, as ``librosa.decompose.hpss`` does.

    A tone is a line along time, a stroke one across all frequencies: medians along one and along the other say to which
    of the two each cell belongs, and in which shares (Fitzgerald, "Harmonic/percussive separation using median
    filtering", 2010; masks as in librosa, with ``power=2`` and ``margin=1``).

    Args:
        power: Power by frequency. librosa takes magnitudes, whose medians and masks are the roots of these.
        kernel_size: Frames, and bins, that each median is of; odd.

    Shape:
        ``(..., bins, frames)`` to two of the same.

    Raises:
        ParameterError: ``kernel_size`` is not odd, or not from 1 to 99.

    Example:
        >>> power = torch.zeros(64, 64)
        >>> power[:, 20] = power[30] = 1.0
        >>> harmonic, percussive = hpss(power)
        >>> harmonic[30, 40].item(), percussive[30, 40].item(), percussive[10, 20].item()
        (1.0, 0.0, 1.0)
    """
    along_time = median_filter(power, size=kernel_size, dim=-1)
    along_frequency = median_filter(power, size=kernel_size, dim=-2)
    larger = along_time.maximum(along_frequency)
    # Where neither is anything, each gets half; elsewhere the larger becomes 1, so that no square overflows.
    nothing = larger < torch.finfo(power.dtype).tiny
    scale = larger.masked_fill(nothing, 1.0)
    harmonic, percussive = along_time / scale, along_frequency / scale
    share = (harmonic / (harmonic + percussive).masked_fill(nothing, 1.0)).masked_fill(nothing, 0.5)
    return power * share.square(), power * (1 - share).square()


def median_filter(values: Tensor, *, size: int, dim: int) -> Tensor:
    """Returns the median of the neighbours of each value, as ``scipy.ndimage.median_filter`` does by default.

    Args:
        values: The values; beyond the ends they are mirrored, as often as need be.
        size: How many neighbours, itself among them; odd.
        dim: Along which dimension.

    Shape:
        ``(...)``, unchanged.

    Raises:
        ParameterError: ``size`` is not odd, or not from 1 to 99.

    Example:
        >>> median_filter(torch.tensor([1.0, 9.0, 2.0, 3.0, 3.0]), size=3, dim=0)
        tensor([1., 2., 3., 3., 3.])
    """
    check_positive(size=size)
    if size % 2 == 0 or size > _MOST:
        raise ParameterError(f"The median needs an odd number of values, at most {_MOST}, not {size}.")
    length, half = values.shape[dim], size // 2
    places = torch.arange(-half, length + half, device=values.device) % (2 * length)
    places = places.minimum(2 * length - 1 - places)
    mirrored = values.index_select(dim, places)
    # The neighbours of all values are sorted together, as far as the median needs it: a fifth of torch.median's time.
    neighbours = [mirrored.narrow(dim, start, length) for start in range(size)]
    for low, high in _comparisons(size):
        one, other = neighbours[low], neighbours[high]
        neighbours[low], neighbours[high] = one.minimum(other), one.maximum(other)
    return neighbours[half]


def _comparisons(size: int) -> list[tuple[int, int]]:
    """Returns which places to compare, and swap if need be, to get the median into the middle.

    Batcher, "Sorting networks and their applications", 1968: odd-even merge sort, without what the middle does not
    depend on.
    """
    sorting = [
        (first, first + step)
        for run in _doubling(size)
        for step in reversed(_doubling(2 * run))
        for start in range(step % run, size - step, 2 * step)
        for first in range(start, min(start + step, size - step))
        if first // (2 * run) == (first + step) // (2 * run)
    ]
    needed, kept = {size // 2}, []
    for pair in reversed(sorting):
        if needed & {*pair}:
            needed |= {*pair}
            kept.append(pair)
    return kept[::-1]


def _doubling(below: int) -> list[int]:
    """Returns the powers of two below a number."""
    return [2**power for power in range((below - 1).bit_length())]
