"""Cross-validation reports: scores by fold and seed, with means and standard deviations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from musgenre.datasets.base import TrackDataset
from musgenre.evaluation.report import (
    LEAKAGE_WARNING,
    EvaluationReport,
    JsonReport,
    build_report,
    convert_sequences,
    dataset_title,
    markdown_table,
    percent,
)
from musgenre.training.recipes import Recipe


@dataclass(frozen=True)
class FoldScores:
    """Scores of a single fold.

    Attributes:
        seed: Seed of the split and of training.
        fold: Index of the fold, from 0.
        tracks: Number of held-out tracks.
        accuracy: Accuracy on the held-out tracks.
        macro_f1: Macro F1 on the held-out tracks.
        calibration_error: Expected calibration error on the held-out tracks.
    """

    seed: int
    fold: int
    tracks: int
    accuracy: float
    macro_f1: float
    calibration_error: float


@dataclass(frozen=True)
class Spread:
    """Mean and standard deviations of a metric.

    Attributes:
        mean: Mean over the folds of all seeds.
        fold_deviation: Standard deviation over the folds of all seeds.
        seed_deviation: Standard deviation of the means of the seeds; ``None`` for a single seed.
    """

    mean: float
    fold_deviation: float
    seed_deviation: float | None


@dataclass(frozen=True)
class CrossValidationReport(JsonReport):
    """Result of :func:`~musgenre.evaluation.cross_validate`.

    Attributes:
        dataset: Name and split of the dataset.
        leaky: Whether a training set shares an artist, a recording or a track with its test set.
        recipe: The trained backbone, feature and configuration.
        folds: Number of folds.
        groups: ``"artist"`` if the tracks of a group are in one fold, ``None`` if groups were ignored.
        seeds: The seeds; each one gives a different split into folds.
        accuracy: Accuracy over the folds.
        macro_f1: Macro F1 over the folds.
        calibration_error: Expected calibration error over the folds.
        scores: Scores of each fold.
        pooled: One report for each seed, with the held-out predictions of all folds.
    """

    dataset: str
    leaky: bool
    recipe: dict[str, Any]
    folds: int
    groups: str | None
    seeds: tuple[int, ...]
    accuracy: Spread
    macro_f1: Spread
    calibration_error: Spread
    scores: tuple[FoldScores, ...]
    pooled: tuple[EvaluationReport, ...]

    @property
    def title(self) -> str:
        """Backbone, dataset and folds, marked if the report is leaky."""
        grouped = ", grouped by artist" if self.groups is not None and not self.leaky else ""
        leaky = " (leaky)" if self.leaky else ""
        return f"{self.recipe['backbone']['name']} on {self.dataset}: {self.folds} folds{grouped}{leaky}"

    def to_markdown(self) -> str:
        """Returns the report as Markdown: means and deviations, the folds, and the pooled report of each seed."""
        metrics = {"accuracy": self.accuracy, "macro F1": self.macro_f1, "calibration error": self.calibration_error}
        spreads = [
            (
                name,
                f"{spread.mean:.3f}",
                f"{spread.fold_deviation:.3f}",
                "" if spread.seed_deviation is None else f"{spread.seed_deviation:.3f}",
            )
            for name, spread in metrics.items()
        ]
        folds = [
            (f"{row.seed}", f"{row.fold}", f"{row.tracks}", percent(row.accuracy), f"{row.macro_f1:.3f}")
            for row in self.scores
        ]
        return (
            f"# {self.title}\n\n{LEAKAGE_WARNING if self.leaky else ''}"
            f"{markdown_table(['metric', 'mean', 'std over folds', 'std over seeds'], spreads)}\n\n"
            f"{markdown_table(['seed', 'fold', 'tracks', 'accuracy', 'macro F1'], folds)}\n\n"
            + "\n".join(f"#{report.to_markdown()}" for report in self.pooled)
        )


def summarise(
    dataset: TrackDataset,
    reports: dict[tuple[int, int], EvaluationReport],
    *,
    recipe: Recipe,
    folds: int,
    groups: str | None,
) -> CrossValidationReport:
    """Summarises the reports of all folds.

    Args:
        dataset: The tracks of all folds.
        reports: Report of each fold, by seed and index of the fold.
        recipe: The trained recipe.
        folds: Number of folds.
        groups: ``"artist"`` or ``None``.
    """
    scores = tuple(
        FoldScores(seed, fold, report.tracks, report.accuracy, report.macro_f1, report.calibration_error)
        for (seed, fold), report in reports.items()
    )
    seeds = tuple(dict.fromkeys(row.seed for row in scores))
    return CrossValidationReport(
        dataset=dataset_title(dataset),
        leaky=any(report.leaky for report in reports.values()),
        recipe=convert_sequences(recipe.described(), to=tuple),
        folds=folds,
        groups=groups,
        seeds=seeds,
        accuracy=_spread(scores, "accuracy"),
        macro_f1=_spread(scores, "macro_f1"),
        calibration_error=_spread(scores, "calibration_error"),
        scores=scores,
        pooled=tuple(
            _pool(dataset, [report for key, report in reports.items() if key[0] == seed], seed=seed) for seed in seeds
        ),
    )


def _spread(scores: Sequence[FoldScores], metric: str) -> Spread:
    by_seed: dict[int, list[float]] = {}
    for row in scores:
        by_seed.setdefault(row.seed, []).append(getattr(row, metric))
    values = [value for of_seed in by_seed.values() for value in of_seed]
    means = [float(np.mean(of_seed)) for of_seed in by_seed.values()]
    seed_deviation = float(np.std(means, ddof=1)) if len(means) > 1 else None
    return Spread(float(np.mean(values)), float(np.std(values, ddof=1)), seed_deviation)


def _pool(dataset: TrackDataset, reports: list[EvaluationReport], *, seed: int) -> EvaluationReport:
    return build_report(
        [row for report in reports for row in report.predictions],
        window_reliability=np.sum([report.windows.reliability for report in reports], axis=0),
        labels=dataset.labels,
        dataset=dataset,
        model=f"{reports[0].model}, cross-validated, seed {seed}",
        trained_on=None,
        leaky=any(report.leaky for report in reports),
    )
