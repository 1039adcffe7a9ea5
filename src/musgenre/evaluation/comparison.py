"""Whether two classifiers differ by more than chance."""

from __future__ import annotations

from dataclasses import dataclass

from musgenre.core.errors import DatasetError
from musgenre.datasets.base import abbreviated
from musgenre.evaluation.report import EvaluationReport
from musgenre.metrics.uncertainty import mcnemar


@dataclass(frozen=True)
class Comparison:
    """What :func:`compare` found.

    Attributes:
        n01: Number of tracks on which only the second classifier is right.
        n10: Number of tracks on which only the first is.
        p_value: Of McNemar's exact test, in (0, 1].
        accuracy_a: The first classifier's accuracy.
        accuracy_b: The second's.
        leaky: Whether either report is.
    """

    n01: int
    n10: int
    p_value: float
    accuracy_a: float
    accuracy_b: float
    leaky: bool


def compare(report_a: EvaluationReport, report_b: EvaluationReport) -> Comparison:
    """Tests by McNemar's exact test whether two classifiers are equally good on the same tracks.

    The test takes tracks for independent. Where artists have many tracks each, the p value is too small.

    Args:
        report_a: Of the first classifier.
        report_b: Of the second, on the same tracks in any order.

    Raises:
        DatasetError: A track stands in one report alone, or has another genre in the other; it is named.
    """
    truth_a, truth_b = ({row.id: row.label for row in report.predictions} for report in (report_a, report_b))
    alone = sorted(truth_a.keys() ^ truth_b.keys())
    if alone:
        raise DatasetError(
            f"{report_a.title!r} and {report_b.title!r} are not of the same tracks; in one alone: {abbreviated(alone)}."
        )
    other = sorted(track for track, label in truth_a.items() if truth_b[track] != label)
    if other:
        raise DatasetError(f"Of other genres in {report_a.title!r} than in {report_b.title!r}: {abbreviated(other)}.")
    right_a, right_b = (
        {row.id for row in report.predictions if row.label == row.predicted} for report in (report_a, report_b)
    )
    n01, n10 = len(right_b - right_a), len(right_a - right_b)
    return Comparison(
        n01,
        n10,
        p_value=mcnemar(n10, n01),
        accuracy_a=report_a.accuracy,
        accuracy_b=report_b.accuracy,
        leaky=report_a.leaky or report_b.leaky,
    )
