"""Any network of timm as a backbone; with the extra ``musgenre[timm]``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

from torch import Tensor, nn

from musgenre.backbones.base import Backbone, InputSpec, picture
from musgenre.backbones.stages import find_stages
from musgenre.backbones.state_dicts import read_state_dict
from musgenre.core.config import Component
from musgenre.core.errors import PluginError, WeightsError
from musgenre.core.registry import unknown_name

_SMALLEST_PICTURE = 32


class TimmBackbone(Backbone):
    """A network of timm (PyTorch Image Models, by Ross Wightman) without its output layer.

    Args:
        model: Its name in timm, with or without the tag of its weights: ``"resnet18"`` or ``"resnet18.a1_in1k"``.
        in_channels: Channels of the feature. The first layer's weights are adapted to a number other than 3, as timm
            does it: one channel gets the sum of three, more get them in turn, scaled.
        weights: ``"pretrained"`` for the weights that timm publishes under this name and tag (most on the Hugging Face
            Hub, downloaded once), the path of a state dict of this network in timm's layout, or ``None`` for random
            weights.

    Shape:
        - Input: ``(batch, in_channels, height, width)``: the size of its pretraining where it is built for one size,
          as transformers are, else at least 32 × 32
        - Output: ``(batch, out_features)``, what goes into the output layer

    Raises:
        PluginError: timm is not installed.
        UnknownNameError: timm has no such network.
        WeightsError: The weights cannot be downloaded or read, or do not fit.

    Example:
        >>> import torch
        >>> backbone = TimmBackbone("test_resnet", in_channels=1, weights=None).eval()
        >>> backbone(torch.zeros(2, 1, 128, 130)).shape, len(backbone.stages())
        (torch.Size([2, 96]), 5)
    """

    named_weights: ClassVar[tuple[str, ...]] = ("pretrained",)

    def __init__(self, model: str, *, in_channels: int = 3, weights: str | None = "pretrained") -> None:
        super().__init__()
        trained = _trained(model)
        network = _build(model, in_channels=in_channels, weights=weights)
        # Only now, because timm does not tell of missing weights when the number of classes is another.
        network.reset_classifier(0)
        self.network: nn.Module = network
        self.out_features = int(network.head_hidden_size)
        self.expects = InputSpec(
            channels=in_channels,
            size=trained.input_size[1:] if trained.fixed_input_size else None,
            min_size=(_SMALLEST_PICTURE, _SMALLEST_PICTURE),
            mean=trained.mean if len(trained.mean) == in_channels else None,
            std=trained.std if len(trained.std) == in_channels else None,
        )
        self.pretrained = weights is not None

    def stages(self) -> list[nn.Module]:
        """Returns the network's parts as :func:`~musgenre.backbones.stages.find_stages` finds them."""
        return find_stages(self.network)

    def forward(self, feature: Tensor) -> Tensor:
        """Maps ``(batch, in_channels, height, width)`` to ``(batch, out_features)``."""
        output: Tensor = self.network(feature)
        return output


@dataclass(frozen=True)
class TimmFactory:
    """What the registry holds for one of timm's networks.

    Attributes:
        model: Its name in timm.
        default_feature: The picture that its weights were trained on.
    """

    model: str
    default_feature: Component
    named_weights: ClassVar[tuple[str, ...]] = TimmBackbone.named_weights

    def __call__(self, *, in_channels: int = 3, weights: str | None = "pretrained") -> TimmBackbone:
        """Builds the backbone; see :class:`TimmBackbone`."""
        return TimmBackbone(self.model, in_channels=in_channels, weights=weights)


def family(model: str) -> TimmFactory:
    """Returns the factory for the backbone ``"timm/<model>"``.

    Raises:
        PluginError: timm is not installed.
        UnknownNameError: timm has no such network.
    """
    trained = _trained(model)
    return TimmFactory(model, picture(trained.input_size[1], mean=trained.mean, std=trained.std))


def _timm() -> ModuleType:
    try:
        import timm
    except ImportError as error:
        raise PluginError(
            f"Backbones called 'timm/…' need timm, which cannot be imported ({error}): pip install 'musgenre[timm]'."
        ) from error
    module: ModuleType = timm
    return module


def _trained(model: str) -> Any:
    """Returns what timm knows of how a network was trained, without building it."""
    timm = _timm()
    names = {*timm.list_models(), *timm.list_models(pretrained=True)}
    # Not timm's own test, which takes any tag, nor its builder, which takes any repository on the hub.
    if model not in names:
        raise unknown_name(model, kind="network of timm", names=sorted(names))
    return timm.get_pretrained_cfg(model)


def _build(model: str, *, in_channels: int, weights: str | None) -> Any:
    timm = _timm()
    if weights is None:
        return timm.create_model(model, in_chans=in_channels)
    own = {} if weights == "pretrained" else {"state_dict": read_state_dict(Path(weights), named="pretrained")}
    try:
        network = timm.create_model(model, pretrained=True, in_chans=in_channels, pretrained_cfg_overlay=own)
    except Exception as error:
        # The hub's client and timm's checks of the state dict raise errors of many kinds.
        raise WeightsError(
            f"timm's {model} cannot be built with the weights {weights!r}: {error}. Published weights come from the "
            "Hugging Face Hub: check the network; or give the path of a state dict of this network with its output "
            'layer, {"weights": "model.safetensors"}; or start from random weights: {"weights": None}.'
        ) from error
    network.pretrained_cfg.pop("state_dict", None)  # which would be kept and copied with the network
    return network
