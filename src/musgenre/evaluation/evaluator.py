"""From a classifier and tracks to a report."""

from __future__ import annotations

import importlib.metadata

import numpy as np

from musgenre.core.config import Prediction
from musgenre.core.errors import AudioError, DatasetError
from musgenre.datasets.base import Track, TrackDataset, abbreviated
from musgenre.datasets.splits import check_split
from musgenre.evaluation.report import EvaluationReport, TrackPrediction, figures
from musgenre.evaluation.scores import BINS, TOP
from musgenre.metrics.probabilities import in_top, reliability
from musgenre.models.classifier import GenreClassifier


def evaluate(
    classifier: GenreClassifier,
    dataset: TrackDataset,
    *,
    trained_on: TrackDataset | None = None,
    allow_leakage: bool = False,
) -> EvaluationReport:
    """Measures a classifier on tracks.

    The order of the dataset's labels does not matter, and it may lack genres that the classifier knows.

    Args:
        classifier: What to measure.
        dataset: The tracks to measure it on.
        trained_on: What it was trained on; then nothing of it may stand in ``dataset``, as
            :func:`~musgenre.datasets.splits.check_split` says. Without it nobody looks.
        allow_leakage: Whether it may; the report then says that it is leaky.

    Raises:
        DatasetError: A track, file, group or recording of ``trained_on`` stands in ``dataset``, a label is unknown to
            the classifier, or a track cannot be decoded; what is wrong is named.

    Example::

        report = evaluate(classifier, test, trained_on=train)
        report.accuracy, report.accuracy_interval
        report.save("report.json")
        print(report.to_markdown())
    """
    leaky = trained_on is not None and check_split(trained_on, dataset, allow_leakage=allow_leakage) is not None
    labels = tuple(classifier.labels)
    unknown = [label for label in dataset.labels if label not in labels]
    if unknown:
        raise DatasetError(
            f"{dataset!r} has labels that {classifier.config.name} does not know: {abbreviated(unknown)}."
        )
    rows: list[TrackPrediction] = []
    windows = np.zeros((BINS, 3))
    for track in dataset:
        prediction = _predict(classifier, track, dataset=dataset)
        rows.append(_judged(track, prediction, labels=labels))
        heard = prediction.windows.probabilities
        windows += reliability([labels.index(track.label)] * len(heard), heard, bins=BINS)
    return EvaluationReport(
        model=classifier.config.name,
        trained_on=classifier.config.split,
        dataset=named(dataset),
        missing=len(dataset.missing),
        leaky=leaky,
        library_version=importlib.metadata.version("musgenre"),
        **figures(rows, windows, labels=labels),
    )


def named(dataset: TrackDataset) -> str:
    """Returns a dataset's name and split."""
    return f"{dataset.name} ({dataset.split})" if dataset.split else dataset.name


def _judged(track: Track, prediction: Prediction, *, labels: tuple[str, ...]) -> TrackPrediction:
    heard = prediction.windows.probabilities
    taken = np.bincount(heard.argmax(axis=1), minlength=len(labels))
    return TrackPrediction(
        id=track.id,
        label=track.label,
        predicted=prediction.label,
        probabilities=tuple(prediction.probabilities.values()),
        windows=tuple(taken.tolist()),
        windows_top3=int(in_top([labels.index(track.label)] * len(heard), heard, k=TOP).sum()),
        group=track.group,
    )


def _predict(classifier: GenreClassifier, track: Track, *, dataset: TrackDataset) -> Prediction:
    try:
        prediction = classifier.predict(track.path)
    except AudioError as error:
        raise DatasetError(f"{dataset!r}: track {track.id!r} cannot be used: {error}") from error
    if not np.isfinite(prediction.windows.probabilities).all():
        raise DatasetError(f"{dataset!r}: {classifier.config.name} gives track {track.id!r} no finite probabilities.")
    return prediction
