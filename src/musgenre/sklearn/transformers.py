"""Features and embeddings as scikit-learn transformers, from songs to one vector for each song."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from musgenre.core.config import AudioSpec, Component
from musgenre.features.base import FEATURES, FeatureExtractor
from musgenre.models.classifier import GenreClassifier
from musgenre.models.inference import Inference
from musgenre.sklearn.inputs import as_sources, check_names, read_input

Floats = npt.NDArray[np.float64]
Names = npt.NDArray[np.object_]


class _SongTransformer(TransformerMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Base class of both transformers: feature names and tags."""

    sample_rate: int

    def get_feature_names_out(self, input_features: Sequence[str] | None = None) -> Names:
        """Return the names of the columns that :meth:`transform` returns.

        Args:
            input_features: Not used; checked as scikit-learn requires.

        Raises:
            NotFittedError: The transformer is not fitted.
            ParameterError: ``input_features`` differ from those that the transformer was fitted with.
        """
        check_is_fitted(self)
        check_names(self, input_features)
        return np.array(self._names(), dtype=object)

    def _names(self) -> Sequence[str]:
        raise NotImplementedError

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.string = True  # paths
        return tags


class FeatureTransformer(_SongTransformer):
    """A feature as a scikit-learn transformer, with one vector for each song.

    Songs are divided into windows; songs shorter than a window are repeated to fill it. The vector of a window is the
    feature if that is a vector, such as ``"stats"``, else its mean over the frames; the vector of a song is the mean
    over its windows. Fitting estimates nothing from the songs, so that it cannot leak.

    Args:
        feature: Name of a feature, or of several joined with ``+``, or a :class:`~musgenre.core.config.Component` with
            options.
        sample_rate: Sample rate, in hertz, of the rows of an array; files are resampled to it.
        window_seconds: Length of a window, and hop between windows.
        device: Device of the computation, such as ``"cuda"``; by default the CPU.

    Attributes:
        extractor_: The feature.
        n_features_in_: Number of samples in a row, if fitted on an array.

    Raises:
        UnknownNameError, PluginError, ConfigError: At ``fit``: the feature is not available.
        ParameterError: At ``fit``: a value is out of range.

    Example:
        >>> import numpy as np
        >>> waveforms = np.random.default_rng(0).normal(size=(3, 22_050))
        >>> transformer = FeatureTransformer("stats", window_seconds=1.0)
        >>> transformer.fit_transform(waveforms).shape, list(transformer.get_feature_names_out()[:2])
        ((3, 154), ['mfcc_0_mean', 'mfcc_0_std'])
    """

    def __init__(
        self,
        feature: str | Component = "stats",
        *,
        sample_rate: int = 22_050,
        window_seconds: float = 10.0,
        device: str | torch.device | None = None,
    ) -> None:
        self.feature = feature
        self.sample_rate = sample_rate
        self.window_seconds = window_seconds
        self.device = device

    def fit(self, X: Any, y: Any = None) -> FeatureTransformer:
        """Build the feature; the songs are not read.

        Args:
            X: Paths, or waveforms ``(songs, samples)`` at ``sample_rate``, in [-1, 1].
            y: Not used.
        """
        read_input(self, X, sample_rate=self.sample_rate, reset=True)
        component = Component.of(self.feature)
        extractor = FEATURES.build(component.name, {**component.options, "sample_rate": self._audio().sample_rate})
        self.extractor_ = extractor.eval().to(self._device())
        return self

    def transform(self, X: Any) -> Floats:
        """Return the vectors of songs.

        Args:
            X: As for :meth:`fit`.

        Shape:
            - Output: ``(songs, entries)``

        Raises:
            AudioFileError, AudioError: A song cannot be read.
            NotFittedError: The transformer is not fitted.
        """
        check_is_fitted(self)
        songs = read_input(self, X, sample_rate=self.sample_rate, reset=False)
        sources = as_sources(songs, sample_rate=self.sample_rate)
        inference: Inference[Floats] = Inference(
            make_function=lambda: self._vectors,
            finish=lambda outputs: outputs.values.mean(axis=0),
            audio=self._audio(),
            device=self._device(),
        )
        return np.stack(list(inference.run_each(sources)))

    def _vectors(self, batch: Tensor) -> Tensor:
        feature: Tensor = self.extractor_(batch)
        return feature.mean(dim=-1).flatten(start_dim=1)

    def _names(self) -> Sequence[str]:
        extractor: FeatureExtractor = self.extractor_
        if extractor.names is not None:
            return extractor.names
        channels, bins, _ = extractor.out_shape(self._audio().window_samples)
        name = Component.of(self.feature).name
        middle = [f"_{channel}" for channel in range(channels)] if channels > 1 else [""]
        return [f"{name}{channel}_{number}" for channel in middle for number in range(bins)]

    def _audio(self) -> AudioSpec:
        return AudioSpec(self.sample_rate, window_seconds=self.window_seconds, hop_seconds=self.window_seconds)

    def _device(self) -> torch.device:
        return torch.device(self.device or "cpu")


class EmbeddingTransformer(_SongTransformer):
    """Embeddings of a trained model as a scikit-learn transformer, with one vector for each song.

    See :meth:`musgenre.GenreClassifier.embed`. Scores on songs that the model was trained on are too high.

    Args:
        model: A :class:`~musgenre.GenreClassifier`, or the argument of
            :meth:`~musgenre.GenreClassifier.from_pretrained`; ``None`` is the default model.
        sample_rate: Sample rate of the rows of an array, in hertz; files and rows are resampled to the model's rate.
        device: Device of the computation; by default CUDA if there is a GPU, else the CPU. A classifier is not moved.

    Attributes:
        classifier_: The model.
        n_features_in_: Number of samples in a row, if fitted on an array.

    Raises:
        WeightsError, ConfigError, UnknownNameError, PluginError: At ``fit``: the model is not available.

    Example:
        >>> import numpy as np
        >>> waveforms = np.random.default_rng(0).normal(size=(2, 66_150))
        >>> EmbeddingTransformer().fit_transform(waveforms).shape
        (2, 5120)
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | GenreClassifier | None = None,
        *,
        sample_rate: int = 22_050,
        device: str | torch.device | None = None,
    ) -> None:
        self.model = model
        self.sample_rate = sample_rate
        self.device = device

    def fit(self, X: Any, y: Any = None) -> EmbeddingTransformer:
        """Load the model; the songs are not read.

        Args:
            X: Paths, or waveforms ``(songs, samples)`` at ``sample_rate``, in [-1, 1].
            y: Not used.
        """
        read_input(self, X, sample_rate=self.sample_rate, reset=True)
        model = self.model
        self.classifier_ = (
            model if isinstance(model, GenreClassifier) else GenreClassifier.from_pretrained(model, device=self.device)
        )
        return self

    def transform(self, X: Any) -> Floats:
        """Return the embeddings of songs.

        Args:
            X: As for :meth:`fit`.

        Shape:
            - Output: ``(songs, embedding_size)``

        Raises:
            AudioFileError, AudioError: A song cannot be read.
            NotFittedError: The transformer is not fitted.
        """
        check_is_fitted(self)
        songs = read_input(self, X, sample_rate=self.sample_rate, reset=False)
        sources = as_sources(songs, sample_rate=self.sample_rate)
        embeddings: Floats = self.classifier_.embed(sources).astype(np.float64)
        return embeddings

    def _names(self) -> Sequence[str]:
        return [f"embedding_{number}" for number in range(self.classifier_.embedding_size)]
