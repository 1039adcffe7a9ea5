"""Fine-tuning as a scikit-learn classifier."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import soundfile
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted

from musgenre.core.config import Component
from musgenre.core.errors import DatasetError, ParameterError
from musgenre.datasets.base import Track, TrackDataset, probe
from musgenre.sklearn.inputs import Songs, as_sources, read_input, read_labelled, repeat_short
from musgenre.training.config import FinetuneConfig, FinetuneOptions, apply_options
from musgenre.training.finetune import finetune

_OPTION = "options__"


class GenreEstimator(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """:func:`musgenre.finetune` as a scikit-learn classifier.

    All songs passed to ``fit`` are used for training, and none for early stopping. Use ``GroupKFold`` or similar to
    keep the songs of an artist in one fold.

    Args:
        backbone: Name of a backbone, or a :class:`~musgenre.core.config.Component` with options; ``None`` uses the
            backbone of the preset.
        feature: Name or component of a feature; by default the backbone's.
        preset: Name of a preset, as for :func:`~musgenre.finetune`.
        options: Fields of :class:`~musgenre.FinetuneConfig` and :class:`~musgenre.RunOptions` by name; ``progress`` is
            false by default. Single options can be set, and searched by ``GridSearchCV``, as ``options__<name>``.
        sample_rate: Sample rate of the rows of an array, in hertz; files and rows are resampled to the model's rate.

    Attributes:
        classes_: The sorted labels, in the order of the columns of :meth:`predict_proba`.
        classifier_: The trained :class:`~musgenre.GenreClassifier`.
        n_features_in_: Number of samples in a row, if fitted on an array.

    Example:
        >>> import numpy as np
        >>> random = np.random.default_rng(0)
        >>> tone = np.sin(np.arange(8_000) * 0.3) * random.uniform(0.5, 1, size=(4, 1))
        >>> waveforms = np.concatenate([tone, random.normal(size=(4, 8_000))])
        >>> tiny = Component("vgg16-slim", {"width": 0.05, "dense_units": 8})
        >>> estimator = GenreEstimator(tiny, sample_rate=8_000, options={"epochs": 0})
        >>> estimator = estimator.set_params(options__head_epochs=1).fit(waveforms, ["tone"] * 4 + ["noise"] * 4)
        >>> estimator.classes_.tolist(), estimator.predict_proba(waveforms).shape
        (['noise', 'tone'], (8, 2))
    """

    def __init__(
        self,
        backbone: str | Component | None = "vgg16-slim",
        *,
        feature: str | Component | None = None,
        preset: str | None = None,
        options: FinetuneOptions | None = None,
        sample_rate: int = 22_050,
    ) -> None:
        self.backbone = backbone
        self.feature = feature
        self.preset = preset
        self.options = options
        self.sample_rate = sample_rate

    def set_params(self, **params: Any) -> GenreEstimator:
        """Set parameters, and single options by names such as ``options__epochs``.

        Raises:
            ParameterError: A parameter or option is unknown, or an option is out of range.
        """
        single: Any = {
            name.removeprefix(_OPTION): params.pop(name) for name in list(params) if name.startswith(_OPTION)
        }
        super().set_params(**params)
        if single:
            apply_options(FinetuneConfig(), single)
            self.options = {**(self.options or {}), **single}
        return self

    def fit(self, X: Any, y: Any) -> GenreEstimator:
        """Train a network from its initial weights.

        Args:
            X: Paths, or waveforms ``(songs, samples)`` at ``sample_rate`` in [-1, 1], which are written to temporary
                files.
            y: Labels, one for each song.

        Raises:
            ParameterError: There are fewer than two classes, or an option is unknown or out of range.
            DatasetError: A file cannot be read, or a class has fewer than two songs.
            MusgenreError: As :func:`~musgenre.finetune`.
        """
        songs, labels = read_labelled(self, X, y=y, sample_rate=self.sample_rate)
        self.classes_, indices = np.unique(labels, return_inverse=True)
        if len(self.classes_) < 2:
            raise ParameterError(
                f"A classifier needs at least two classes, and y holds 1 class: {str(self.classes_[0])!r}."
            )
        with tempfile.TemporaryDirectory(prefix="musgenre-") as folder:
            data = self._dataset(self._files(songs, Path(folder)), indices)
            options: FinetuneOptions = {"progress": False, **(self.options or {})}
            result = finetune(data, backbone=self.backbone, feature=self.feature, preset=self.preset, **options)
        self.classifier_ = result.classifier
        return self

    def predict(self, X: Any) -> npt.NDArray[Any]:
        """Return the most probable class of each song.

        Args:
            X: As for :meth:`fit`.

        Shape:
            - Output: ``(songs,)``

        Raises:
            AudioFileError, AudioError, NotFittedError: As :meth:`predict_proba`.
        """
        indices = self.predict_proba(X).argmax(axis=1)
        predicted: npt.NDArray[Any] = self.classes_[indices]
        return predicted

    def predict_proba(self, X: Any) -> npt.NDArray[np.float64]:
        """Return the probability of each class.

        Args:
            X: As for :meth:`fit`.

        Shape:
            - Output: ``(songs, classes)``, columns in the order of ``classes_``

        Raises:
            AudioFileError, AudioError: A song cannot be read.
            NotFittedError: The estimator is not fitted.
        """
        check_is_fitted(self)
        songs = read_input(self, X, sample_rate=self.sample_rate, reset=False)
        sources = as_sources(songs, sample_rate=self.sample_rate)
        probabilities: npt.NDArray[np.float64] = self.classifier_.predict_proba(sources)
        return probabilities

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.string = True  # paths
        return tags

    def _files(self, songs: Songs, folder: Path) -> list[Path]:
        """Return the paths of songs; the rows of an array are written to float files first."""
        if isinstance(songs, list):
            return [Path(song) for song in songs]
        paths = [folder / f"{number}.wav" for number in range(len(songs))]
        for path, row in zip(paths, repeat_short(songs, sample_rate=self.sample_rate), strict=True):
            soundfile.write(path, row, self.sample_rate, subtype="FLOAT")
        return paths

    def _dataset(self, paths: list[Path], indices: npt.NDArray[np.intp]) -> TrackDataset:
        tracks = []
        for number, (path, index) in enumerate(zip(paths, indices.tolist(), strict=True)):
            duration_seconds = probe(path)
            if isinstance(duration_seconds, str):
                raise DatasetError(f"Song {number} cannot be used ({duration_seconds}): remove it.")
            tracks.append(Track(str(number), path, str(self.classes_[index]), None, duration_seconds))
        return TrackDataset(tracks, labels=[str(label) for label in self.classes_], name="songs")
