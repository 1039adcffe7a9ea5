"""The contract of a backbone, and the registry of backbones."""

from __future__ import annotations

import abc
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from torch import Tensor, nn

from musgenre.core.config import Component
from musgenre.core.errors import ConfigError
from musgenre.core.registry import Registry

Shape = tuple[int, int, int]


@dataclass(frozen=True)
class InputSpec:
    """Declaration of the input that a backbone expects.

    Attributes:
        channels: Number of channels.
        size: Exact ``(bins, frames)``, or ``None`` if any size of at least ``min_size`` is accepted.
        min_size: Smallest ``(bins, frames)``.
        mean: Mean of each channel in the pretraining data, or ``None`` if unknown.
        std: Standard deviation of each channel in the pretraining data, or ``None`` if unknown.
    """

    channels: int
    size: tuple[int, int] | None = None
    min_size: tuple[int, int] = (1, 1)
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None

    def check(self, shape: Shape, *, feature: str, backbone: str) -> None:
        """Checks that a feature's shape matches the expected input.

        Args:
            shape: ``(channels, bins, frames)`` of the feature for one window.
            feature: Name of the feature, for the error message.
            backbone: Name of the backbone, for the error message.

        Raises:
            ConfigError: The shape does not match; the message names both shapes.
        """
        channels, *size = shape
        fits = channels == self.channels and all(a >= b for a, b in zip(size, self.min_size, strict=True))
        if fits and (self.size is None or tuple(size) == self.size):
            return
        expected = (
            f"{self.size[0]} × {self.size[1]}" if self.size else f"at least {self.min_size[0]} × {self.min_size[1]}"
        )
        raise ConfigError(
            f"The backbone {backbone!r} expects {self.channels} channel(s) of {expected}, but the feature {feature!r} "
            f"gives {channels} of {size[0]} × {size[1]} (bins × frames) for one window: choose another feature, "
            "other options of it, or another window length."
        )


def image_feature(size: int, *, mean: Sequence[float], std: Sequence[float]) -> Component:
    """Returns the feature ``logmel-image`` with the preprocessing of a network pretrained on photographs.

    Args:
        size: Height and width, in pixels.
        mean: Mean of each channel in the pretraining data, on a scale from 0 to 1.
        std: Standard deviation of each channel in the pretraining data.

    Example:
        >>> image_feature(160, mean=(0.5,), std=(0.25,))
        Component(name='logmel-image', options={'size': 160, 'mean': [0.5], 'std': [0.25]})
    """
    # Lists, because options are restricted to JSON's types.
    return Component("logmel-image", {"size": size, "mean": list(mean), "std": list(std)})


