"""Size, channels and scale of pictures."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from musgenre import functional
from musgenre.core.errors import ParameterError
from musgenre.transforms.constant import Constant


class Resize(nn.Module):
    """Resizes pictures bilinearly, with antialiasing; see :func:`musgenre.functional.resize`.

    Args:
        size: New height and width, in pixels; one number stands for both.

    Shape:
        ``(..., height, width)`` to ``(..., *size)``.

    Raises:
        ParameterError: The size is not positive.

    Example:
        >>> Resize((64, 96))(torch.rand(2, 3, 128, 130)).shape
        torch.Size([2, 3, 64, 96])
    """

    def __init__(self, size: int | tuple[int, int]) -> None:
        super().__init__()
        height, width = size if isinstance(size, tuple) else (size, size)
        functional.check_positive(height=height, width=width)
        self.size = (height, width)

    def forward(self, picture: Tensor) -> Tensor:
        """Resizes."""
        return functional.resize(picture, size=self.size)


class Channels(nn.Module):
    """Gives a spectrogram a dimension of equal channels.

    Args:
        count: Number of channels.

    Shape:
        ``(..., bins, frames)`` to ``(..., count, bins, frames)``, a view where possible.

    Raises:
        ParameterError: ``count`` is not positive.

    Example:
        >>> Channels(3)(torch.rand(2, 128, 130)).shape
        torch.Size([2, 3, 128, 130])
    """

    def __init__(self, count: int = 1) -> None:
        super().__init__()
        functional.check_positive(count=count)
        self.count = count

    def forward(self, spectrum: Tensor) -> Tensor:
        """Adds the dimension."""
        return spectrum.unsqueeze(-3).expand(*spectrum.shape[:-2], self.count, *spectrum.shape[-2:])


class Normalise(nn.Module):
    """Subtracts a mean from each channel and divides by a deviation.

    Args:
        mean: One number a channel, or one for all.
        std: As many numbers, each above zero.
        inplace: Whether what it is given may be overwritten.

    Shape:
        ``(..., channels, height, width)``, unchanged.

    Raises:
        ParameterError: The two differ in length, are empty or not finite, or a deviation is not above zero.

    Example:
        >>> Normalise(mean=(0.5,), std=(0.25,))(torch.ones(1, 1, 2))
        tensor([[[2., 2.]]])
    """

    def __init__(self, mean: Sequence[float], std: Sequence[float], *, inplace: bool = False) -> None:
        super().__init__()
        self.inplace = inplace
        if len(mean) != len(std) or not mean:
            raise ParameterError(f"Need a mean and a deviation for each channel, not {mean!r} and {std!r}.")
        if not all(map(math.isfinite, (*mean, *std))) or min(std) <= 0:
            raise ParameterError(f"Need finite means, and deviations above zero, not {mean!r} and {std!r}.")
        self.mean = Constant(torch.tensor(mean, dtype=torch.float64))
        self.std = Constant(torch.tensor(std, dtype=torch.float64))

    def forward(self, picture: Tensor) -> Tensor:
        """Normalises."""
        mean, std = self.mean(picture), self.std(picture)
        return functional.normalise(picture, mean=mean, std=std, inplace=self.inplace)
