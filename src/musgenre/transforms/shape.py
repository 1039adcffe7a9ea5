"""Size, channels and normalisation of images."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from musgenre import functional
from musgenre.core.errors import ParameterError
from musgenre.transforms.spectral import Constant


class Resize(nn.Module):
    """Resize images by bilinear interpolation with antialiasing; see :func:`musgenre.functional.resize`.

    Args:
        size: New height and width, in pixels; a single number is used for both.

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

    def forward(self, image: Tensor) -> Tensor:
        """Resize the images."""
        return functional.resize(image, size=self.size)


class Channels(nn.Module):
    """Add a channel dimension to spectrograms by repetition.

    Args:
        count: Number of equal channels.

    Shape:
        ``(..., bins, frames)`` to ``(..., count, bins, frames)``, as a view.

    Raises:
        ParameterError: ``count`` is not a positive integer.

    Example:
        >>> Channels(3)(torch.rand(2, 128, 130)).shape
        torch.Size([2, 3, 128, 130])
    """

    def __init__(self, count: int = 1) -> None:
        super().__init__()
        functional.check_positive(count=count)
        self.count = count

    def forward(self, spectrum: Tensor) -> Tensor:
        """Add the channel dimension."""
        return spectrum.unsqueeze(-3).expand(*spectrum.shape[:-2], self.count, *spectrum.shape[-2:])


class Colormap(nn.Module):
    """Map values from 0 to 1 to red, green and blue, as in a spectrogram that was drawn with matplotlib.

    Values between the 256 colours of the map are interpolated linearly, so that the transform is differentiable;
    matplotlib takes the nearest lower colour. The difference is at most that of two adjacent colours.

    Args:
        name: Name of a colormap of matplotlib, such as ``"magma"``.

    Shape:
        ``(..., bins, frames)`` to ``(..., 3, bins, frames)``, from 0 to 1.

    Raises:
        ParameterError: matplotlib has no such colormap.

    Example:
        >>> Colormap("gray")(torch.tensor([[0.0, 0.5, 1.0]]))[:, 0]
        tensor([[0.0000, 0.5000, 1.0000],
                [0.0000, 0.5000, 1.0000],
                [0.0000, 0.5000, 1.0000]])
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        self.colors = Constant(torch.from_numpy(functional.colors(name) / 255))

    def forward(self, values: Tensor) -> Tensor:
        """Map the values to colours."""
        colors = self.colors(values)
        position = values.clamp(0, 1) * (len(colors) - 1)
        lower = position.detach().floor().clamp(max=len(colors) - 2).long()
        share = (position - lower).unsqueeze(-1)
        mixed: Tensor = colors[lower] * (1 - share) + colors[lower + 1] * share
        return mixed.movedim(-1, -3)


class Normalise(nn.Module):
    """Normalise each channel: subtract a mean and divide by a standard deviation.

    See :func:`musgenre.functional.normalise`.

    Args:
        mean: Mean of each channel, or one value for all channels.
        std: Standard deviation of each channel, positive; as many values as ``mean``.
        inplace: Whether the input may be overwritten.

    Shape:
        ``(..., channels, height, width)``, unchanged.

    Raises:
        ParameterError: ``mean`` and ``std`` differ in length, are empty or not finite, or a standard deviation is not
            positive.

    Example:
        >>> Normalise(mean=(0.5,), std=(0.25,))(torch.ones(1, 1, 2))
        tensor([[[2., 2.]]])
    """

    def __init__(self, mean: Sequence[float], std: Sequence[float], *, inplace: bool = False) -> None:
        super().__init__()
        self.inplace = inplace
        if len(mean) != len(std) or not mean:
            raise ParameterError(
                f"Expected a mean and a standard deviation for each channel, not {mean!r} and {std!r}."
            )
        if not all(map(math.isfinite, (*mean, *std))) or min(std) <= 0:
            raise ParameterError(f"Means must be finite and standard deviations positive, not {mean!r} and {std!r}.")
        self.mean = Constant(torch.tensor(mean, dtype=torch.float64))
        self.std = Constant(torch.tensor(std, dtype=torch.float64))

    def forward(self, image: Tensor) -> Tensor:
        """Normalise the images."""
        mean, std = self.mean(image), self.std(image)
        return functional.normalise(image, mean=mean, std=std, inplace=self.inplace)
