"""What is known of a classifier after it has been measured."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from musgenre.core.errors import ParameterError
from musgenre.evaluation.markdown import LEAK, decimal, decimals, percent, percents, table
from musgenre.evaluation.report_files import Report
from musgenre.evaluation.scores import BINS, TOP, Answers, GenreScores, Scores
from musgenre.metrics.probabilities import in_top, reliability


@dataclass(frozen=True)
class TrackPrediction:
    """What was said of one track.

    Attributes:
        id: The track's id in its dataset.
        label: Its genre.
        predicted: The genre that was predicted.
        probabilities: Of every genre, in the order of the report's labels.
        windows: How many of its windows, taken alone, were predicted as each genre, in the same order.
        windows_top3: Of how many windows the track's genre was among the three most probable.
        group: The track's group (artist), or ``None``.
    """

    id: str
    label: str
    predicted: str
    probabilities: tuple[float, ...]
    windows: tuple[int, ...]
    windows_top3: int
    group: str | None = None


@dataclass(frozen=True)
class EvaluationReport(Scores, Report):
    """What :func:`evaluate` measured: the :class:`Scores` of the tracks, those of their windows, and what of what.

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
        windows: The same figures of the windows, each judged alone; their intervals are over groups as well.
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
    windows: Scores
    predictions: tuple[TrackPrediction, ...]

    def __post_init__(self) -> None:
        known = set(self.labels)
        for row in self.predictions:
            sizes = {len(row.probabilities), len(row.windows), len(self.labels)}
            if not {row.label, row.predicted} <= known or len(sizes) > 1:
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
        return (
            f"# {self.title}\n\n{LEAK if self.leaky else ''}"
            f"{self.tracks} tracks, {self.windows.count} windows, {self._artists()}.{gone}{trained}\n\n"
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
        plot_reliability(self.reliability, ax=right)
        figure.suptitle(self.title, parse_math=False)
        save_figure(figure, path)

    def _artists(self) -> str:
        if all(row.group is None for row in self.predictions):
            return "no groups known, so that the intervals are over tracks"
        return f"{self.groups} groups"

    def _figures(self) -> str:
        rows = {
            "accuracy": [(percent(of.accuracy), percents(of.accuracy_interval)) for of in (self, self.windows)],
            "macro F1": [(decimal(of.macro_f1), decimals(of.macro_f1_interval)) for of in (self, self.windows)],
            "top-3 accuracy": [(percent(of.top3_accuracy), "") for of in (self, self.windows)],
            "calibration error": [(decimal(of.calibration_error), "") for of in (self, self.windows)],
        }
        header = ["figure", "tracks", "95 % interval", "windows", "95 % interval"]
        return table(header, [(name, *of_tracks, *of_windows) for name, (of_tracks, of_windows) in rows.items()])

    def _genres(self) -> str:
        def cells(of: GenreScores) -> tuple[str, ...]:
            return percent(of.precision), percent(of.recall), decimal(of.f1), str(of.support)

        header = ["genre", "precision", "recall", "F1", "tracks", "precision", "recall", "F1", "windows"]
        return table(
            header,
            [(label, *cells(self.genres[label]), *cells(self.windows.genres[label])) for label in self.labels],
        )

    def _confusion(self) -> str:
        rows = [(label, *map(str, counts)) for label, counts in zip(self.labels, self.confusion, strict=True)]
        return table(["true \\ predicted", *self.labels], rows)


def figures(
    predictions: Sequence[TrackPrediction], windows: npt.NDArray[np.float64], *, labels: tuple[str, ...]
) -> dict[str, Any]:
    """Returns the fields of a report that follow from its predictions and its windows' reliability."""
    truth = np.array([labels.index(row.label) for row in predictions])
    probabilities = np.array([row.probabilities for row in predictions])
    # The prefixes keep a group apart from a track of the same name.
    groups = [f"track {row.id}" if row.group is None else f"group {row.group}" for row in predictions]
    of_tracks = Answers(
        truth,
        taken=np.array([[label == row.predicted for label in labels] for row in predictions], dtype=np.int64),
        top=in_top(truth, probabilities, k=TOP).astype(np.int64),
        reliability=reliability(truth, probabilities, bins=BINS),
    )
    of_windows = Answers(
        truth,
        taken=np.array([row.windows for row in predictions], dtype=np.int64),
        top=np.array([row.windows_top3 for row in predictions], dtype=np.int64),
        reliability=windows,
    )
    return {
        **of_tracks.figures(labels=labels, groups=groups),
        "labels": labels,
        "tracks": len(predictions),
        "groups": len(set(groups)),
        "windows": Scores(**of_windows.figures(labels=labels, groups=groups)),
        "predictions": tuple(predictions),
    }
