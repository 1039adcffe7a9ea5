"""YAMNet: a small network pretrained on AudioSet's 521 classes of sound, among them music.

It is MobileNet v1 (Howard et al., "MobileNets: Efficient Convolutional Neural Networks for Mobile Vision
Applications", 2017, arXiv:1704.04861) on patches of a log-mel spectrogram, as implemented in TensorFlow's model
garden, ``research/audioset/yamnet`` (Plakal and Ellis; code and weights under the Apache License 2.0).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple, TypeAlias, get_args

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
STRIDE = 32
"""Frames per column of the last maps."""

Pooling: TypeAlias = Literal["mean", "mean-std"]

_CLASSES = 521
_MAX_TIME_SCALE = 8
_LEAST_VARIANCE = 1e-8  # the gradient of the root of 0 is infinite


class _Layer(NamedTuple):
    channels: int
    stride: int


_LAYERS = (
    _Layer(32, 2),
    *(_Layer(64, 1), _Layer(128, 2), _Layer(128, 1), _Layer(256, 2), _Layer(256, 1)),
    *(_Layer(512, 2), *(_Layer(512, 1) for _ in range(5))),
    *(_Layer(1024, 2), _Layer(1024, 1)),
)
_NAMES = (
    "layer1/conv",
    *(f"layer{number}/{kind}_conv" for number in range(2, 15) for kind in ("depthwise", "pointwise")),
)


class YAMNet(Backbone):
    """YAMNet without its output layer: 14 layers, 3.2 M parameters.

    A window is divided into patches of 96 frames (0.96 s) with a hop of 48; remaining frames at its end are ignored.
    Each patch is mapped to an embedding, and the window's vector is the mean of the embeddings. Without patches, the
    convolutions are applied to the entire window.

    A frozen network of fewer layers can be more accurate than the entire one, in particular for spectrograms other than
    those on which YAMNet was trained: ``scripts/measure_layers.py`` compares the layers.

    The batch normalisation after each convolution is folded into the convolution, with the published statistics. The
    network therefore computes the same in training and evaluation mode and is suited to small batches; it is meant for
    fine-tuning the pretrained weights, not for training from random weights.

    Args:
        in_channels: Must be 1.
        patches: Whether to divide windows into patches, as in YAMNet. Without, a window needs 32 frames only.
        layers: Number of layers, from 1 to 14. If several numbers are given, the outputs of all these layers are pooled
            and concatenated.
        pooling: ``"mean"`` of a layer's output over the frames and bands of a patch, or ``"mean-std"``, the mean and
            the standard deviation, which doubles the length of the vector.
        time_scales: Factors of the number of frames. For each of them, the feature is interpolated along the time axis
            and the same layers are applied; the vectors are concatenated. ``(1, 2)`` lets the network, which was
            trained on 100 frames per second, analyse fewer frames per second at two time scales. Grad-CAM uses the
            maps of the last scale.
        weights: ``"audioset"`` for the official ``yamnet.h5`` (15 MB, downloaded once to the user's cache), the path
            of that file or of a TFLite version of YAMNet (quantised or not), or ``None`` for random weights. Reading
            either file requires the extra ``musgenre[yamnet]``.

    Shape:
        - Input: ``(batch, 1, 64, frames)``, the feature ``yamnet-logmel`` or ``yamnet-mel`` with at least 96 frames (32
          without patches)
        - Output: ``(batch, 1024)``; in general, the sum of the channels of the ``layers``, twice that for
          ``"mean-std"``, times the number of ``time_scales``

    Raises:
        ConfigError: ``in_channels`` is not 1, another option is not valid, or the feature has the wrong shape.
        WeightsError: The weights cannot be downloaded or read, or do not match the network.

    Example:
        >>> YAMNet(weights=None)(torch.zeros(2, 1, 64, 298)).shape
        torch.Size([2, 1024])
        >>> YAMNet(patches=False, layers=(7, 9), pooling="mean-std", time_scales=(1, 2), weights=None).out_features
        4096
    """

    default_feature: ClassVar[str] = "yamnet-logmel"
    named_weights: ClassVar[tuple[str, ...]] = ("audioset",)

    def __init__(
        self,
        *,
        in_channels: int = 1,
        patches: bool = True,
        layers: int | Sequence[int] = len(_LAYERS),
        pooling: Pooling = "mean",
        time_scales: Sequence[int] = (1,),
        weights: str | None = "audioset",
    ) -> None:
        super().__init__()
        if in_channels != 1:
            raise ConfigError(f"yamnet expects 1 channel, got {in_channels}: use the feature 'yamnet-logmel'.")
        pooled = (layers,) if isinstance(layers, int) else layers
        if not _are_distinct(pooled, most=len(_LAYERS)) or pooling not in get_args(Pooling):
            raise ConfigError(
                f"yamnet needs layers from 1 to {len(_LAYERS)} and pooling 'mean' or 'mean-std', got {layers!r} and "
                f"{pooling!r}."
            )
        if not _are_distinct(time_scales, most=_MAX_TIME_SCALE):
            raise ConfigError(
                f"yamnet needs one or more different time_scales from 1 to {_MAX_TIME_SCALE}, got {time_scales!r}."
            )
        self.patches = patches
        self.layers = tuple(sorted(pooled))
        self.pooling = pooling
        self.time_scales = tuple(time_scales)
        self.expects = InputSpec(channels=1, min_size=(N_MELS, PATCH_FRAMES if patches else STRIDE))
        self.stem = nn.Sequential(*_convolution(1, _LAYERS[0].channels, stride=2))
        groups: dict[int, list[nn.Module]] = {}  # by width
        for before, layer in itertools.pairwise(_LAYERS[: self.layers[-1]]):
            block = _separable(before.channels, layer.channels, stride=layer.stride)
            groups.setdefault(layer.channels, []).append(block)
        self.groups = nn.ModuleList(nn.Sequential(*blocks) for blocks in groups.values())
        channels = sum(_LAYERS[number - 1].channels for number in self.layers)
        self.out_features = channels * (2 if pooling == "mean-std" else 1) * len(self.time_scales)
        self.pretrained = weights is not None
        convolutions = [layer for layer in self.modules() if isinstance(layer, nn.Conv2d)]
        if weights is not None:
            load_weights(dict(zip(_NAMES, convolutions, strict=False)), weights)
        else:
            for convolution in convolutions:
                _initialise(convolution)

    def stages(self) -> list[nn.Module]:
        """Returns the first layer, then the other ones in at most five groups, each of one width."""
        return [self.stem, *self.groups]

    @classmethod
    def cached_weights(cls, name: str) -> Path:
        """Returns the path of the official file in the user's cache."""
        return cache_directory(*CACHE_PATH)

    def forward(self, feature: Tensor) -> Tensor:
        """Maps ``(batch, 1, 64, frames)`` to the mean embedding of all patches, ``(batch, out_features)``."""
        return self.embed_patches(feature).mean(dim=1)

    def embed_patches(self, feature: Tensor) -> Tensor:
        """Maps ``(batch, 1, 64, frames)`` to one embedding per patch, ``(batch, patches, out_features)``.

        Raises:
            ConfigError: The feature has the wrong shape, or too few frames.
        """
        least = self.expects.min_size[1]
        if feature.shape[1:3] != (1, N_MELS) or feature.shape[3] < least:
            raise ConfigError(
                f"yamnet expects a feature of (batch, 1, {N_MELS}, at least {least}), not {tuple(feature.shape)}: use "
                "the feature 'yamnet-logmel' with windows of at least 0.975 s, or 'yamnet-mel'."
            )
        length, hop = (PATCH_FRAMES, PATCH_HOP_FRAMES) if self.patches else (feature.shape[3], 1)
        patches = frame(feature[:, 0], frame_length=length, hop_length=hop)
        # From (batch, bins, patches, frames) to TensorFlow's layout, in which the first axis of a patch is time.
        maps = patches.permute(0, 2, 3, 1).reshape(-1, 1, length, N_MELS)
        vectors = [vector for scale in self.time_scales for vector in self._pooled_outputs(_stretch(maps, scale))]
        return torch.cat(vectors, dim=1).reshape(-1, patches.shape[2], self.out_features)

    def _pooled_outputs(self, maps: Tensor) -> Iterator[Tensor]:
        """Yield mean, and standard deviation if configured, of the output of each of the configured layers."""
        blocks = itertools.chain([self.stem], *self.groups)
        for number, block in enumerate(blocks, start=1):
            maps = block(maps)
            if number in self.layers:
                mean = maps.mean(dim=(-2, -1), keepdim=True)
                yield mean.flatten(1)
                if self.pooling == "mean-std":
                    # On a CPU, Tensor.var takes twenty times as long.
                    variance = (maps - mean).square().mean(dim=(-2, -1))
                    yield (variance + _LEAST_VARIANCE).sqrt()

    def upsample_maps(self, maps: Tensor, *, size: tuple[int, int]) -> Tensor:
        """Upsamples the transposed maps to the positions of the patches, and averages them where patches overlap.

        Shape:
            - Input: ``(patches, 1, rows, columns)``, with time as rows
            - Output: ``(64, frames)``; 0 at frames that belong to no patch
        """
        length = PATCH_FRAMES if self.patches else size[1]
        upsampled = nn.functional.interpolate(maps, (length, N_MELS), mode="bilinear", align_corners=False).transpose(
            -2, -1
        )
        total, count = maps.new_zeros(size), maps.new_zeros(size)
        for number, patch in enumerate(upsampled[:, 0]):
            frames = slice(number * PATCH_HOP_FRAMES, number * PATCH_HOP_FRAMES + length)
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
        self.dense = nn.Linear(_LAYERS[-1].channels, _CLASSES)
        if weights is not None:
            load_weights({"logits": self.dense}, weights)

    def forward(self, embedding: Tensor) -> Tensor:
        """Maps embeddings to scores."""
        return torch.sigmoid(self.dense(embedding))


def _are_distinct(numbers: object, *, most: int) -> bool:
    """Return whether a value is a non-empty list or tuple of different integers from 1 to ``most``."""
    return (
        isinstance(numbers, (list, tuple))
        and len(numbers) > 0
        and all(type(number) is int and 1 <= number <= most for number in numbers)
        and len(set(numbers)) == len(numbers)
    )


def _stretch(maps: Tensor, factor: int) -> Tensor:
    """Interpolate ``(batch, 1, frames, bins)`` linearly to ``factor`` times as many frames."""
    if factor == 1:
        return maps
    return nn.functional.interpolate(maps, scale_factor=(factor, 1), mode="bilinear", align_corners=False)


class _EndPaddedConv2d(nn.Conv2d):
    """A convolution of 3 x 3 with stride 2 that pads with one row below and one column to the right."""

    def forward(self, maps: Tensor) -> Tensor:
        # With a row and a column of zeros before it, the kernel skips the padding above and on the left. Padding the
        # maps would copy them, which takes longer than the convolution.
        kernel = nn.functional.pad(self.weight, (1, 0, 1, 0))
        return nn.functional.conv2d(maps, kernel, self.bias, stride=2, padding=1, groups=self.groups)


def _convolution(in_channels: int, channels: int, *, stride: int, groups: int = 1) -> list[nn.Module]:
    # TensorFlow's "SAME" padding: one zero on each side for stride 1; for stride 2, one zero at the end of an even
    # size, which all sizes are in patches of 96 x 64.
    options: dict[str, Any] = {"kernel_size": 3, "stride": stride, "groups": groups}
    return [
        (_EndPaddedConv2d if stride == 2 else nn.Conv2d)(in_channels, channels, padding=stride % 2, **options),
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
