"""YAMNet: a small network that knows AudioSet's 521 kinds of sound, music among them.

It is MobileNet v1 (Howard et al., "MobileNets: Efficient Convolutional Neural Networks for Mobile Vision
Applications", 2017, arXiv:1704.04861) on patches of a spectrogram, as TensorFlow's model garden has it in
``research/audioset/yamnet`` (Plakal and Ellis; code and weights under the Apache License 2.0).
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor, nn

from musgenre.backbones.base import Backbone, InputSpec
from musgenre.backbones.yamnet_weights import CACHED, fill
from musgenre.core.download import cache_directory
from musgenre.core.errors import ConfigError
from musgenre.functional import frame

PATCH_FRAMES = 96
PATCH_HOP_FRAMES = 48
N_MELS = 64

_CLASSES = 521
_STEM_CHANNELS = 32
# Channels, stride of the first block, and number of blocks of each group.
_GROUPS = ((64, 1, 1), (128, 2, 2), (256, 2, 2), (512, 2, 6), (1024, 2, 2))
_NAMES = (
    "layer1/conv",
    *(f"layer{number}/{kind}_conv" for number in range(2, 15) for kind in ("depthwise", "pointwise")),
)


class YAMNet(Backbone):
    """YAMNet up to its embedding: 14 layers, 3.2 M parameters.

    A window is cut into patches of 96 frames (0.96 s) every 48; what is left at its end is not heard. Each patch
    becomes an embedding, and the window's vector is their mean.

    The batch normalisation that follows each convolution is folded into it, as the published statistics have it. So
    the network is the same in training as in evaluation, and small batches do it no harm; it is made for being
    fine-tuned from its weights, not for being trained from random ones.

    Args:
        in_channels: Must be 1.
        weights: ``"audioset"`` for the official ``yamnet.h5`` (15 MB, downloaded once and kept in the user's
            cache), the path of that file or of a TFLite version of YAMNet (quantised or not), or ``None`` for random
            weights. Reading either file takes the extra ``musgenre[yamnet]``.

    Shape:
        - Input: ``(batch, 1, 64, frames)`` of the feature ``yamnet-logmel``, at least 96 frames
        - Output: ``(batch, 1024)``

    Raises:
        ConfigError: ``in_channels`` is not 1; later, the feature has another shape.
        WeightsError: The weights cannot be downloaded or read, or do not fit.

    Example:
        >>> YAMNet(weights=None)(torch.zeros(2, 1, 64, 298)).shape
        torch.Size([2, 1024])
    """

    default_feature: ClassVar[str] = "yamnet-logmel"
    named_weights: ClassVar[tuple[str, ...]] = ("audioset",)

    def __init__(self, *, in_channels: int = 1, weights: str | None = "audioset") -> None:
        super().__init__()
        if in_channels != 1:
            raise ConfigError(f"yamnet expects 1 channel, got {in_channels}: use the feature 'yamnet-logmel'.")
        self.expects = InputSpec(channels=1, min_size=(N_MELS, PATCH_FRAMES))
        self.stem = nn.Sequential(*_convolution(1, _STEM_CHANNELS, stride=2))
        self.groups = nn.ModuleList()
        channels = _STEM_CHANNELS
        for width, stride, count in _GROUPS:
            blocks = [_separable(channels, width, stride=stride)]
            blocks += [_separable(width, width, stride=1) for _ in range(count - 1)]
            self.groups.append(nn.Sequential(*blocks))
            channels = width
        self.out_features = channels
        self.pretrained = weights is not None
        layers = dict(zip(_NAMES, (layer for layer in self.modules() if isinstance(layer, nn.Conv2d)), strict=True))
        if weights is not None:
            fill(layers, weights)
        else:
            for layer in layers.values():
                _draw(layer)

    def stages(self) -> list[nn.Module]:
        """Returns the first convolution, then the 13 blocks in five groups of equal width."""
        return [self.stem, *self.groups]

    @classmethod
    def cached_weights(cls, name: str) -> Path:
        """Returns where the official file stands in the user's cache."""
        return cache_directory(*CACHED)

    def forward(self, feature: Tensor) -> Tensor:
        """Maps ``(batch, 1, 64, frames)`` to the mean embedding of the patches, ``(batch, 1024)``."""
        return self.embed_patches(feature).mean(dim=1)

    def embed_patches(self, feature: Tensor) -> Tensor:
        """Maps ``(batch, 1, 64, frames)`` to one embedding a patch, ``(batch, patches, 1024)``.

        Raises:
            ConfigError: The feature has another shape, or fewer than 96 frames.
        """
        if feature.shape[1:3] != (1, N_MELS) or feature.shape[3] < PATCH_FRAMES:
            raise ConfigError(
                f"yamnet expects a feature of (batch, 1, {N_MELS}, at least {PATCH_FRAMES}), not "
                f"{tuple(feature.shape)}: use the feature 'yamnet-logmel' with windows of at least 0.975 s."
            )
        patches = frame(feature[:, 0], frame_length=PATCH_FRAMES, hop_length=PATCH_HOP_FRAMES)
        # (batch, bins, patches, frames) to pictures as TensorFlow has them: time downwards.
        pictures = patches.permute(0, 2, 3, 1).reshape(-1, 1, PATCH_FRAMES, N_MELS)
        for stage in self.stages():
            pictures = stage(pictures)
        return pictures.mean(dim=(-2, -1)).reshape(-1, patches.shape[2], self.out_features)

    def onto_picture(self, maps: Tensor, *, size: tuple[int, int]) -> Tensor:
        """Turns the maps of the patches and lays them where the patches were; where two overlap, their mean counts.

        Shape:
            ``(patches, 1, rows, columns)``, time downwards, to ``(64, frames)``; 0 where no patch reaches.
        """
        stretched = nn.functional.interpolate(
            maps, (PATCH_FRAMES, N_MELS), mode="bilinear", align_corners=False
        ).transpose(-2, -1)
        total, count = maps.new_zeros(size), maps.new_zeros(size)
        for number, patch in enumerate(stretched[:, 0]):
            frames = slice(number * PATCH_HOP_FRAMES, number * PATCH_HOP_FRAMES + PATCH_FRAMES)
            total[:, frames] += patch
            count[:, frames] += 1
        return total / count.clamp(min=1)


