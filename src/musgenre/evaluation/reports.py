"""What is known of a classifier after it has been measured."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from musgenre.errors import ParameterError
from musgenre.evaluation.markdown import percent, table
from musgenre.evaluation.storage import Report
from musgenre.metrics.labels import accuracy, confusion, genre_scores, macro_f1
from musgenre.metrics.probabilities import calibration_error, reliability, top_k_accuracy
from musgenre.metrics.uncertainty import accuracy_interval, bootstrap_interval


@dataclass(frozen=True)
class TrackPrediction:
    """What was said of one track.

    Attributes:
        id: The track's id in its dataset.
        label: Its genre.
        predicted: The genre that was predicted.
        probabilities: Of every genre, in the order of the report's labels.
        group: The track's group (artist), or ``None``.
    """

    id: str
    label: str
    predicted: str
    probabilities: tuple[float, ...]
    group: str | None = None


@dataclass(frozen=True)
class GenreScores:
    """How well one genre is told from the others; a figure that would be 0 / 0 is 0.

    Attributes:
        precision: Share of the tracks predicted as this genre that are of it.
        recall: Share of the tracks of this genre that are predicted as it.
        f1: The harmonic mean of the two.
        support: Number of tracks of this genre.
    """

    precision: float
    recall: float
    f1: float
    support: int


@dataclass(frozen=True)
class EvaluationReport(Report):
    """What :func:`evaluate` measured. All figures are of tracks but those that name windows.

    Attributes:
        model: Name of the model.
        trained_on: What it was trained on, as its configuration says.
        dataset: Name and split of the dataset.
        leaky: Whether the model is known to have seen some of the tracks or their artists in training.
        library_version: The musgenre that measured.
        labels: The genres, in the order of all that follows.
        tracks: Number of tracks.
        missing: Number of tracks that the dataset should hold and had left out before.
        groups: Number of groups (artists); a track without one is its own.
        accuracy: Share of the tracks that are right.
        accuracy_interval: Its 95 % interval, by bootstrap over groups.
        macro_f1: Mean of F1 over the genres that are true or predicted of any track.
        macro_f1_interval: Its 95 % interval, by bootstrap over groups.
        top3_accuracy: Share of the tracks whose genre is among the three most probable.
        calibration_error: Expected calibration error in 15 bins (:func:`musgenre.metrics.reliability`).
        windows: Number of windows.
        window_accuracy: Share of the windows that are right.
        window_calibration_error: Expected calibration error of the windows.
        genres: Precision, recall, F1 and support of each genre.
        confusion: Counts; a row is the truth, a column the prediction.
        window_reliability: The windows' :func:`musgenre.metrics.reliability`, ``(15, 3)``.
        predictions: What was said of each track.

    Raises:
        ParameterError: The predictions do not fit the labels, or a track stands in them twice.
    """

    model: str
    trained_on: str | None
    dataset: str
    leaky: bool
    library_version: str
    labels: tuple[str, ...]
    tracks: int
    missing: int
    groups: int
    accuracy: float
    accuracy_interval: tuple[float, float]
    macro_f1: float
    macro_f1_interval: tuple[float, float]
    top3_accuracy: float
    calibration_error: float
    windows: int
    window_accuracy: float
    window_calibration_error: float
    genres: dict[str, GenreScores]
    confusion: tuple[tuple[int, ...], ...]
    window_reliability: tuple[tuple[float, ...], ...]
    predictions: tuple[TrackPrediction, ...]

    def __post_init__(self) -> None:
        known = set(self.labels)
        for row in self.predictions:
            if not {row.label, row.predicted} <= known or len(row.probabilities) != len(self.labels):
                raise ParameterError(f"The prediction of track {row.id!r} does not fit the labels {self.labels}.")
        repeated = [track for track, count in Counter(row.id for row in self.predictions).items() if count > 1]
        if repeated or len(self.predictions) != self.tracks:
            raise ParameterError(f"Expected a prediction for each of {self.tracks} tracks, each once.")

    @property
    def title(self) -> str:
        """Model and dataset, and a word of warning where the report is leaky."""
        return f"{self.model} on {self.dataset}{' (leaky)' if self.leaky else ''}"

    def to_markdown(self) -> str:
        """Returns the report as Markdown, without the single predictions."""
        trained = f" The model: {self.trained_on}." if self.trained_on else ""
        gone = f" {self.missing} more could not be read and do not count." if self.missing else ""
        leak = "**Leaky: tracks or artists of this data were trained on; the figures flatter the model.**\n\n"
        return (
            f"# {self.title}\n\n{leak if self.leaky else ''}"
            f"{self.tracks} tracks, {self.windows} windows, {self.groups} groups.{gone}{trained}\n\n"
            f"{self._figures()}\n\n{self._genres()}\n\n{self._confusion()}\n"
        )

    def plot(self, path: str | os.PathLike[str]) -> None:
        """Writes a PNG with the confusion matrix and the reliability diagram of the tracks.

        Raises:
            ParameterError: No file can be written at ``path``.
        """
        from matplotlib.figure import Figure

        from musgenre.plotting.figures import save_figure
        from musgenre.plotting.reports import plot_confusion, plot_reliability

        side = max(5.0, 0.6 * len(self.labels) + 1)
        figure = Figure(figsize=(side + 6, side + 1), layout="constrained")
        left, right = figure.subplots(1, 2, width_ratios=(side, 5))
        plot_confusion(self.confusion, labels=self.labels, ax=left)
        truth = [self.labels.index(row.label) for row in self.predictions]
        plot_reliability(reliability(truth, [row.probabilities for row in self.predictions]), ax=right)
        figure.suptitle(self.title, parse_math=False)
        save_figure(figure, path)

    def _figures(self) -> str:
        def between(bounds: tuple[float, float], digits: int) -> str:
            return f"{100 * bounds[0]:.1f} – {percent(bounds[1])}" if digits == 1 else "{:.3f} – {:.3f}".format(*bounds)

        rows = [
            ("accuracy", percent(self.accuracy), between(self.accuracy_interval, 1)),
            ("macro F1", f"{self.macro_f1:.3f}", between(self.macro_f1_interval, 3)),
            ("top-3 accuracy", percent(self.top3_accuracy), ""),
            ("calibration error", f"{self.calibration_error:.3f}", ""),
            ("accuracy of windows", percent(self.window_accuracy), ""),
            ("calibration error of windows", f"{self.window_calibration_error:.3f}", ""),
        ]
        return table(["figure", "value", "95 % interval"], rows)

    def _genres(self) -> str:
        rows = [
            (label, percent(scores.precision), percent(scores.recall), f"{scores.f1:.3f}", str(scores.support))
            for label, scores in self.genres.items()
        ]
        return table(["genre", "precision", "recall", "F1", "tracks"], rows)

    def _confusion(self) -> str:
        rows = [(label, *map(str, counts)) for label, counts in zip(self.labels, self.confusion, strict=True)]
        return table(["true \\ predicted", *self.labels], rows)


def figures(
    predictions: Sequence[TrackPrediction], windows: npt.NDArray[np.float64], *, labels: tuple[str, ...]
) -> dict[str, Any]:
    """Returns the fields of a report that follow from its predictions and its windows' reliability."""
    truth = np.array([labels.index(row.label) for row in predictions])
    predicted = np.array([labels.index(row.predicted) for row in predictions])
    probabilities = np.array([row.probabilities for row in predictions])
    # The prefixes keep a group apart from a track of the same name.
    groups = [f"track {row.id}" if row.group is None else f"group {row.group}" for row in predictions]
    matrix = confusion(truth, predicted, classes=len(labels))
    scores = zip(*(column.tolist() for column in genre_scores(matrix)), matrix.sum(axis=1).tolist(), strict=True)
    count, _, right = windows.sum(axis=0)
    return {
        "labels": labels,
        "tracks": len(predictions),
        "groups": len(set(groups)),
        "accuracy": accuracy(truth, predicted),
        "accuracy_interval": accuracy_interval(truth, predicted, groups=groups),
        "macro_f1": macro_f1(truth, predicted),
        "macro_f1_interval": bootstrap_interval(lambda rows: macro_f1(truth[rows], predicted[rows]), groups=groups),
        "top3_accuracy": top_k_accuracy(truth, probabilities, k=3),
        "calibration_error": calibration_error(reliability(truth, probabilities)),
        "windows": int(count),
        "window_accuracy": float(right / count),
        "window_calibration_error": calibration_error(windows),
        "genres": {label: GenreScores(*row) for label, row in zip(labels, scores, strict=True)},
        "confusion": tuple(map(tuple, matrix.tolist())),
        "window_reliability": tuple(map(tuple, windows.tolist())),
        "predictions": tuple(predictions),
    }
