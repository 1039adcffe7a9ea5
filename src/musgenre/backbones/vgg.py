"""VGG-16 of torchvision, and a narrower variant for training on small datasets.

Both follow Simonyan and Zisserman, "Very Deep Convolutional Networks for Large-Scale Image
Recognition", 2014, arXiv:1409.1556, configuration D.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from musgenre.backbones.base import Backbone, InputSpec
from musgenre.backbones.state_dicts import imagenet, imagenet_path, load_matching, read_state_dict
from musgenre.core.errors import ConfigError, ParameterError

# Output channels of the convolutions, one tuple per group; each group ends with 2 x 2 max-pooling.
_GROUPS = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
_MIN_SIZE = 2 ** len(_GROUPS)


class VGG16(Backbone):
    """VGG-16 of torchvision without its output layer of 1,000 classes.

    Args:
        in_channels: Must be 3, because the network takes RGB images.
        weights: ``"imagenet"`` for torchvision's ``VGG16_Weights.IMAGENET1K_V1`` (528 MB, downloaded once
            and verified by torch.hub), the path of a state dict in torchvision's layout (``.pth`` or
            ``.safetensors``), or ``None`` for random weights.
        top: ``"fc"`` applies VGG-16's two dense layers of 4,096 units (with their dropout). ``"pool"``
            averages the last 512 feature maps instead, and requires the weights of the convolutions only.

    Shape:
        - Input: ``(batch, 3, 224, 224)``, normalised with ImageNet's mean and standard deviation
        - Output: ``(batch, 4096)`` for ``"fc"``, ``(batch, 512)`` for ``"pool"``

    Raises:
        ConfigError: ``in_channels`` is not 3.
        ParameterError: ``top`` is unknown.
        WeightsError: The weights cannot be downloaded or read, or do not match the network.
    """

    default_feature: ClassVar[str] = "logmel-image"
    default_hidden: ClassVar[tuple[int, ...]] = (2048, 512, 256, 128, 64)
    named_weights: ClassVar[tuple[str, ...]] = ("imagenet",)

    def __init__(
        self, *, in_channels: int = 3, weights: str | None = "imagenet", top: Literal["fc", "pool"] = "fc"
    ) -> None:
        super().__init__()
        from torchvision.models import vgg16

        if in_channels != 3:
            raise ConfigError(
                f"vgg16 expects 3 channels, got {in_channels}: use the feature 'logmel-image', or the backbone "
                "'vgg16-slim', which accepts any number."
            )
        if top not in ("fc", "pool"):
            raise ParameterError(f"top must be 'fc' or 'pool', not {top!r}.")
        network = vgg16(weights=None, init_weights=weights is None)
        self.expects = InputSpec(channels=3, size=(224, 224), mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
        self.features = network.features
        self.pool = network.avgpool if top == "fc" else nn.AdaptiveAvgPool2d(1)
        self.fc = network.classifier[:-1] if top == "fc" else nn.Sequential()
        self.out_features = 4096 if top == "fc" else 512
        self.pretrained = weights is not None
        if weights is not None:
            self._load(weights)

    def stages(self) -> list[nn.Module]:
        """Returns the five groups of convolutions, then (with ``top="fc"``) the two dense layers."""
        ends = [index + 1 for index, layer in enumerate(self.features) if isinstance(layer, nn.MaxPool2d)]
        groups: list[nn.Module] = [self.features[a:b] for a, b in zip([0, *ends], ends, strict=False)]
        return [*groups, self.fc] if len(self.fc) else groups

    def forward(self, feature: Tensor) -> Tensor:
        """Maps ``(batch, 3, 224, 224)`` to ``(batch, out_features)``."""
        output: Tensor = self.fc(torch.flatten(self.pool(self.features(feature)), 1))
        return output

    @classmethod
    def cached_weights(cls, name: str) -> Path:
        """Returns the path of the weights in torch.hub's cache."""
        from torchvision.models import VGG16_Weights

        return imagenet_path(VGG16_Weights.IMAGENET1K_V1)

    def _load(self, weights: str) -> None:
        from torchvision.models import VGG16_Weights

        state = (
            imagenet(VGG16_Weights.IMAGENET1K_V1, backbone="vgg16")
            if weights == "imagenet"
            else read_state_dict(Path(weights))
        )
        # torchvision names the dense layers "classifier"; its number 6 is the output layer, which is not used here.
        renamed = {name.replace("classifier.", "fc.", 1): tensor for name, tensor in state.items()}
        hint = " (with top='pool', the weights of the convolutions are enough)"
        load_matching(self, renamed, source=weights, network="torchvision's vgg16", hint=hint)


