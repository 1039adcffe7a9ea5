"""What a feature extractor is, and the registry in which all of them are found."""

from __future__ import annotations

import abc
from collections.abc import Callable

import torch
from torch import Tensor, nn

from musgenre.core.errors import ConfigError, ParameterError
from musgenre.core.registry import F, Registry
from musgenre.functional import check_positive

JOIN = "+"
"""What stands between the names of features that are used together, as in ``"logmel+tempogram"``."""


class FeatureExtractor(nn.Module, abc.ABC):
    """Turns windows of audio into what a backbone sees; the first part of every network.

    It is a module of the network, so that training and prediction cannot disagree about it and it
    runs on the network's device. A subclass writes :meth:`out_shape` and :meth:`forward`.

    A feature that is one vector a window has the shape ``(batch, 1, entries, 1)``, and says in ``names`` what its
    entries are.

    Args:
        sample_rate: The rate of the audio that it is given, in hertz.

    Attributes:
        names: What each entry of a vector is, or ``None`` where the feature is no vector.

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
    names: tuple[str, ...] | None = None

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

    def bins_hz(self) -> Tensor | None:
        """Returns the frequency of each bin in hertz, or ``None`` where bins are no frequencies; for pictures.

        Shape:
            ``(bins,)``, not falling.
        """
        return None


def centres_hz(filterbank: Tensor, *, sample_rate: int) -> Tensor:
    """Returns the frequency around which each filter of a bank lies, in hertz: the mean over its weights.

    Args:
        filterbank: Weights of the bins of a Fourier transform, from 0 Hz to half the rate.
        sample_rate: Rate of the audio, in hertz.

    Shape:
        ``(filters, bins)`` to ``(filters,)``, not falling; an empty filter has the frequency of the one below it.

    Example:
        >>> import torch
        >>> centres_hz(torch.tensor([[1.0, 0, 0, 0, 0], [0, 0, 1, 2, 1]]), sample_rate=8000)
        tensor([   0., 3000.])
    """
    hertz = torch.linspace(0, sample_rate / 2, filterbank.shape[-1]).to(filterbank)
    weights = filterbank.sum(dim=-1)
    return ((filterbank @ hertz) / weights.where(weights > 0, 1)).cummax(dim=0).values


class FeatureRegistry(Registry[FeatureExtractor]):
    """A registry in which names can be joined: ``"logmel+tempogram"`` is both features as one.

    :class:`musgenre.features.Combined` says how they go together. An option goes to each of them that has it.
    """

    def get(self, name: str) -> Callable[..., FeatureExtractor]:
        """Returns the factory called ``name``, or one for features that are joined.

        Raises:
            UnknownNameError, PluginError: As :meth:`musgenre.core.registry.Registry.get`, for each of the features.
            ConfigError: A feature is named twice.
        """
        if JOIN not in name:
            return super().get(name)
        from musgenre.features.concat import Combination

        names = name.split(JOIN)
        if len(set(names)) < len(names):
            raise ConfigError(f"The feature {name!r} names a feature twice: name each once.")
        return Combination({part: super(FeatureRegistry, self).get(part) for part in names})

    def register(self, name: str) -> Callable[[F], F]:
        """Returns a decorator that registers a factory in this process.

        Raises:
            ParameterError, PluginError: As :meth:`musgenre.core.registry.Registry.register`; or the name has a ``+``.
        """
        if JOIN in name:
            raise ParameterError(f"A feature's name has no {JOIN!r}, which joins features, unlike {name!r}.")
        return super().register(name)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and all(map(super().__contains__, name.split(JOIN)))


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
    },
)
"""Every feature extractor by name, or several by names joined with ``+``; a factory takes ``sample_rate`` and its own
options, by keyword."""

register_feature = FEATURES.register
"""Decorator that registers a factory of feature extractors under a name in this process."""
