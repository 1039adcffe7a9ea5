"""The stages of a network that somebody else wrote, found in how its modules lie in each other."""

from __future__ import annotations

from torch import nn

_ENOUGH = 4


def find_stages(network: nn.Module) -> list[nn.Module]:
    """Divides a network into its stages, from input to output.

    The network is opened, then whichever of its parts holds the most parameters, until there are at least four parts
    with weights. So a ResNet comes apart into its stem and four layers, an EfficientNet into its blocks, and a chain of
    bare layers into its convolutions. What has no weight matrix of its own (normalisation, activation, pooling) belongs
    to the part before it; parameters that lie beside the parts (a transformer's position embedding) to the first. Parts
    that share parameters make one stage, with all between them.

    It relies on parts lying in the order in which they run, as they do where a network is written in the usual way.

    Args:
        network: The network, without its output layer.

    Returns:
        Stages that hold every parameter once and are made of the network's own modules.

    Example:
        >>> layers = [nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 8, 3), nn.BatchNorm2d(8)]
        >>> [len(list(stage)) for stage in find_stages(nn.Sequential(*layers))]
        [3, 2]
    """
    parts, beside = [network], list[nn.Parameter]()
    while sum(map(_has_weights, parts)) < _ENOUGH:
        closed = [part for part in parts if _has_weights(part) and list(part.children())]
        if not closed:
            break
        largest = max(closed, key=_size)
        beside += largest.parameters(recurse=False)
        place = parts.index(largest)
        parts[place : place + 1] = largest.children()
    stages: list[nn.ModuleList] = []
    for part in parts:
        stages.append(nn.ModuleList([part]))
        # Weights open a stage; those that an earlier one holds as well close all between.
        shared = next((place for place, stage in enumerate(stages[:-1]) if _overlap(stage, part)), len(stages) - 1)
        if len(stages) > 1 and not (_has_weights(part) and _has_weights(stages[-2])):
            shared = min(shared, len(stages) - 2)
        stages[shared:] = [nn.ModuleList(kept for stage in stages[shared:] for kept in stage)]
    for number, parameter in enumerate(beside):
        stages[0].register_parameter(f"beside_{number}", parameter)
    return list(stages)


def _overlap(one: nn.Module, other: nn.Module) -> bool:
    held = set(map(id, one.parameters()))
    return any(id(parameter) in held for parameter in other.parameters())


def _has_weights(part: nn.Module) -> bool:
    return any(parameter.ndim > 1 for parameter in part.parameters())


def _size(part: nn.Module) -> int:
    return sum(parameter.numel() for parameter in part.parameters())
