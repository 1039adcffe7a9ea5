"""What computes a trained network's answers, and how: PyTorch with fewer steps, or ONNX Runtime."""

from __future__ import annotations

import copy
from collections.abc import Callable
from itertools import pairwise
from typing import Any, Literal, TypeVar, get_args

from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from musgenre.core.errors import ParameterError
from musgenre.models.network import GenreNetwork

Network = TypeVar("Network", bound=nn.Module)
Runtime = Literal["torch", "onnx"]
"""What computes the network: PyTorch, or ONNX Runtime (the extra ``onnx``) for all but the feature."""


class Inference:
    """The form in which a network is asked for answers, made anew whenever the network has changed.

    Training, saving and explaining go on with the network; nothing here changes it. Only what is written behind
    PyTorch's back, through ``weight.data`` or NumPy, does not count as a change.

    Args:
        window_samples: Length of the windows that the network will be given.
        runtime: ``"torch"`` or ``"onnx"``.

    Raises:
        ParameterError: ``runtime`` is neither; or later, ONNX Runtime or what writes its graph is not installed.
    """

    def __init__(self, *, window_samples: int, runtime: Runtime = "torch") -> None:
        if runtime not in get_args(Runtime):
            raise ParameterError(f"runtime must be 'torch' or 'onnx', not {runtime!r}.")
        self.runtime = runtime
        self._window_samples = window_samples
        self._made: tuple[Any, Callable[[Tensor], Tensor]] | None = None

    def of(self, network: GenreNetwork) -> Callable[[Tensor], Tensor]:
        """Returns the function from ``(batch, samples)`` to logits; threads may share it.

        Args:
            network: The network, in evaluation mode.
        """
        state = _state(network)
        made = self._made
        if made is None or made[0] != state:
            # Two threads may both make it: the same, twice.
            made = self._made = (state, self._make(network))
        return made[1]

    def _make(self, network: GenreNetwork) -> Callable[[Tensor], Tensor]:
        if self.runtime == "torch":
            return fused(network)
        from musgenre.models.onnx import onnx_classifier

        classify = onnx_classifier(network, window_samples=self._window_samples)
        return lambda waveform: classify(network.feature(waveform))


def fused(network: Network) -> Network:
    """Returns a network that computes the same with fewer steps: batch normalisation is part of the convolutions.

    Of what stands in a plain ``nn.Sequential``, each ``nn.Conv2d`` that a ``nn.BatchNorm2d`` follows becomes one
    convolution with other weights; a network without such a pair is returned as it is.

    Args:
        network: Any network, in evaluation mode. It stays as it is, and shares all other weights with what is returned.

    Example:
        >>> layers = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU()).eval()
        >>> [type(layer).__name__ for layer in fused(layers)]
        ['Conv2d', 'Identity', 'ReLU']
    """
    children = {name: None if child is None else fused(child) for name, child in network._modules.items()}
    if type(network) is nn.Sequential:
        names = list(children)
        for first, second in pairwise(names):
            conv, norm = children[first], children[second]
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d) and _can_be_fused(conv, norm):
                children[first], children[second] = fuse_conv_bn_eval(conv, norm), nn.Identity()
    if all(children[name] is child for name, child in network._modules.items()):
        return network
    copied = copy.copy(network)
    copied._modules = children
    return copied


def _can_be_fused(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> bool:
    # Neither a sister class, whose forward may do more, nor hooks, which want to see what is in between.
    plain = type(conv) is nn.Conv2d and type(norm) is nn.BatchNorm2d and norm.running_mean is not None
    hooks = (conv._forward_hooks, conv._forward_pre_hooks, norm._forward_hooks, norm._forward_pre_hooks)
    return plain and not (conv.training or norm.training or any(hooks))


def _state(network: nn.Module) -> Any:
    """Returns what differs when a layer was exchanged, or a weight exchanged or changed in place."""
    modules = tuple(network.modules())
    # Theirs one by one: parameters() looks for what is there twice, which takes longer than all the rest.
    owned = (tensor for module in modules for kind in (module._parameters, module._buffers) for tensor in kind.values())
    # A tensor made in inference mode counts no versions; it cannot be changed outside of that mode either.
    versions = tuple(
        (tensor.data_ptr(), -1 if tensor.is_inference() else tensor._version) for tensor in owned if tensor is not None
    )
    return versions, tuple(map(id, modules)), network.training
