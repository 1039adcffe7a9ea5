"""Image classifiers of torchvision as backbones."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, ClassVar

from torch import nn
from torchvision import models

from musgenre.backbones.base import InputSpec, image_feature
from musgenre.backbones.stages import WrappedBackbone, WrappedFactory
from musgenre.backbones.state_dicts import imagenet, imagenet_path, load_matching, read_state_dict
from musgenre.core.errors import ConfigError
from musgenre.core.registry import unknown_name

# Files from 2017 have "denselayer1.norm.1.weight" instead of "denselayer1.norm1.weight".
_OLD_DENSENET = re.compile(r"(denselayer\d+\.(?:norm|relu|conv))\.([12]\.)")

_INCEPTION = ("aux_logits", "transform_input", "init_weights")
# Settings besides the weights that the constructors in a module of torchvision.models take.
_SETTINGS = {
    "googlenet": _INCEPTION,
    "inception": _INCEPTION,
    "vgg": ("init_weights",),
    "vision_transformer": ("image_size",),
}


class TorchvisionBackbone(WrappedBackbone):
    """Image classifier of torchvision without its output layer.

    Args:
        model: Name of the classifier in torchvision, such as ``"resnet18"``.
        in_channels: Must be 3, because these networks take RGB images.
        weights: ``"imagenet"`` for the first weights that torchvision published for this network (``IMAGENET1K_V1``
            for all but two very large networks; downloaded once and verified by torch.hub), the path of a state dict in
            torchvision's layout (``.pth`` or ``.safetensors``), or ``None`` for random weights.

    Shape:
        - Input: ``(batch, 3, size, size)``, normalised; :attr:`expects` holds the size, mean and standard deviation of
          the preprocessing of those weights
        - Output: ``(batch, out_features)``, the input of the output layer

    Raises:
        UnknownNameError: torchvision has no such classifier.
        ConfigError: ``in_channels`` is not 3.
        WeightsError: The weights cannot be downloaded or read, or do not match the network.

    Example:
        >>> import torch
        >>> backbone = TorchvisionBackbone("shufflenet_v2_x0_5", weights=None).eval()
        >>> backbone(torch.zeros(2, 3, 224, 224)).shape, len(backbone.stages())
        (torch.Size([2, 1024]), 5)
    """

    named_weights: ClassVar[tuple[str, ...]] = ("imagenet",)

    def __init__(self, model: str, *, in_channels: int = 3, weights: str | None = "imagenet") -> None:
        super().__init__()
        published = _published_weights(model)
        if in_channels != 3:
            raise ConfigError(f"{model} expects 3 channels, got {in_channels}: use the feature 'logmel-image'.")
        size, mean, std = _preprocessing(published)
        self.expects = InputSpec(channels=3, size=(size, size), mean=mean, std=std)
        self.network = _build(model, size=size, initialise=weights is None)
        self.out_features = _remove_output_layer(self.network)
        self.pretrained = weights is not None
        if weights is not None:
            state = imagenet(published, backbone=model) if weights == "imagenet" else read_state_dict(Path(weights))
            state = {_OLD_DENSENET.sub(r"\1\2", name): tensor for name, tensor in state.items()}
            load_matching(self.network, state, source=weights, network=f"torchvision's {model}")


class TorchvisionFactory(WrappedFactory):
    """Factory of a :class:`TorchvisionBackbone` for one of torchvision's classifiers."""

    named_weights: ClassVar[tuple[str, ...]] = TorchvisionBackbone.named_weights

    def __call__(self, *, in_channels: int = 3, weights: str | None = "imagenet") -> TorchvisionBackbone:
        """Builds the backbone; see :class:`TorchvisionBackbone`."""
        return TorchvisionBackbone(self.model, in_channels=in_channels, weights=weights)

    def cached_weights(self, name: str) -> Path:
        """Returns the path of the weights in torch.hub's cache; see :class:`~musgenre.backbones.base.Backbone`."""
        return imagenet_path(_published_weights(self.model))


def family(model: str) -> TorchvisionFactory:
    """Returns the factory for the backbone ``"torchvision/<model>"``.

    Raises:
        UnknownNameError: torchvision has no such classifier.
    """
    size, mean, std = _preprocessing(_published_weights(model))
    return TorchvisionFactory(model, image_feature(size, mean=mean, std=std))


def _published_weights(model: str) -> Any:
    names = models.list_models(module=models)
    if model not in names:
        raise unknown_name(model, kind="classifier of torchvision", names=names)
    # The first ones; torchvision's default changes between versions.
    return next(iter(models.get_model_weights(model)))


def _preprocessing(published: Any) -> tuple[int, tuple[float, ...], tuple[float, ...]]:
    transforms = published.transforms()
    (size,) = transforms.crop_size
    return size, tuple(transforms.mean), tuple(transforms.std)


def _build(model: str, *, size: int, initialise: bool) -> nn.Module:
    # The values that torchvision itself uses when it loads these weights.
    values = {"image_size": size, "aux_logits": False, "transform_input": True, "init_weights": initialise}
    module = models.get_model_builder(model).__module__.rpartition(".")[2]
    network: nn.Module = models.get_model(model, **{name: values[name] for name in _SETTINGS.get(module, ())})
    return network


def _remove_output_layer(network: nn.Module) -> int:
    """Replaces the last layer with an identity, and returns its number of inputs."""
    name, output = [pair for pair in network.named_modules() if isinstance(pair[1], nn.Linear | nn.Conv2d)][-1]
    parent, _, last = name.rpartition(".")
    setattr(network.get_submodule(parent), last, nn.Identity())
    return output.in_features if isinstance(output, nn.Linear) else output.in_channels


resnet18 = family("resnet18")
mobilenet_v3_small = family("mobilenet_v3_small")
efficientnet_b0 = family("efficientnet_b0")
