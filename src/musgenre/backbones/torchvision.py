"""Any of torchvision's networks that tell photographs apart, as a backbone."""

from __future__ import annotations

import inspect
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor, nn
from torchvision import models

from musgenre.backbones.base import Backbone, InputSpec, picture
from musgenre.backbones.stages import find_stages
from musgenre.backbones.state_dicts import imagenet, kept_imagenet, load_fitting, read_state_dict
from musgenre.core.config import Component
from musgenre.core.errors import ConfigError
from musgenre.core.registry import unknown_name

# Files of 2017 have "denselayer1.norm.1.weight" for "denselayer1.norm1.weight".
_OLD_DENSENET = re.compile(r"(denselayer\d+\.(?:norm|relu|conv))\.([12]\.)")


class TorchvisionBackbone(Backbone):
    """A classifier of torchvision without its output layer.

    Args:
        model: Its name in torchvision, such as ``"resnet18"``.
        in_channels: Must be 3: these networks were made for RGB pictures.
        weights: ``"imagenet"`` for the first weights that torchvision published for this network (``IMAGENET1K_V1``
            for all but two giants; downloaded once and checked by torch.hub), the path of a state dict in
            torchvision's layout (``.pth`` or ``.safetensors``), or ``None`` for random weights.

    Shape:
        - Input: ``(batch, 3, size, size)``, normalised, as :attr:`expects` has it from those weights' own preprocessing
        - Output: ``(batch, out_features)``, what goes into the output layer

    Raises:
        UnknownNameError: torchvision has no such classifier.
        ConfigError: ``in_channels`` is not 3.
        WeightsError: The weights cannot be downloaded or read, or do not fit.

    Example:
        >>> import torch
        >>> backbone = TorchvisionBackbone("shufflenet_v2_x0_5", weights=None).eval()
        >>> backbone(torch.zeros(2, 3, 224, 224)).shape, len(backbone.stages())
        (torch.Size([2, 1024]), 5)
    """

    named_weights: ClassVar[tuple[str, ...]] = ("imagenet",)

    def __init__(self, model: str, *, in_channels: int = 3, weights: str | None = "imagenet") -> None:
        super().__init__()
        published = _published(model)
        if in_channels != 3:
            raise ConfigError(f"{model} expects 3 channels, got {in_channels}: use the feature 'logmel-image'.")
        size, mean, std = _preprocessing(published)
        self.expects = InputSpec(channels=3, size=(size, size), mean=mean, std=std)
        self.network = _build(model, size=size, initialise=weights is None)
        self.out_features = _cut_off_the_output(self.network)
        self.pretrained = weights is not None
        if weights is not None:
            state = imagenet(published, backbone=model) if weights == "imagenet" else read_state_dict(Path(weights))
            state = {_OLD_DENSENET.sub(r"\1\2", name): tensor for name, tensor in state.items()}
            load_fitting(self.network, state, source=weights, network=f"torchvision's {model}")

    def stages(self) -> list[nn.Module]:
        """Returns the network's parts as :func:`~musgenre.backbones.stages.find_stages` finds them."""
        return find_stages(self.network)

    def forward(self, feature: Tensor) -> Tensor:
        """Maps pictures ``(batch, 3, size, size)`` to ``(batch, out_features)``."""
        output: Tensor = self.network(feature)
        return output


@dataclass(frozen=True)
class TorchvisionFactory:
    """What the registry holds for one of torchvision's classifiers.

    Attributes:
        model: Its name in torchvision.
        default_feature: The picture that its weights were trained on.
    """

    model: str
    default_feature: Component
    named_weights: ClassVar[tuple[str, ...]] = TorchvisionBackbone.named_weights

    def __call__(self, *, in_channels: int = 3, weights: str | None = "imagenet") -> TorchvisionBackbone:
        """Builds the backbone; see :class:`TorchvisionBackbone`."""
        return TorchvisionBackbone(self.model, in_channels=in_channels, weights=weights)

    def cached_weights(self, name: str) -> Path:
        """Returns where torch.hub keeps the weights; see :class:`~musgenre.backbones.base.Backbone`."""
        return kept_imagenet(_published(self.model))


def family(model: str) -> TorchvisionFactory:
    """Returns the factory for the backbone ``"torchvision/<model>"``.

    Raises:
        UnknownNameError: torchvision has no such classifier.
    """
    size, mean, std = _preprocessing(_published(model))
    return TorchvisionFactory(model, picture(size, mean=mean, std=std))


def _published(model: str) -> Any:
    names = models.list_models(module=models)
    if model not in names:
        raise unknown_name(model, kind="classifier of torchvision", names=names)
    # The first, and not what torchvision calls the default, which changes from version to version.
    return next(iter(models.get_model_weights(model)))


def _preprocessing(published: Any) -> tuple[int, tuple[float, ...], tuple[float, ...]]:
    recipe = published.transforms()
    (size,) = recipe.crop_size
    return size, tuple(recipe.mean), tuple(recipe.std)


def _build(model: str, *, size: int, initialise: bool) -> nn.Module:
    known = inspect.signature(inspect.signature(models.get_model_builder(model)).return_annotation).parameters
    # As torchvision builds them around these weights; few networks have one of these settings.
    settings = {"image_size": size, "aux_logits": False, "transform_input": True, "init_weights": initialise}
    network: nn.Module = models.get_model(model, **{name: settings[name] for name in settings.keys() & known})
    return network


def _cut_off_the_output(network: nn.Module) -> int:
    """Puts an identity in the place of the last layer, and returns how many numbers went into it."""
    name, output = [pair for pair in network.named_modules() if isinstance(pair[1], nn.Linear | nn.Conv2d)][-1]
    parent, _, last = name.rpartition(".")
    setattr(network.get_submodule(parent), last, nn.Identity())
    return output.in_features if isinstance(output, nn.Linear) else output.in_channels


resnet18 = family("resnet18")
mobilenet_v3_small = family("mobilenet_v3_small")
efficientnet_b0 = family("efficientnet_b0")
