"""Networks of timm as backbones; requires the extra ``musgenre[timm]``."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

from musgenre.backbones.base import InputSpec, image_feature
from musgenre.backbones.stages import WrappedBackbone, WrappedFactory
from musgenre.backbones.state_dicts import read_state_dict
from musgenre.core.errors import PluginError, WeightsError
from musgenre.core.registry import unknown_name

_MIN_SIZE = 32


class TimmBackbone(WrappedBackbone):
    """Network of timm (PyTorch Image Models, by Ross Wightman) without its output layer.

    Args:
        model: Name of the network in timm, with or without the tag of its weights: ``"resnet18"`` or
            ``"resnet18.a1_in1k"``.
        in_channels: Number of channels of the feature. If it is not 3, timm adapts the weights of the first layer: one
            channel gets the sum of the three; more channels get the three in turn, rescaled.
        weights: ``"pretrained"`` for the weights that timm publishes under this name and tag (most of them on the
            Hugging Face Hub, downloaded once), the path of a state dict of this network in timm's layout, or ``None``
            for random weights.

    Shape:
        - Input: ``(batch, in_channels, height, width)``: the size used in pretraining if the network is built for one
          size, as transformers are; otherwise at least 32 × 32
        - Output: ``(batch, out_features)``, the input of the output layer

    Raises:
        PluginError: timm is not installed.
        UnknownNameError: timm has no such network.
        WeightsError: The weights cannot be downloaded or read, or do not match the network.

    Example:
        >>> import torch
        >>> backbone = TimmBackbone("test_resnet", in_channels=1, weights=None).eval()
        >>> backbone(torch.zeros(2, 1, 128, 130)).shape, len(backbone.stages())
        (torch.Size([2, 96]), 5)
    """

    named_weights: ClassVar[tuple[str, ...]] = ("pretrained",)

    def __init__(self, model: str, *, in_channels: int = 3, weights: str | None = "pretrained") -> None:
        super().__init__()
        pretraining = _pretraining(model)
        network = _build(model, in_channels=in_channels, weights=weights)
        # After loading, because timm does not report missing weights if the number of classes differs.
        network.reset_classifier(0)
        self.network = network
        self.out_features = int(network.head_hidden_size)
        self.expects = InputSpec(
            channels=in_channels,
            size=pretraining.input_size[1:] if pretraining.fixed_input_size else None,
            min_size=(_MIN_SIZE, _MIN_SIZE),
            mean=pretraining.mean if len(pretraining.mean) == in_channels else None,
            std=pretraining.std if len(pretraining.std) == in_channels else None,
        )
        self.pretrained = weights is not None


class TimmFactory(WrappedFactory):
    """Factory of a :class:`TimmBackbone` for one of timm's networks."""

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
    pretraining = _pretraining(model)
    feature = image_feature(pretraining.input_size[1], mean=pretraining.mean, std=pretraining.std)
    return TimmFactory(model, feature)


def _timm() -> ModuleType:
    try:
        import timm
    except ImportError as error:
        raise PluginError(
            f"Backbones named 'timm/…' require timm, which cannot be imported ({error}): pip install 'musgenre[timm]'."
        ) from error
    module: ModuleType = timm
    return module


def _pretraining(model: str) -> Any:
    """Returns timm's record of the pretraining of a network, without building the network."""
    timm = _timm()
    names = {*timm.list_models(), *timm.list_models(pretrained=True)}
    # Stricter than timm's own check, which accepts any tag, and its builder, which accepts any repository on the Hub.
    if model not in names:
        raise unknown_name(model, kind="network of timm", names=sorted(names))
    return timm.get_pretrained_cfg(model)


def _build(model: str, *, in_channels: int, weights: str | None) -> Any:
    timm = _timm()
    if weights is None:
        return timm.create_model(model, in_chans=in_channels)
    source = {} if weights == "pretrained" else {"state_dict": read_state_dict(Path(weights), named="pretrained")}
    try:
        network = timm.create_model(model, pretrained=True, in_chans=in_channels, pretrained_cfg_overlay=source)
    except Exception as error:
        # The Hub's client and timm's checks of the state dict raise errors of many types.
        raise WeightsError(
            f"timm's {model} cannot be built with the weights {weights!r}: {error}. Published weights are downloaded "
            "from the Hugging Face Hub: check the network connection; or give the path of a state dict of this network "
            'with its output layer, {"weights": "model.safetensors"}; or start from random weights: {"weights": None}.'
        ) from error
    network.pretrained_cfg.pop("state_dict", None)  # it would be pickled and copied with the network
    return network
