"""Evaluation reports: scores of tracks and windows, saved as JSON and rendered as Markdown and plots."""

from __future__ import annotations

import importlib.metadata
import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from musgenre.core import config as specs
from musgenre.core.errors import ConfigError, ParameterError
from musgenre.core.files import atomic_write
from musgenre.datasets.base import TrackDataset
from musgenre.metrics.labels import Floats, Integers, genre_scores, mean_f1
from musgenre.metrics.probabilities import calibration_error, in_top, reliability
from musgenre.metrics.uncertainty import bootstrap_interval

if TYPE_CHECKING:
    from typing_extensions import Self

TOP_K = 3
CALIBRATION_BINS = 15

LEAKAGE_WARNING = (
    "**Leaky: tracks, recordings or artists of this data were used for training; the scores are too optimistic.**\n\n"
)


class JsonReport:
    """Base class of reports that are saved as JSON; a subclass is a frozen dataclass whose sequences are tuples."""

    def to_dict(self) -> dict[str, Any]:
        """Returns the report in JSON types."""
        pairs: dict[str, Any] = convert_sequences(specs.to_dict(self), to=list)
        return pairs

    @classmethod
    def from_dict(cls, data: Any) -> Self:
        """Creates a report from the result of :meth:`to_dict`.

        Raises:
            ConfigError: A key is unknown or missing, a value has the wrong type, or values contradict each other.
        """
        try:
            return specs.from_dict(cls, convert_sequences(data, to=tuple))
        except ConfigError:
            raise
        except (TypeError, ValueError) as error:
            # For instance an object where a list is expected.
            raise ConfigError(f"{cls.__name__}: {error}") from error

    def to_json(self) -> str:
        """Returns the report as a JSON document."""
        return json.dumps(self.to_dict(), indent=1, ensure_ascii=False, allow_nan=False) + "\n"

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the report to a JSON file. An existing file is replaced atomically; on failure it is unchanged.

        Raises:
            ParameterError: The file cannot be written.
        """
        write_text(Path(path), self.to_json())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Reads a report that was written by :meth:`save`.

        Raises:
            ConfigError: The file cannot be read or does not contain a report of this type.
        """
        try:
            return cls.from_dict(json.loads(Path(path).read_text(encoding="utf-8")))
        except (OSError, ValueError) as error:
            raise ConfigError(f"{os.fspath(path)!r} could not be read as a report: {error}") from error


@dataclass(frozen=True)
class GenreScores:
    """Scores of a single genre. A score with a denominator of 0 is 0.

    Attributes:
        precision: Share of the tracks (or windows) predicted as this genre that belong to it.
        recall: Share of the tracks (or windows) of this genre that are predicted as it.
        f1: Harmonic mean of precision and recall.
        support: Number of tracks (or windows) of this genre.
    """

    precision: float
    recall: float
    f1: float
    support: int