class Backbone(nn.Module, abc.ABC):
    """Base class of backbones: maps a feature to one vector. This is the part that is pretrained, frozen and unfrozen.

    A subclass sets :attr:`out_features` and :attr:`expects` in its constructor.

    Attributes:
        default_feature: The feature to use by default: its name, or a component with options.
        default_hidden: Widths of the hidden dense layers of the head to use by default.
        named_weights: Names that the option ``weights`` accepts besides paths and ``None``. A name means the same
            weights on every machine, so a saved model may store the name instead of the weights.
        pretrained: Whether the initial weights are pretrained; only then does freezing the backbone make sense.
        out_features: Length of the vector.
        expects: The expected input.

    Shape:
        - Input: ``(batch, channels, bins, frames)``
        - Output: ``(batch, out_features)``

    Example:
        >>> import torch
        >>> class Average(Backbone):
        ...     def __init__(self, *, in_channels: int) -> None:
        ...         super().__init__()
        ...         self.out_features = in_channels
        ...         self.expects = InputSpec(channels=in_channels)
        ...     def stages(self) -> list[nn.Module]:
        ...         return []
        ...     def forward(self, feature: torch.Tensor) -> torch.Tensor:
        ...         return feature.mean(dim=(-2, -1))
        >>> Average(in_channels=1)(torch.ones(2, 1, 128, 130)).shape
        torch.Size([2, 1])
    """

    default_feature: ClassVar[str | Component] = "logmel"
    default_hidden: ClassVar[tuple[int, ...]] = ()
    named_weights: ClassVar[tuple[str, ...]] = ()
    pretrained: bool = False
    out_features: int
    expects: InputSpec

    @classmethod
    def cached_weights(cls, name: str) -> Path | None:
        """Returns the path of downloaded weights in the cache, or ``None`` if they are not a single known file.

        The file exists only once the weights have been downloaded.

        Args:
            name: One of :attr:`named_weights`.
        """
        return None

    @abc.abstractmethod
    def stages(self) -> list[nn.Module]:
        """Returns the stages of the network from input to output; fine-tuning unfreezes them from the end."""

    @abc.abstractmethod
    def forward(self, feature: Tensor) -> Tensor:
        """Maps ``(batch, channels, bins, frames)`` to ``(batch, out_features)``."""

    def upsample_maps(self, maps: Tensor, *, size: tuple[int, int]) -> Tensor:
        """Upsamples a map over a stage's output to the size of the feature, for drawing one over the other.

        A backbone that cuts its input into patches or transposes it overrides this method accordingly.

        Args:
            maps: One value for each position of a stage's feature maps, for one window.
            size: ``(bins, frames)`` of the feature.

        Shape:
            - Input: ``(1, 1, rows, columns)``
            - Output: ``(bins, frames)``
        """
        return nn.functional.interpolate(maps, size, mode="bilinear", align_corners=False)[0, 0]


@dataclass(frozen=True)
class BackboneEntry:
    """Registered backbone with the defaults that its factory declares.

    Attributes:
        name: Name in the registry.
        factory: Builds the backbone from ``in_channels`` and keyword-only options.
        default_feature: See :attr:`Backbone.default_feature`.
        default_hidden: See :attr:`Backbone.default_hidden`.
        named_weights: See :attr:`Backbone.named_weights`.
        cached_weights: See :meth:`Backbone.cached_weights`.
    """

    name: str
    factory: Callable[..., Backbone]
    default_feature: Component
    default_hidden: tuple[int, ...]
    named_weights: tuple[str, ...]
    cached_weights: Callable[[str], Path | None]


class BackboneRegistry(Registry[Backbone]):
    """Registry of backbones with the defaults that their factories declare."""

    def entry(self, name: str) -> BackboneEntry:
        """Returns the factory and the defaults of a backbone.

        A factory without attributes, such as a plain function, has the defaults of :class:`Backbone`.

        Raises:
            UnknownNameError, PluginError: As :meth:`musgenre.core.registry.Registry.get`.

        Example:
            >>> BACKBONES.entry("vgg16").default_feature
            Component(name='logmel-image', options={})
        """
        factory = self.get(name)
        return BackboneEntry(
            name,
            factory,
            Component.of(getattr(factory, "default_feature", Backbone.default_feature)),
            getattr(factory, "default_hidden", Backbone.default_hidden),
            getattr(factory, "named_weights", Backbone.named_weights),
            getattr(factory, "cached_weights", Backbone.cached_weights),
        )


BACKBONES = BackboneRegistry(
    "backbone",
    group="musgenre.backbones",
    builtins={
        "efficientnet_b0": "musgenre.backbones.torchvision:efficientnet_b0",
        "mobilenet_v3_small": "musgenre.backbones.torchvision:mobilenet_v3_small",
        "resnet18": "musgenre.backbones.torchvision:resnet18",
        "timm/": "musgenre.backbones.timm:family",
        "torchvision/": "musgenre.backbones.torchvision:family",
        "vgg16": "musgenre.backbones.vgg:VGG16",
        "vgg16-slim": "musgenre.backbones.vgg:VGG16Slim",
        "yamnet": "musgenre.backbones.yamnet:YAMNet",
    },
)
"""Registry of backbones. A factory takes ``in_channels`` and keyword-only options.

The option ``weights`` names the source of the initial weights and is used once: a saved model holds its own weights
and is built with ``weights=None``, unless it was saved without the weights of its backbone.
"""

register_backbone = BACKBONES.register
