"""What a backbone is, and where backbones are registered."""

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
    """The input that a backbone expects.

    Attributes:
        channels: Number of channels.
        size: Exact ``(bins, frames)``, or ``None`` where any size of at least ``min_size`` will do.
        min_size: The smallest ``(bins, frames)``.
        mean: Mean of each channel that its weights were trained with, or ``None`` where there is none.
        std: Standard deviation of each channel, likewise.
    """

    channels: int
    size: tuple[int, int] | None = None
    min_size: tuple[int, int] = (1, 1)
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None

    def check(self, shape: Shape, *, feature: str, backbone: str) -> None:
        """Compares a feature's shape with what is expected.

        Args:
            shape: ``(channels, bins, frames)`` of the feature for one window.
            feature: The feature's name, for the message.
            backbone: The backbone's name, for the message.

        Raises:
            ConfigError: They do not fit; the message names both shapes.
        """
        channels, *size = shape
        fits = channels == self.channels and all(a >= b for a, b in zip(size, self.min_size, strict=True))
        if fits and (self.size is None or tuple(size) == self.size):
            return
        wanted = (
            f"{self.size[0]} × {self.size[1]}" if self.size else f"at least {self.min_size[0]} × {self.min_size[1]}"
        )
        raise ConfigError(
            f"The backbone {backbone!r} expects {self.channels} channel(s) of {wanted}, but the feature {feature!r} "
            f"gives {channels} of {size[0]} × {size[1]} (bins × frames) for one window: choose another feature, "
            "other options of it, or another window length."
        )


def picture(size: int, *, mean: Sequence[float], std: Sequence[float]) -> Component:
    """Returns the feature ``logmel-image`` as a network that was trained on photographs needs it.

    Args:
        size: Height and width, in pixels.
        mean: Mean of each channel that its weights were trained with, on a scale from 0 to 1.
        std: Standard deviation of each channel.

    Example:
        >>> picture(160, mean=(0.5,), std=(0.25,))
        Component(name='logmel-image', options={'size': 160, 'normalise': [[0.5], [0.25]]})
    """
    # Lists, because options are of JSON's types.
    return Component("logmel-image", {"size": size, "normalise": [list(mean), list(std)]})


class Backbone(nn.Module, abc.ABC):
    """Turns a feature into one vector; the part that is pretrained, frozen and unfrozen.

    A subclass sets :attr:`out_features` and :attr:`expects` in its constructor.

    Attributes:
        default_feature: The feature to use when none is named: its name, or a component with options.
        default_hidden: Widths of the dense layers after this backbone when none are named.
        named_weights: What its option ``weights`` takes besides paths and ``None``: names that mean the same weights
            on every machine, so that a saved model may name them instead of holding them.
        pretrained: Whether it starts from weights that know something; only then is there a point in freezing it.
        out_features: Length of the vector.
        expects: The input it expects.

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
        """Returns where named weights stand once they were downloaded, or ``None`` where no one file is known.

        Args:
            name: One of :attr:`named_weights`.
        """
        return None

    @abc.abstractmethod
    def stages(self) -> list[nn.Module]:
        """Returns its parts from input to output; fine-tuning unfreezes them from the end."""

    @abc.abstractmethod
    def forward(self, feature: Tensor) -> Tensor:
        """Maps ``(batch, channels, bins, frames)`` to ``(batch, out_features)``."""

    def onto_picture(self, maps: Tensor, *, size: tuple[int, int]) -> Tensor:
        """Stretches maps of a stage over the picture that they were made from, so that both can be drawn together.

        A backbone that cuts or turns its picture says here how its maps lie on it.

        Args:
            maps: A number for each cell of a stage's maps, of one picture.
            size: The picture's ``(bins, frames)``.

        Shape:
            ``(1, 1, rows, columns)`` to ``(bins, frames)``.
        """
        return nn.functional.interpolate(maps, size, mode="bilinear", align_corners=False)[0, 0]


@dataclass(frozen=True)
class BackboneEntry:
    """A registered backbone with the defaults that its factory declares.

    Attributes:
        name: Its name in the registry.
        factory: Builds it from ``in_channels`` and keyword-only options.
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
    """Backbones by name, with the defaults that their factories declare."""

    def entry(self, name: str) -> BackboneEntry:
        """Returns a backbone's factory and defaults; a factory that is a plain function has those of :class:`Backbone`.

        Raises:
            UnknownNameError, PluginError: As :meth:`musgenre.core.registry.Registry.get`.

        Example:
            >>> BACKBONES.entry("vgg16").default_feature
            Component(name='logmel', options={})
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
"""Every backbone by name. A factory takes ``in_channels`` and keyword-only options.

An option called ``weights`` names where the initial weights come from. It is used once: a saved model
holds its own weights and is built with ``weights=None``, unless it was saved without its backbone's.
"""

register_backbone = BACKBONES.register
