"""A small convolutional backbone."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn

from musgenre.backbones import Backbone, InputSpec


class SmallCNN(Backbone):
    """Three convolutional blocks with pooling along time, then the mean over bins and frames.

    Args:
        in_channels: Channels of the feature.
        channels: Output channels of the first block; the next blocks have twice and four times as many.

    Shape:
        - Input: ``(batch, in_channels, bins, frames)``, any number of bins, at least 8 frames
        - Output: ``(batch, 4 * channels)``

    Example:
        >>> SmallCNN(in_channels=1)(torch.zeros(2, 1, 8, 44)).shape
        torch.Size([2, 32])
    """

    default_feature = "octave-bands"

    def __init__(self, *, in_channels: int, channels: int = 8) -> None:
        super().__init__()
        self.out_features = 4 * channels
        self.expects = InputSpec(channels=in_channels, min_size=(1, 8))
        widths = (in_channels, channels, 2 * channels, 4 * channels)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(narrow, wide, kernel_size=3, padding=1),
                nn.BatchNorm2d(wide),
                nn.ReLU(),
                nn.MaxPool2d((1, 2)),
            )
            for narrow, wide in itertools.pairwise(widths)
        )

    def stages(self) -> list[nn.Module]:
        """Returns the three convolutional blocks, from input to output."""
        return list(self.blocks)

    def forward(self, feature: Tensor) -> Tensor:
        """Maps ``(batch, in_channels, bins, frames)`` to ``(batch, 4 * channels)``."""
        for block in self.blocks:
            feature = block(feature)
        return torch.mean(feature, dim=(-2, -1))