class AudioSetScores(nn.Module):
    """YAMNet's own output layer: from an embedding to the scores of AudioSet's 521 classes.

    The classes are independent of each other, and their order is that of ``yamnet_class_map.csv``, which is
    published beside the network. The scores of a window are the mean over its patches:
    ``AudioSetScores(weights=path)(yamnet.embed_patches(feature)).mean(dim=1)``.

    Args:
        weights: As :class:`YAMNet` has it.

    Shape:
        - Input: ``(..., 1024)``
        - Output: ``(..., 521)``, in [0, 1]

    Raises:
        WeightsError: The weights cannot be downloaded or read, or do not fit.
    """

    def __init__(self, *, weights: str | None = "audioset") -> None:
        super().__init__()
        self.dense = nn.Linear(_GROUPS[-1][0], _CLASSES)
        if weights is not None:
            fill({"logits": self.dense}, weights)

    def forward(self, embedding: Tensor) -> Tensor:
        """Maps embeddings to scores."""
        return torch.sigmoid(self.dense(embedding))


def _convolution(in_channels: int, channels: int, *, stride: int, groups: int = 1) -> list[nn.Module]:
    # TensorFlow's "SAME": in all 2 zeros are needed at stride 1, and 1 zero, at the end, at stride 2 of an even size;
    # with patches of 96 x 64 every size is even.
    before = 1 if stride == 1 else 0
    return [
        nn.ZeroPad2d((before, 1, before, 1)),
        nn.Conv2d(in_channels, channels, kernel_size=3, stride=stride, groups=groups),
        nn.ReLU(inplace=True),
    ]


def _separable(in_channels: int, channels: int, *, stride: int) -> nn.Sequential:
    return nn.Sequential(
        *_convolution(in_channels, in_channels, stride=stride, groups=in_channels),
        nn.Conv2d(in_channels, channels, kernel_size=1),
        nn.ReLU(inplace=True),
    )


def _draw(layer: nn.Conv2d) -> None:
    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
