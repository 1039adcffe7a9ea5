"""Pictures: their size and their scale."""

from __future__ import annotations

import torch
from torch import Tensor

from musgenre.core.errors import ParameterError
from musgenre.functional.blocks import by_pieces, change
from musgenre.functional.checks import check_positive


def resize(picture: Tensor, *, size: tuple[int, int]) -> Tensor:
    """Resizes pictures bilinearly.

    Where a picture shrinks, neighbouring pixels are averaged (antialiasing), so that every frame of a long
    song counts; where it grows, this changes nothing.

    Args:
        picture: The pictures.
        size: New height and width, in pixels.

    Shape:
        ``(..., height, width)`` to ``(..., *size)``.

    Raises:
        ParameterError: ``size`` is not positive, or ``picture`` has fewer than two dimensions.

    Example:
        >>> resize(torch.tensor([[0.0, 1.0], [2.0, 3.0]]), size=(1, 1))
        tensor([[1.5000]])
    """
    check_positive(height=size[0], width=size[1])
    if picture.ndim < 2:
        raise ParameterError(f"A picture needs the shape (..., height, width), not {tuple(picture.shape)}.")
    one_channel = picture.reshape(-1, 1, *picture.shape[-2:])
    resized = torch.nn.functional.interpolate(one_channel, size, mode="bilinear", antialias=True)
    return resized.reshape(*picture.shape[:-2], *size)


def normalise(picture: Tensor, *, mean: Tensor, std: Tensor, inplace: bool = False) -> Tensor:
    """Subtracts a mean from each channel and divides by a deviation.

    Args:
        picture: The pictures.
        mean: ``(channels,)``, or ``(1,)`` for all channels alike.
        std: ``(channels,)`` or ``(1,)``.
        inplace: Whether ``picture`` may be overwritten, as it is where that saves time.

    Shape:
        ``(..., channels, height, width)``, unchanged.
    """
    if inplace and mean.numel() == std.numel() == 1 and by_pieces(picture, mean, std):
        mean, std = mean.to(picture), std.to(picture)
        change(picture, lambda piece: piece.sub_(mean).div_(std))
        return picture
    return (picture - mean.to(picture)[:, None, None]).div_(std.to(picture)[:, None, None])
