"""Statistical comparison of two evaluation reports."""

from __future__ import annotations

from dataclasses import dataclass

from musgenre.core.errors import DatasetError
from musgenre.datasets.base import abbreviated
from musgenre.evaluation.report import EvaluationReport
from musgenre.metrics.uncertainty import mcnemar


@dataclass(frozen=True)
class Comparison:
    """Result of :func:`compare`.

    Attributes:
        n01: Number of tracks that only the second classifier predicts correctly.
        n10: Number of tracks that only the first classifier predicts correctly.
        p_value: P-value of McNemar's exact test, in (0, 1].
        accuracy_a: Accuracy of the first classifier.
        accuracy_b: Accuracy of the second classifier.
        leaky: Whether either report is leaky.
    """

    n01: int
    n10: int
    p_value: float
    accuracy_a: float
    accuracy_b: float
    leaky: bool


def compare(report_a: EvaluationReport, report_b: EvaluationReport) -> Comparison:
    """Compares two classifiers on the same tracks by McNemar's exact test.

    The null hypothesis is that both classifiers are equally accurate. The test assumes independent tracks: if artists
    have many tracks each, the p-value is too small.

    Args:
        report_a: Report of the first classifier.
        report_b: Report of the second classifier on the same tracks, in any order.

    Raises:
        DatasetError: A track is in only one of the reports, or its label differs between them. The message names it.

    See Also:
        :func:`musgenre.metrics.mcnemar` computes the p-value.
    """
    truth_a, truth_b = ({row.id: row.label for row in report.predictions} for report in (report_a, report_b))
    unmatched = sorted(truth_a.keys() ^ truth_b.keys())
    if unmatched:
        raise DatasetError(
            f"{report_a.title!r} and {report_b.title!r} have different tracks; in only one of them: "
            f"{abbreviated(unmatched)}."
        )
    relabelled = sorted(track for track, label in truth_a.items() if truth_b[track] != label)
    if relabelled:
        raise DatasetError(
            f"{report_a.title!r} and {report_b.title!r} have different labels for {abbreviated(relabelled)}."
        )
    correct_a, correct_b = (
        {row.id for row in report.predictions if row.label == row.predicted} for report in (report_a, report_b)
    )
    n01, n10 = len(correct_b - correct_a), len(correct_a - correct_b)
    return Comparison(
        n01,
        n10,
        p_value=mcnemar(n10, n01),
        accuracy_a=report_a.accuracy,
        accuracy_b=report_b.accuracy,
        leaky=report_a.leaky or report_b.leaky,
    )
