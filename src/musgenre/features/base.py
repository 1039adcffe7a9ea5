"""What a feature extractor is, and the registry in which all of them are found."""

from __future__ import annotations

import abc

from torch import Tensor, nn

from musgenre.functional import check_positive
from musgenre.registry import Registry


class FeatureExtractor(nn.Module, abc.ABC):
    """Turns windows of audio into what a backbone sees; the first part of every network.

    It is a module of the network, so that training and prediction cannot disagree about it and it
    runs on the network's device. A subclass writes :meth:`out_shape` and :meth:`forward`.

    Args:
        sample_rate: The rate of the audio that it is given, in hertz.

    Raises:
        ParameterError: ``sample_rate`` is not a positive whole number.

    Example:
        >>> class Loudness(FeatureExtractor):
        ...     def out_shape(self, samples):
        ...         return 1, 1, samples // 1024
        ...     def forward(self, waveform):
        ...         return waveform.square().unfold(-1, 1024, 1024).mean(-1)[:, None, None]
        >>> import torch
        >>> Loudness(sample_rate=22_050)(torch.zeros(2, 4096)).shape
        torch.Size([2, 1, 1, 4])
    """

    sample_rate: int

    def __init__(self, *, sample_rate: int) -> None:
        super().__init__()
        check_positive(sample_rate=sample_rate)
        self.sample_rate = sample_rate

    @abc.abstractmethod
    def out_shape(self, samples: int) -> tuple[int, int, int]:
        """Returns ``(channels, bins, frames)`` for windows of ``samples`` samples, without computing them."""

    @abc.abstractmethod
    def forward(self, waveform: Tensor) -> Tensor:
        """Computes the feature.

        Args:
            waveform: Mono windows at :attr:`sample_rate`, in [-1, 1].

        Shape:
            ``(batch, samples)`` to ``(batch, channels, bins, frames)``; along ``bins`` frequency rises.
        """


FEATURES: Registry[FeatureExtractor] = Registry(
    "feature",
    group="musgenre.features",
    builtins={
        "logmel": "musgenre.features.spectral:LogMel",
        "logmel-image": "musgenre.features.spectral:LogMelImage",
        "mfcc": "musgenre.features.spectral:Mfcc",
        "yamnet-logmel": "musgenre.features.yamnet:YAMNetLogMel",
    },
)
"""Every feature extractor by name; a factory takes ``sample_rate`` and its own options, by keyword."""

register_feature = FEATURES.register
"""Decorator that registers a factory of feature extractors under a name in this process."""
