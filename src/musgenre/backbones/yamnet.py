"""YAMNet: a small network pretrained on AudioSet's 521 classes of sound, among them music.

It is MobileNet v1 (Howard et al., "MobileNets: Efficient Convolutional Neural Networks for Mobile Vision
Applications", 2017, arXiv:1704.04861) on patches of a log-mel spectrogram, as implemented in TensorFlow's model
garden, ``research/audioset/yamnet`` (Plakal and Ellis; code and weights under the Apache License 2.0).
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor, nn

from musgenre.backbones.base import Backbone, InputSpec
from musgenre.backbones.yamnet_weights import CACHE_PATH, load_weights
from musgenre.core.download import cache_directory
from musgenre.core.errors import ConfigError
from musgenre.functional import frame

PATCH_FRAMES = 96
PATCH_HOP_FRAMES = 48
N_MELS = 64

_CLASSES = 521
_STEM_CHANNELS = 32
# Of each group: channels, stride of the first block, and number of blocks.
_GROUPS = ((64, 1, 1), (128, 2, 2), (256, 2, 2), (512, 2, 6), (1024, 2, 2))
_NAMES = (
    "layer1/conv",
    *(f"layer{number}/{kind}_conv" for number in range(2, 15) for kind in ("depthwise", "pointwise")),
)


class YAMNet(Backbone):
    """YAMNet without its output layer: 14 layers, 3.2 M parameters.

    A window is divided into patches of 96 frames (0.96 s) with a hop of 48; remaining frames at its end are ignored.
    Each patch is mapped to an embedding, and the window's vector is the mean of the embeddings.

    The batch normalisation after each convolution is folded into the convolution, with the published statistics. The
    network therefore computes the same in training and evaluation mode and is suited to small batches; it is meant for
    fine-tuning the pretrained weights, not for training from random weights.

    Args:
        in_channels: Must be 1.
        weights: ``"audioset"`` for the official ``yamnet.h5`` (15 MB, downloaded once to the user's cache), the path
            of that file or of a TFLite version of YAMNet (quantised or not), or ``None`` for random weights. Reading
            either file requires the extra ``musgenre[yamnet]``.

    Shape:
        - Input: ``(batch, 1, 64, frames)``, the feature ``yamnet-logmel`` with at least 96 frames
        - Output: ``(batch, 1024)``

    Raises:
        ConfigError: ``in_channels`` is not 1, or the feature has the wrong shape.
        WeightsError: The weights cannot be downloaded or read, or do not match the network.

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
            load_weights(layers, weights)
        else:
            for layer in layers.values():
                _initialise(layer)

    def stages(self) -> list[nn.Module]:
        """Returns the first convolution, then the 13 blocks in five groups, each of one width."""
        return [self.stem, *self.groups]

    @classmethod
    def cached_weights(cls, name: str) -> Path:
        """Returns the path of the official file in the user's cache."""
        return cache_directory(*CACHE_PATH)

    def forward(self, feature: Tensor) -> Tensor:
        """Maps ``(batch, 1, 64, frames)`` to the mean embedding of all patches, ``(batch, 1024)``."""
        return self.embed_patches(feature).mean(dim=1)

    def embed_patches(self, feature: Tensor) -> Tensor:
        """Maps ``(batch, 1, 64, frames)`` to one embedding per patch, ``(batch, patches, 1024)``.

        Raises:
            ConfigError: The feature has the wrong shape, or fewer than 96 frames.
        """
        if feature.shape[1:3] != (1, N_MELS) or feature.shape[3] < PATCH_FRAMES:
            raise ConfigError(
                f"yamnet expects a feature of (batch, 1, {N_MELS}, at least {PATCH_FRAMES}), not "
                f"{tuple(feature.shape)}: use the feature 'yamnet-logmel' with windows of at least 0.975 s."
            )
        patches = frame(feature[:, 0], frame_length=PATCH_FRAMES, hop_length=PATCH_HOP_FRAMES)
        # From (batch, bins, patches, frames) to TensorFlow's layout, in which the first axis of a patch is time.
        maps = patches.permute(0, 2, 3, 1).reshape(-1, 1, PATCH_FRAMES, N_MELS)
        for stage in self.stages():
            maps = stage(maps)
        return maps.mean(dim=(-2, -1)).reshape(-1, patches.shape[2], self.out_features)

    def upsample_maps(self, maps: Tensor, *, size: tuple[int, int]) -> Tensor:
        """Upsamples the transposed maps to the positions of the patches, and averages them where patches overlap.

        Shape:
            - Input: ``(patches, 1, rows, columns)``, with time as rows
            - Output: ``(64, frames)``; 0 at frames that belong to no patch
        """
        upsampled = nn.functional.interpolate(
            maps, (PATCH_FRAMES, N_MELS), mode="bilinear", align_corners=False
        ).transpose(-2, -1)
        total, count = maps.new_zeros(size), maps.new_zeros(size)
        for number, patch in enumerate(upsampled[:, 0]):
            frames = slice(number * PATCH_HOP_FRAMES, number * PATCH_HOP_FRAMES + PATCH_FRAMES)
            total[:, frames] += patch
            count[:, frames] += 1
        return total / count.clamp(min=1)


class AudioSetScores(nn.Module):
    """YAMNet's output layer: maps an embedding to the scores of AudioSet's 521 classes.

    The classes are not exclusive. Their order is that of ``yamnet_class_map.csv``, which is published with the
    network. The scores of a window are the mean over its patches:
    ``AudioSetScores(weights=path)(yamnet.embed_patches(feature)).mean(dim=1)``.

    Args:
        weights: See :class:`YAMNet`.

    Shape:
        - Input: ``(..., 1024)``
        - Output: ``(..., 521)``, in [0, 1]

    Raises:
        WeightsError: The weights cannot be downloaded or read, or do not match the layer.
    """

    def __init__(self, *, weights: str | None = "audioset") -> None:
        super().__init__()
        self.dense = nn.Linear(_GROUPS[-1][0], _CLASSES)
        if weights is not None:
            load_weights({"logits": self.dense}, weights)

    def forward(self, embedding: Tensor) -> Tensor:
        """Maps embeddings to scores."""
        return torch.sigmoid(self.dense(embedding))


def _convolution(in_channels: int, channels: int, *, stride: int, groups: int = 1) -> list[nn.Module]:
    # TensorFlow's "SAME" padding: one zero on each side for stride 1; for stride 2 and an even size, one zero at the
    # end. All sizes are even for patches of 96 x 64.
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


def _initialise(layer: nn.Conv2d) -> None:
    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