@dataclass(frozen=True)
class Scores:
    """Scores of a set of tracks, or of their windows. The true genre of a window is that of its track.

    Attributes:
        accuracy: Share of correct predictions.
        accuracy_interval: 95 % bootstrap interval of the accuracy, resampled by group.
        macro_f1: Mean F1 over the genres that occur in the true or the predicted labels.
        macro_f1_interval: 95 % bootstrap interval of the macro F1, resampled by group.
        top3_accuracy: Share of predictions whose true genre is among the three most probable.
        calibration_error: Expected calibration error with 15 bins
            (:func:`musgenre.metrics.expected_calibration_error`).
        genres: Precision, recall, F1 and support of each genre.
        confusion: Confusion matrix as counts; rows are true labels, columns are predicted labels.
        reliability: Table of :func:`musgenre.metrics.reliability`, ``(15, 3)``.
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
        """Number of tracks, or of windows."""
        return sum(map(sum, self.confusion))


@dataclass(frozen=True)
class TrackPrediction:
    """Prediction for a single track.

    Attributes:
        id: Id of the track in its dataset.
        label: True genre.
        predicted: Predicted genre.
        probabilities: Probability of each genre, in the order of the report's labels.
        windows: Number of the track's windows predicted as each genre, in the same order.
        windows_top3: Number of windows whose three most probable genres include the true one.
        group: Group (artist) of the track, or ``None`` if unknown.
    """

    id: str
    label: str
    predicted: str
    probabilities: tuple[float, ...]
    windows: tuple[int, ...]
    windows_top3: int
    group: str | None = None


@dataclass(frozen=True)
class EvaluationReport(Scores, JsonReport):
    """Result of :func:`evaluate`: the :class:`Scores` of the tracks, those of their windows, and all predictions.

    Attributes:
        model: Name of the model.
        trained_on: Description of the training data from the model's configuration.
        dataset: Name and split of the dataset.
        leaky: Whether some of the tracks or their artists are known to have been used for training.
        library_version: Version of musgenre that computed the scores.
        labels: Genres, in the order used by all other attributes.
        tracks: Number of tracks.
        missing: Number of tracks of the dataset that could not be read and are not counted.
        groups: Number of groups (artists). A track without a group counts as a group of one.
        windows: Scores of the windows, each classified separately. Their intervals are resampled by group as well.
        predictions: Prediction for each track.

    Raises:
        ParameterError: The predictions do not match the labels, or a track occurs more than once.
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
                raise ParameterError(f"The prediction for track {row.id!r} does not match the labels {self.labels}.")
        repeated = [track for track, count in Counter(row.id for row in self.predictions).items() if count > 1]
        if repeated or len(self.predictions) != self.tracks:
            raise ParameterError(f"Expected exactly one prediction for each of {self.tracks} tracks.")

    @property
    def title(self) -> str:
        """Model and dataset, marked if the report is leaky."""
        return f"{self.model} on {self.dataset}{' (leaky)' if self.leaky else ''}"

    def to_markdown(self) -> str:
        """Returns the report as Markdown, without the predictions of single tracks."""
        trained_on = f" Model: {self.trained_on}." if self.trained_on else ""
        missing = f" Tracks that could not be read and are not counted: {self.missing}." if self.missing else ""
        grouped = any(row.group is not None for row in self.predictions)
        groups = f"{self.groups} groups" if grouped else "no known groups (intervals are resampled by track)"
        return (
            f"# {self.title}\n\n{LEAKAGE_WARNING if self.leaky else ''}"
            f"{self.tracks} tracks, {self.windows.count} windows, {groups}.{missing}{trained_on}\n\n"
            f"{self._scores_table()}\n\n{self._genres_table()}\n\n{self._confusion_table()}\n"
        )

    def plot(self, path: str | os.PathLike[str]) -> None:
        """Writes a PNG file with the confusion matrix and the reliability diagram of the tracks.

        Raises:
            ParameterError: The file cannot be written.
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

    def _scores_table(self) -> str:
        def cells(scores: Scores) -> dict[str, tuple[str, str]]:
            low, high = scores.accuracy_interval
            low_f1, high_f1 = scores.macro_f1_interval
            return {
                "accuracy": (percent(scores.accuracy), f"{100 * low:.1f} – {percent(high)}"),
                "macro F1": (f"{scores.macro_f1:.3f}", f"{low_f1:.3f} – {high_f1:.3f}"),
                "top-3 accuracy": (percent(scores.top3_accuracy), ""),
                "calibration error": (f"{scores.calibration_error:.3f}", ""),
            }

        windows = cells(self.windows)
        return markdown_table(
            ["metric", "tracks", "95 % interval", "windows", "95 % interval"],
            [(metric, *tracks, *windows[metric]) for metric, tracks in cells(self).items()],
        )

    def _genres_table(self) -> str:
        def cells(scores: GenreScores) -> tuple[str, ...]:
            return percent(scores.precision), percent(scores.recall), f"{scores.f1:.3f}", str(scores.support)

        return markdown_table(
            ["genre", "precision", "recall", "F1", "tracks", "precision", "recall", "F1", "windows"],
            [(label, *cells(self.genres[label]), *cells(self.windows.genres[label])) for label in self.labels],
        )

    def _confusion_table(self) -> str:
        rows = [(label, *map(str, counts)) for label, counts in zip(self.labels, self.confusion, strict=True)]
        return markdown_table(["true \\ predicted", *self.labels], rows)


def build_report(
    predictions: Sequence[TrackPrediction],
    *,
    window_reliability: Floats,
    labels: tuple[str, ...],
    dataset: TrackDataset,
    model: str,
    trained_on: str | None,
    leaky: bool,
) -> EvaluationReport:
    """Computes the report of a set of predictions.

    Args:
        predictions: Predictions for the tracks.
        window_reliability: Table of :func:`musgenre.metrics.reliability` of all windows.
        labels: Genres, in the order of the probabilities.
        dataset: The tracks.
        model: Name of the model.
        trained_on: Description of the training data.
        leaky: Whether some of the tracks or their artists were used for training.
    """
    truth = np.array([labels.index(row.label) for row in predictions])
    probabilities = np.array([row.probabilities for row in predictions])
    # The prefixes distinguish a group from an ungrouped track of the same name.
    groups = [f"track {row.id}" if row.group is None else f"group {row.group}" for row in predictions]
    track_scores = _scores(
        truth=truth,
        predicted=np.array([[label == row.predicted for label in labels] for row in predictions], dtype=np.int64),
        in_top_k=in_top(truth, probabilities, k=TOP_K).astype(np.int64),
        table=reliability(truth, probabilities, bins=CALIBRATION_BINS),
        labels=labels,
        groups=groups,
    )
    window_scores = _scores(
        truth=truth,
        predicted=np.array([row.windows for row in predictions], dtype=np.int64),
        in_top_k=np.array([row.windows_top3 for row in predictions], dtype=np.int64),
        table=window_reliability,
        labels=labels,
        groups=groups,
    )
    return EvaluationReport(
        **vars(track_scores),
        model=model,
        trained_on=trained_on,
        dataset=dataset_title(dataset),
        leaky=leaky,
        library_version=importlib.metadata.version("musgenre"),
        labels=labels,
        tracks=len(predictions),
        missing=len(dataset.missing),
        groups=len(set(groups)),
        windows=window_scores,
        predictions=tuple(predictions),
    )


def _scores(
    *,
    truth: Integers,
    predicted: Integers,
    in_top_k: Integers,
    table: Floats,
    labels: Sequence[str],
    groups: Sequence[str],
) -> Scores:
    """Computes the scores of tracks, or of their windows.

    Args:
        truth: Index of each track's label, ``(tracks,)``.
        predicted: Number of predictions (one for the track, or one for each window) by label, ``(tracks, labels)``.
        in_top_k: Number of predictions whose most probable labels include the true one, ``(tracks,)``.
        table: Reliability table of all predictions, ``(15, 3)``.
        labels: Genres.
        groups: Group of each track; intervals are resampled by group.
    """
    names, members = np.unique(np.asarray(groups), return_inverse=True)
    matrices = np.zeros((len(names), len(labels), len(labels)), dtype=np.int64)
    np.add.at(matrices, (members, truth), predicted)
    matrix = matrices.sum(axis=0)

    def interval(metric: Callable[[Integers], float]) -> tuple[float, float]:
        return bootstrap_interval(lambda drawn: metric(matrices[drawn].sum(axis=0)), groups=names.tolist())

    columns = (*(column.tolist() for column in genre_scores(matrix)), matrix.sum(axis=1).tolist())
    return Scores(
        accuracy=_accuracy(matrix),
        accuracy_interval=interval(_accuracy),
        macro_f1=mean_f1(matrix),
        macro_f1_interval=interval(mean_f1),
        top3_accuracy=float(in_top_k.sum() / matrix.sum()),
        calibration_error=calibration_error(table),
        genres={label: GenreScores(*row) for label, *row in zip(labels, *columns, strict=True)},
        confusion=tuple(map(tuple, matrix.tolist())),
        reliability=tuple(map(tuple, table.tolist())),
    )


def _accuracy(matrix: npt.NDArray[np.int64]) -> float:
    return float(matrix.trace() / matrix.sum())


def dataset_title(dataset: TrackDataset) -> str:
    """Returns the name of a dataset, with its split in parentheses."""
    return f"{dataset.name} ({dataset.split})" if dataset.split else dataset.name


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    r"""Formats a Markdown table. The first column is aligned to the left, the others to the right.

    Example:
        >>> print(markdown_table(["genre", "tracks"], [["a|b", "3"]]))
        | genre | tracks |
        | :-- | --: |
        | a\|b | 3 |
    """
    lines = [header, [":--", *["--:"] * (len(header) - 1)], *rows]
    escaped = ([cell.replace("|", r"\|") for cell in line] for line in lines)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in escaped)


def percent(share: float) -> str:
    """Formats a share in [0, 1] as a percentage.

    Example:
        >>> percent(0.6649)
        '66.5 %'
    """
    return f"{100 * share:.1f} %"


def convert_sequences(value: Any, *, to: type[list[Any]] | type[tuple[Any, ...]]) -> Any:
    """Converts every list and tuple in nested dicts, lists and tuples to the type ``to``."""
    if isinstance(value, dict):
        return {key: convert_sequences(item, to=to) for key, item in value.items()}
    return to(convert_sequences(item, to=to) for item in value) if isinstance(value, list | tuple) else value


def write_text(path: Path, text: str) -> None:
    """Writes a text file atomically.

    Raises:
        ParameterError: The directory is missing, full or read-only.
    """
    try:
        with atomic_write(path) as partial:
            partial.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ParameterError(f"The report could not be written to {str(path)!r}: {error.strerror or error}.") from error
