"""The network: feature, backbone and head in one module, from samples to logits."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from musgenre.backbones.base import BACKBONES, Backbone
from musgenre.core.config import ModelConfig
from musgenre.core.errors import PluginError
from musgenre.features.base import FEATURES, FeatureExtractor


class GenreNetwork(nn.Module):
    """Feature, backbone and head.

    Args:
        feature: From samples to a spectrogram.
        backbone: From the spectrogram to an embedding.
        head: From the embedding to one logit for each genre.

    Shape:
        - Input: ``(batch, samples)`` at the feature's ``sample_rate``
        - Output: logits ``(batch, classes)``, without softmax
    """

    def __init__(self, feature: FeatureExtractor, backbone: Backbone, *, head: nn.Module) -> None:
        super().__init__()
        self.feature = feature
        self.backbone = backbone
        self.head = head

    @classmethod
    def from_config(cls, config: ModelConfig, *, pretrained: bool = False) -> GenreNetwork:
        """Build the network of a configuration.

        Args:
            config: The configuration.
            pretrained: Whether to load the backbone's pretrained weights (its ``weights`` option). False if the model's
                own weights are loaded next, so that nothing is downloaded.

        Returns:
            The network, with initial weights.

        Raises:
            UnknownNameError: The feature or backbone does not exist.
            ConfigError: An option is unknown or invalid, or feature and backbone do not fit.
            PluginError: A plugin cannot be imported or violates its contract.
            WeightsError: The backbone's weights are not available.
        """
        feature = FEATURES.build(
            config.feature.name, {**config.feature.options, "sample_rate": config.audio.sample_rate}
        )
        _check_type(feature, FeatureExtractor, what=f"feature {config.feature.name!r}")
        shape = feature.out_shape(config.audio.window_samples)
        options = {**config.backbone.options, "in_channels": shape[0]}
        if not pretrained and BACKBONES.accepts(config.backbone.name, "weights"):
            options["weights"] = None
        backbone = BACKBONES.build(config.backbone.name, options)
        _check_type(backbone, Backbone, what=f"backbone {config.backbone.name!r}")
        backbone.expects.check(shape, feature=config.feature.name, backbone=config.backbone.name)
        head = dense_head(backbone.out_features, widths=(*config.hidden, len(config.labels)), dropout=config.dropout)
        network = cls(feature, backbone, head=head)
        # The memory format in which convolutions on a CPU are fastest; values are unchanged.
        return network.to(memory_format=torch.channels_last)

    def forward(self, waveform: Tensor) -> Tensor:
        """Map ``(batch, samples)`` to logits ``(batch, classes)``."""
        return self.classify(self.feature(waveform))

    def classify(self, feature: Tensor) -> Tensor:
        """Map ``(batch, channels, bins, frames)`` to logits ``(batch, classes)``."""
        logits: Tensor = self.head(self.backbone(feature))
        return logits


def dense_head(in_features: int, *, widths: tuple[int, ...], dropout: float) -> nn.Sequential:
    """Return dense layers with ReLU between them and dropout before each.

    Args:
        in_features: Size of the embedding.
        widths: Units of each layer; the last layer has one unit for each class and no activation.
        dropout: Dropout probability in training, in [0, 1).

    Shape:
        - Input: ``(batch, in_features)``
        - Output: ``(batch, widths[-1])``

    Example:
        >>> [type(layer).__name__ for layer in dense_head(512, widths=(64, 10), dropout=0.5)]
        ['Dropout', 'Linear', 'ReLU', 'Dropout', 'Linear']
    """
    layers: list[nn.Module] = []
    for width in widths:
        layers += [nn.Dropout(dropout), nn.Linear(in_features, width), nn.ReLU()]
        in_features = width
    return nn.Sequential(*layers[:-1])


def _check_type(built: object, expected: type, *, what: str) -> None:
    if not isinstance(built, expected):
        raise PluginError(
            f"The factory of {what} returned a {type(built).__name__}; it must return a "
            f"{expected.__module__}.{expected.__name__}."
        )
