"""Fine-tuning as a scikit-learn classifier."""

from __future__ import annotations

import os
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
from musgenre.sklearn.inputs import Table, as_sources, lengthened, read_input, read_labelled
from musgenre.training.finetune import finetune
from musgenre.training.options import sort_options

_OPTION = "options__"


class GenreEstimator(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """:func:`musgenre.finetune` as a scikit-learn classifier.

    All songs that ``fit`` is given are learnt from; there is no validation set to stop by. Keep artists apart with
    ``GroupKFold`` and its like.

    Args:
        backbone: Name of a backbone, or a :class:`~musgenre.core.config.Component` with options; ``None`` is the
            backbone of the preset in ``options``.
        feature: Name or component of a feature; ``None`` takes the backbone's default.
        options: What :func:`~musgenre.finetune` takes by name: fields of :class:`~musgenre.FinetuneConfig` and
            :class:`~musgenre.RunOptions`, and ``preset``. Progress is off unless they say otherwise. A single one is
            set, and searched by ``GridSearchCV``, under its name behind ``options__``.
        sample_rate: The rate of the rows of a table, in hertz; files and rows are brought to the network's own.

    Attributes:
        classes_: The labels, sorted; the columns of :meth:`predict_proba`.
        classifier_: The trained :class:`~musgenre.GenreClassifier`.
        n_features_in_: Samples a row, where it was fitted on a table.

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
        options: dict[str, Any] | None = None,
        sample_rate: int = 22_050,
    ) -> None:
        self.backbone = backbone
        self.feature = feature
        self.options = options
        self.sample_rate = sample_rate

    def set_params(self, **params: Any) -> GenreEstimator:
        """Sets parameters, and single options by names like ``options__epochs``.

        Raises:
            ParameterError: There is no such parameter or option, or an option is out of range.
        """
        single = {name.removeprefix(_OPTION): params.pop(name) for name in list(params) if name.startswith(_OPTION)}
        super().set_params(**params)
        if single:
            sort_options({name: value for name, value in single.items() if name != "preset"}, None)
            self.options = {**(self.options or {}), **single}
        return self

    def fit(self, X: Any, y: Any) -> GenreEstimator:
        """Trains a network from its initial weights.

        Args:
            X: Paths, or waveforms ``(songs, samples)`` at ``sample_rate``, full scale at 1, which are written to
                temporary files.
            y: A label a song.

        Raises:
            ParameterError: There are not two classes, or an option is unknown or out of range.
            DatasetError: A file cannot be read, or a class has fewer than two songs.
            MusgenreError: As :func:`~musgenre.finetune`.
        """
        songs, labels = read_labelled(self, X, y=y, sample_rate=self.sample_rate)
        self.classes_, places = np.unique(labels, return_inverse=True)
        if len(self.classes_) < 2:
            raise ParameterError(
                f"A classifier needs at least two classes, and y holds 1 class: {str(self.classes_[0])!r}."
            )
        with tempfile.TemporaryDirectory(prefix="musgenre-") as folder:
            data = self._dataset(self._files(songs, Path(folder)), places)
            options = {"progress": False, **(self.options or {})}
            result = finetune(data, backbone=self.backbone, feature=self.feature, **options)
        self.classifier_ = result.classifier
        return self

    def predict(self, X: Any) -> npt.NDArray[Any]:
        """Returns the most probable class of each song.

        Args:
            X: As for :meth:`fit`.

        Shape:
            - Output: ``(songs,)``

        Raises:
            AudioFileError, AudioError, NotFittedError: As :meth:`predict_proba`.
        """
        places = self.predict_proba(X).argmax(axis=1)
        found: npt.NDArray[Any] = self.classes_[places]
        return found

    def predict_proba(self, X: Any) -> npt.NDArray[np.float64]:
        """Returns the probability of each class.

        Args:
            X: As for :meth:`fit`.

        Shape:
            - Output: ``(songs, classes)``, columns in the order of ``classes_``

        Raises:
            AudioFileError, AudioError: A song cannot be read.
            NotFittedError: It has not been fitted.
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

    def _files(self, songs: list[str | os.PathLike[str]] | Table, folder: Path) -> list[Path]:
        """Returns the paths of songs; the rows of a table are written first, exactly."""
        if isinstance(songs, list):
            return [Path(song) for song in songs]
        paths = [folder / f"{number}.wav" for number in range(len(songs))]
        for path, row in zip(paths, lengthened(songs, sample_rate=self.sample_rate), strict=True):
            soundfile.write(path, row, self.sample_rate, subtype="FLOAT")
        return paths

    def _dataset(self, paths: list[Path], places: npt.NDArray[np.intp]) -> TrackDataset:
        tracks = []
        for number, (path, place) in enumerate(zip(paths, places.tolist(), strict=True)):
            found = probe(path)
            if isinstance(found, str):
                raise DatasetError(f"Song {number} cannot be learnt from ({found}): leave it out.")
            tracks.append(Track(str(number), path, str(self.classes_[place]), None, found))
        return TrackDataset(tracks, labels=[str(one) for one in self.classes_], name="songs")
