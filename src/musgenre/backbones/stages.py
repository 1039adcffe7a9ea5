"""Stages of networks from other libraries, and the base class of backbones around such networks."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from musgenre.backbones.base import Backbone
from musgenre.core.config import Component

_MIN_STAGES = 4


class WrappedBackbone(Backbone):
    """Base class of backbones that wrap a network of another library, without its output layer.

    Attributes:
        network: The wrapped network. The constructor of a subclass sets it.
    """

    network: nn.Module

    def stages(self) -> list[nn.Module]:
        """Returns the stages of the network, as :func:`find_stages` divides it."""
        return find_stages(self.network)

    def forward(self, feature: Tensor) -> Tensor:
        """Maps ``(batch, in_channels, height, width)`` to ``(batch, out_features)``."""
        output: Tensor = self.network(feature)
        return output


@dataclass(frozen=True)
class WrappedFactory:
    """Factory of a :class:`WrappedBackbone` for one network of a library.

    Attributes:
        model: Name of the network in its library.
        default_feature: The image feature with the preprocessing of the network's pretraining.
    """

    model: str
    default_feature: Component


def find_stages(network: nn.Module) -> list[nn.Module]:
    """Divides a network into stages, from input to output.

    The network is split into its child modules, and then repeatedly the child with the most parameters, until at least
    four parts have weights. A ResNet is divided into its stem and four layers, an EfficientNet into its blocks, and a
    plain chain of layers into its convolutions. Modules without a weight matrix (normalisation, activation, pooling)
    belong to the part before them. Parameters that are held directly by a module that was split (such as a
    transformer's position embedding) belong to the first stage. Parts that share parameters form one stage together
    with all parts between them.

    The order of the modules is assumed to be the order in which they run, as is usual.

    Args:
        network: The network, without its output layer.

    Returns:
        The stages, which consist of the network's own modules and hold every parameter exactly once.

    Example:
        >>> layers = [nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 8, 3), nn.BatchNorm2d(8)]
        >>> [len(list(stage)) for stage in find_stages(nn.Sequential(*layers))]
        [3, 2]
    """
    parts, direct = [network], list[nn.Parameter]()
    while sum(map(_has_weights, parts)) < _MIN_STAGES:
        divisible = [part for part in parts if _has_weights(part) and list(part.children())]
        if not divisible:
            break
        largest = max(divisible, key=_count_parameters)
        direct += largest.parameters(recurse=False)
        index = parts.index(largest)
        parts[index : index + 1] = largest.children()
    stages: list[nn.ModuleList] = []
    for part in parts:
        stages.append(nn.ModuleList([part]))
        # A part with weights starts a new stage; if it shares them with an earlier stage, all between are merged.
        first = next((index for index, stage in enumerate(stages[:-1]) if _share(stage, part)), len(stages) - 1)
        if len(stages) > 1 and not (_has_weights(part) and _has_weights(stages[-2])):
            first = min(first, len(stages) - 2)
        stages[first:] = [nn.ModuleList(module for stage in stages[first:] for module in stage)]
    for number, parameter in enumerate(direct):
        stages[0].register_parameter(f"direct_{number}", parameter)
    return list(stages)


def _share(one: nn.Module, other: nn.Module) -> bool:
    ids = set(map(id, one.parameters()))
    return any(id(parameter) in ids for parameter in other.parameters())


def _has_weights(part: nn.Module) -> bool:
    return any(parameter.ndim > 1 for parameter in part.parameters())


def _count_parameters(part: nn.Module) -> int:
    return sum(parameter.numel() for parameter in part.parameters())
