"""The contract of a feature extractor, and the registry of features."""

from __future__ import annotations

import abc
import pkgutil
from collections.abc import Callable

import torch
from torch import Tensor, nn

from musgenre.core.errors import ConfigError, ParameterError
from musgenre.core.registry import F, Registry
from musgenre.functional import check_positive

SEPARATOR = "+"
"""Separator between the names of combined features, as in ``"logmel+tempogram"``."""

FLOOR_DB = 80.0
"""Dynamic range of spectrograms below the maximum of a window, in decibels."""


class FeatureExtractor(nn.Module, abc.ABC):
    """Base class of features, which map windows of audio to the input of a backbone.

    A feature is part of the network: training and prediction use the same code, and it runs on the device of the
    network. A subclass implements :meth:`out_shape` and :meth:`forward`.

    A feature that computes one vector per window has the shape ``(batch, 1, entries, 1)`` and sets :attr:`names`.

    Args:
        sample_rate: Rate of the audio, in hertz.

    Attributes:
        names: Name of each entry of a vector, or ``None`` if the feature is not a vector.

    Raises:
        ParameterError: ``sample_rate`` is not a positive integer.

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
    names: tuple[str, ...] | None = None

    def __init__(self, *, sample_rate: int) -> None:
        super().__init__()
        check_positive(sample_rate=sample_rate)
        self.sample_rate = sample_rate

    @abc.abstractmethod
    def out_shape(self, samples: int) -> tuple[int, int, int]:
        """Return ``(channels, bins, frames)`` for windows of ``samples`` samples, without computing the feature."""

    @abc.abstractmethod
    def forward(self, waveform: Tensor) -> Tensor:
        """Compute the feature.

        Args:
            waveform: Mono windows at :attr:`sample_rate`, in [-1, 1].

        Shape:
            ``(batch, samples)`` to ``(batch, channels, bins, frames)``; frequency increases along ``bins``.
        """

    def bins_hz(self) -> Tensor | None:
        """Return the centre frequency of each bin in hertz, or ``None`` if bins are not frequencies; used for plotting.

        Shape:
            ``(bins,)``, non-decreasing.
        """
        return None


def centres_hz(filterbank: Tensor, *, sample_rate: int) -> Tensor:
    """Compute the centre frequency of each filter of a filterbank: the mean frequency over its weights.

    Args:
        filterbank: Weights of Fourier bins from 0 Hz to half the sample rate.
        sample_rate: Rate of the audio, in hertz.

    Shape:
        ``(filters, bins)`` to ``(filters,)``, in hertz and non-decreasing. An empty filter has the frequency of the
        filter below it.

    Example:
        >>> import torch
        >>> centres_hz(torch.tensor([[1.0, 0, 0, 0, 0], [0, 0, 1, 2, 1]]), sample_rate=8000)
        tensor([   0., 3000.])
    """
    hertz = torch.linspace(0, sample_rate / 2, filterbank.shape[-1]).to(filterbank)
    weights = filterbank.sum(dim=-1)
    return ((filterbank @ hertz) / weights.where(weights > 0, 1)).cummax(dim=0).values


_COMBINED_FACTORY = "musgenre.features.concat:CombinedFactory"


class FeatureRegistry(Registry[FeatureExtractor]):
    """Registry of features that also resolves combined names such as ``"logmel+tempogram"``.

    See :class:`musgenre.features.Combined`. Each option is passed to every part that has it.
    """

    def get(self, name: str) -> Callable[..., FeatureExtractor]:
        """Return the factory of a feature, or of a combination of features.

        Raises:
            UnknownNameError, PluginError: As :meth:`musgenre.core.registry.Registry.get`, for each part.
            ConfigError: A feature is named twice.
        """
        if SEPARATOR not in name:
            return super().get(name)
        parts = name.split(SEPARATOR)
        if len(set(parts)) < len(parts):
            raise ConfigError(f"The combined feature {name!r} contains a feature twice: list each feature once.")
        # Like the built-ins, this factory is loaded by its name, so that the base module imports no feature.
        make_factory: Callable[..., Callable[..., FeatureExtractor]] = pkgutil.resolve_name(_COMBINED_FACTORY)
        return make_factory({part: super(FeatureRegistry, self).get(part) for part in parts})

    def register(self, name: str) -> Callable[[F], F]:
        """Return a decorator that registers a factory in this process.

        Raises:
            ParameterError, PluginError: As :meth:`musgenre.core.registry.Registry.register`, or the name contains a
                ``+``.
        """
        if SEPARATOR in name:
            raise ParameterError(
                f"The name of a feature must not contain {SEPARATOR!r}, which combines features; got {name!r}."
            )
        return super().register(name)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and all(map(super().__contains__, name.split(SEPARATOR)))


FEATURES = FeatureRegistry(
    "feature",
    group="musgenre.features",
    builtins={
        "chroma": "musgenre.features.harmonic:Chroma",
        "cqt": "musgenre.features.harmonic:ConstantQ",
        "hpss": "musgenre.features.rhythm:HarmonicPercussive",
        "logmel": "musgenre.features.spectral:LogMel",
        "logmel-image": "musgenre.features.spectral:LogMelImage",
        "mfcc": "musgenre.features.spectral:Mfcc",
        "spectral-contrast": "musgenre.features.timbre:SpectralContrast",
        "stats": "musgenre.features.stats:Stats",
        "tempogram": "musgenre.features.rhythm:Tempogram",
        "tonnetz": "musgenre.features.harmonic:Tonnetz",
        "yamnet-logmel": "musgenre.features.yamnet:YAMNetLogMel",
        "yamnet-mel": "musgenre.features.spectral:YAMNetMel",
    },
)
"""Registry of features, by name or by several names joined with ``+``. A factory takes ``sample_rate`` and its options
by keyword."""

register_feature = FEATURES.register
"""Decorator that registers a feature factory under a name in this process."""
