"""Resizing, normalisation and colours of images."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from musgenre.core.errors import ParameterError
from musgenre.functional.blocks import apply_in_blocks, can_use_blocks
from musgenre.functional.checks import check_positive


def resize(image: Tensor, *, size: tuple[int, int]) -> Tensor:
    """Resize images by bilinear interpolation with antialiasing.

    Antialiasing averages neighbouring pixels where an image shrinks, so that every frame of a long spectrogram
    contributes. It has no effect where an image grows. The interpolation is that of
    :func:`torch.nn.functional.interpolate`.

    Args:
        image: The images.
        size: New height and width, in pixels.

    Shape:
        ``(..., height, width)`` to ``(..., *size)``.

    Raises:
        ParameterError: ``size`` is not positive, or ``image`` has fewer than two dimensions.

    Example:
        >>> resize(torch.tensor([[0.0, 1.0], [2.0, 3.0]]), size=(1, 1))
        tensor([[1.5000]])
    """
    check_positive(height=size[0], width=size[1])
    if image.ndim < 2:
        raise ParameterError(f"An image needs the shape (..., height, width), not {tuple(image.shape)}.")
    one_channel = image.reshape(-1, 1, *image.shape[-2:])
    resized = torch.nn.functional.interpolate(one_channel, size, mode="bilinear", antialias=True)
    return resized.reshape(*image.shape[:-2], *size)


def normalise(image: Tensor, *, mean: Tensor, std: Tensor, inplace: bool = False) -> Tensor:
    """Normalise each channel: subtract a mean and divide by a standard deviation.

    Args:
        image: The images.
        mean: Mean of each channel, in the units of ``image``; ``(channels,)``, or ``(1,)`` for all channels.
        std: Standard deviation of each channel, positive; ``(channels,)`` or ``(1,)``.
        inplace: Whether ``image`` may be overwritten. It is only where that saves time.

    Shape:
        ``(..., channels, height, width)``, unchanged.

    Example:
        >>> normalise(torch.tensor([[[1.0, 2.0]]]), mean=torch.tensor([1.0]), std=torch.tensor([0.5]))
        tensor([[[0., 2.]]])
    """
    if inplace and mean.numel() == std.numel() == 1 and can_use_blocks(image, mean, std):
        mean, std = mean.to(image), std.to(image)
        apply_in_blocks(image, lambda block: block.sub_(mean).div_(std))
        return image
    return (image - mean.to(image)[:, None, None]).div_(std.to(image)[:, None, None])


def colors(name: str) -> npt.NDArray[np.uint8]:
    """Return the colours of a colormap of matplotlib, as it draws them.

    Args:
        name: Name of the colormap, such as ``"magma"``.

    Shape:
        returns: ``(colours, 3)``: red, green and blue from 0 to 255, for values from the lowest to the highest; most
        maps have 256 colours

    Raises:
        ParameterError: There is no such colormap.

    Example:
        >>> colors("gray").shape, colors("gray")[-1].tolist()
        ((256, 3), [255, 255, 255])
    """
    import matplotlib

    if name not in matplotlib.colormaps:
        raise ParameterError(f"matplotlib has no colormap {name!r}; librosa's spectrograms have 'magma'.")
    colormap = matplotlib.colormaps[name]
    table: npt.NDArray[np.uint8] = np.asarray(colormap(np.arange(colormap.N), bytes=True))[:, :3]
    return table