class VGG16Slim(Backbone):
    """Narrower VGG-16 with batch normalisation, for features of any size.

    The feature is standardised (minus its mean, divided by its standard deviation), so its scale does not matter. Then
    follow thirteen convolutions in five groups, each convolution with batch normalisation; pooling; and two dense
    layers. VGG-16's sixteenth layer is the output layer in the head.

    Args:
        in_channels: Channels of the feature.
        width: Factor on VGG-16's numbers of channels, positive; 0.25 gives 16 to 128 channels.
        dense_units: Units of each of the two dense layers (VGG-16 has 4,096).
        dropout: Probability of dropping a unit before each dense layer during training, in [0, 1).
        stem_stride: Stride of the first convolution, 1 or 2. Stride 2 halves both sides of the feature, which reduces
            the computation to a quarter; the last group then has no max-pooling.
        pooling: ``"mean-max"`` takes the mean over frequency, and concatenates its mean and maximum over time.
            ``"mean"`` takes the mean over frequency and time, which does not depend on the length of the window.

    Shape:
        - Input: ``(batch, in_channels, bins, frames)``, at least 32 bins and 32 frames
        - Output: ``(batch, dense_units)``

    Raises:
        ParameterError: A value is out of range.

    Example:
        >>> VGG16Slim(in_channels=1)(torch.zeros(2, 1, 128, 130)).shape
        torch.Size([2, 512])
    """

    def __init__(
        self,
        *,
        in_channels: int,
        width: float = 0.25,
        dense_units: int = 512,
        dropout: float = 0.5,
        stem_stride: int = 1,
        pooling: Literal["mean-max", "mean"] = "mean-max",
    ) -> None:
        super().__init__()
        if not width > 0 or dense_units < 1 or in_channels < 1 or not 0 <= dropout < 1:
            raise ParameterError(
                "vgg16-slim needs in_channels >= 1, width > 0, dense_units >= 1 and dropout in [0, 1), got "
                f"{in_channels!r}, {width!r}, {dense_units!r}, {dropout!r}."
            )
        if type(stem_stride) is not int or stem_stride not in (1, 2) or pooling not in ("mean-max", "mean"):
            raise ParameterError(
                "vgg16-slim needs stem_stride 1 or 2 and pooling 'mean-max' or 'mean', got "
                f"{stem_stride!r} and {pooling!r}."
            )
        self.pooling = pooling
        self.expects = InputSpec(channels=in_channels, min_size=(_MIN_SIZE, _MIN_SIZE))
        self.out_features = dense_units
        self.groups = _make_groups(in_channels, width=width, stem_stride=stem_stride)
        last = max(1, round(_GROUPS[-1][-1] * width))
        self.dense = nn.Sequential(
            nn.Dropout(dropout),
            nn.Linear(last * (2 if pooling == "mean-max" else 1), dense_units),
            nn.ReLU(inplace=True),
            nn.Dropout(dropout),
            nn.Linear(dense_units, dense_units),
            nn.ReLU(inplace=True),
        )
        self.apply(_initialise)

    def stages(self) -> list[nn.Module]:
        """Returns the five groups of convolutions, then the two dense layers."""
        return [*self.groups, self.dense]

    def forward(self, feature: Tensor) -> Tensor:
        """Maps ``(batch, in_channels, bins, frames)`` to ``(batch, dense_units)``."""
        feature = F.layer_norm(feature, feature.shape[1:])
        for group in self.groups:
            feature = group(feature)
        over_time = feature.mean(dim=2)
        summary = over_time.mean(dim=2)
        if self.pooling == "mean-max":
            summary = torch.cat([summary, over_time.amax(dim=2)], dim=1)
        output: Tensor = self.dense(summary)
        return output


def _make_groups(in_channels: int, *, width: float, stem_stride: int) -> nn.ModuleList:
    groups = nn.ModuleList()
    for group in _GROUPS:
        layers: list[nn.Module] = []
        for full_channels in group:
            channels = max(1, round(full_channels * width))
            stride = 1 if groups or layers else stem_stride
            layers += [
                nn.Conv2d(in_channels, channels, kernel_size=3, stride=stride, padding=1, bias=False),
                nn.BatchNorm2d(channels),
                nn.ReLU(inplace=True),
            ]
            in_channels = channels
        is_last = len(groups) == len(_GROUPS) - 1
        if not (is_last and stem_stride == 2):  # the strided stem has halved the size already
            layers.append(nn.MaxPool2d(2))
        groups.append(nn.Sequential(*layers))
    return groups


def _initialise(layer: nn.Module) -> None:
    if isinstance(layer, nn.Conv2d | nn.Linear):
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
