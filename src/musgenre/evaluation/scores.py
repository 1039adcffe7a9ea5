"""The figures of a classifier's answers, of tracks or of windows, from how often each genre was taken for each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from musgenre.metrics.labels import genre_scores, mean_f1
from musgenre.metrics.probabilities import calibration_error
from musgenre.metrics.uncertainty import bootstrap_interval

TOP = 3
BINS = 15

Counts = npt.NDArray[np.int64]


@dataclass(frozen=True)
class GenreScores:
    """How well one genre is told from the others; a figure that would be 0 / 0 is 0.

    Attributes:
        precision: Share of what is predicted as this genre that is of it.
        recall: Share of what is of this genre that is predicted as it.
        f1: The harmonic mean of the two.
        support: Number of tracks (or windows) of this genre.
    """

    precision: float
    recall: float
    f1: float
    support: int


@dataclass(frozen=True)
class Scores:
    """Every figure of some tracks, or of their windows; a window's genre is its track's.

    Attributes:
        accuracy: Share that is right.
        accuracy_interval: Its 95 % interval, by bootstrap over groups.
        macro_f1: Mean of F1 over the genres that are true or predicted of any.
        macro_f1_interval: Its 95 % interval, by bootstrap over groups.
        top3_accuracy: Share whose genre is among the three most probable.
        calibration_error: Expected calibration error in 15 bins (:func:`musgenre.metrics.expected_calibration_error`).
        genres: Precision, recall, F1 and support of each genre.
        confusion: Counts; a row is the truth, a column the prediction.
        reliability: What :func:`musgenre.metrics.reliability` gives, ``(15, 3)``.
    """

    accuracy: float
    accuracy_interval: tuple[float, float]
    macro_f1: float
    macro_f1_interval: tuple[float, float]
    top3_accuracy: float
    calibration_error: float
    genres: dict[str, GenreScores]
    confusion: tuple[tuple[int, ...], ...]
    reliability: tuple[tuple[float, ...], ...]

    @property
    def count(self) -> int:
        """How many tracks, or windows, are judged."""
        return sum(map(sum, self.confusion))


@dataclass(frozen=True)
class Answers:
    """What was said of tracks, or of their windows; a row a track.

    Attributes:
        truth: Index of each track's label, ``(tracks,)``.
        taken: How often the track, or its windows, were taken for each genre, ``(tracks, classes)``.
        top: How often its genre was among the three most probable, ``(tracks,)``.
        reliability: Of all of them together, ``(15, 3)``.
    """

    truth: Counts
    taken: Counts
    top: Counts
    reliability: npt.NDArray[np.float64]

    def figures(self, *, labels: Sequence[str], groups: Sequence[str]) -> dict[str, Any]:
        """Returns the fields of :class:`Scores`; the intervals are over the groups, one a track."""
        names, member = np.unique(np.asarray(groups), return_inverse=True)
        by_group = np.zeros((len(names), len(labels), len(labels)), dtype=np.int64)
        np.add.at(by_group, (member, self.truth), self.taken)
        matrix = by_group.sum(axis=0)
        scores = zip(*(column.tolist() for column in genre_scores(matrix)), matrix.sum(axis=1).tolist(), strict=True)
        return {
            "accuracy": _accuracy(matrix),
            "accuracy_interval": _interval(_accuracy, by_group, names=names.tolist()),
            "macro_f1": mean_f1(matrix),
            "macro_f1_interval": _interval(mean_f1, by_group, names=names.tolist()),
            "top3_accuracy": float(self.top.sum() / matrix.sum()),
            "calibration_error": calibration_error(self.reliability),
            "genres": {label: GenreScores(*row) for label, row in zip(labels, scores, strict=True)},
            "confusion": tuple(map(tuple, matrix.tolist())),
            "reliability": tuple(map(tuple, self.reliability.tolist())),
        }


def _interval(figure: Callable[[Counts], float], by_group: Counts, *, names: Sequence[str]) -> tuple[float, float]:
    return bootstrap_interval(lambda drawn: figure(by_group[drawn].sum(axis=0)), groups=names)


def _accuracy(matrix: Counts) -> float:
    return float(matrix.trace() / matrix.sum())
