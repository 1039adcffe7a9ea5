"""Evaluation of a classifier on a dataset."""

from __future__ import annotations

import numpy as np

from musgenre.core.config import Prediction
from musgenre.core.errors import AudioError, DatasetError
from musgenre.datasets.base import Track, TrackDataset, abbreviated
from musgenre.datasets.splits import check_split
from musgenre.evaluation.report import CALIBRATION_BINS, TOP_K, EvaluationReport, TrackPrediction, build_report
from musgenre.metrics.probabilities import in_top, reliability
from musgenre.models.classifier import GenreClassifier


def evaluate(
    classifier: GenreClassifier,
    dataset: TrackDataset,
    *,
    trained_on: TrackDataset | None = None,
    allow_leakage: bool = False,
) -> EvaluationReport:
    """Evaluates a classifier on a dataset.

    The labels of the dataset may be in any order, and may be a subset of those of the classifier.

    Args:
        classifier: The classifier to evaluate.
        dataset: The tracks to predict.
        trained_on: The training set of the classifier. If given, ``dataset`` is checked for leakage by
            :func:`~musgenre.datasets.splits.check_split`; otherwise there is no check.
        allow_leakage: If true, leakage is not an error, and the report is marked as leaky.

    Returns:
        The scores of tracks and windows, and the prediction for each track.

    Raises:
        DatasetError: ``dataset`` shares a track, file, group or recording with ``trained_on``, a label is unknown to
            the classifier, or a track cannot be decoded. The message names the tracks or labels.

    Example::

        report = evaluate(classifier, test, trained_on=train)
        report.accuracy, report.accuracy_interval
        report.save("report.json")
        print(report.to_markdown())

    See Also:
        :func:`~musgenre.evaluation.cross_validate` trains and evaluates on folds;
        :func:`~musgenre.evaluation.compare` tests whether two reports differ.
    """
    leaky = trained_on is not None and check_split(trained_on, dataset, allow_leakage=allow_leakage) is not None
    labels = tuple(classifier.labels)
    unknown = [label for label in dataset.labels if label not in labels]
    if unknown:
        raise DatasetError(f"{dataset!r} has labels unknown to {classifier.config.name}: {abbreviated(unknown)}.")
    predictions: list[TrackPrediction] = []
    window_reliability = np.zeros((CALIBRATION_BINS, 3))
    for track in dataset:
        prediction = _predict(classifier, track, dataset=dataset)
        windows = prediction.windows.probabilities
        truth = np.full(len(windows), labels.index(track.label))
        window_reliability += reliability(truth, windows, bins=CALIBRATION_BINS)
        predictions.append(
            TrackPrediction(
                id=track.id,
                label=track.label,
                predicted=prediction.label,
                probabilities=tuple(prediction.probabilities.values()),
                windows=tuple(np.bincount(windows.argmax(axis=1), minlength=len(labels)).tolist()),
                windows_top3=int(in_top(truth, windows, k=TOP_K).sum()),
                group=track.group,
            )
        )
    return build_report(
        predictions,
        window_reliability=window_reliability,
        labels=labels,
        dataset=dataset,
        model=classifier.config.name,
        trained_on=classifier.config.split,
        leaky=leaky,
    )


def _predict(classifier: GenreClassifier, track: Track, *, dataset: TrackDataset) -> Prediction:
    try:
        prediction = classifier.predict(track.source)
    except AudioError as error:
        raise DatasetError(f"{dataset!r}: track {track.id!r} could not be decoded: {error}") from error
    if not np.isfinite(prediction.windows.probabilities).all():
        raise DatasetError(
            f"{dataset!r}: {classifier.config.name} predicts non-finite probabilities for track {track.id!r}."
        )
    return prediction
