"""What is known of a recipe after it has been cross-validated."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from musgenre.datasets.base import TrackDataset
from musgenre.evaluation.evaluator import named
from musgenre.evaluation.markdown import LEAK, decimal, percent, table
from musgenre.evaluation.report import EvaluationReport, figures
from musgenre.evaluation.report_files import Report, sequences
from musgenre.training.recipes import Recipe


@dataclass(frozen=True)
class FoldScores:
    """The figures of one fold.

    Attributes:
        seed: Seed of the folds and of training.
        fold: Number of the fold, from 0.
        tracks: Number of tracks that were held back.
        accuracy: Share of them that are right.
        macro_f1: Their macro F1.
        calibration_error: Their expected calibration error.
    """

    seed: int
    fold: int
    tracks: int
    accuracy: float
    macro_f1: float
    calibration_error: float


@dataclass(frozen=True)
class Spread:
    """A figure over all folds.

    Attributes:
        mean: Its mean over the folds of all seeds.
        fold_deviation: Its standard deviation over these folds.
        seed_deviation: The standard deviation of each seed's mean; ``None`` with a single seed.
    """

    mean: float
    fold_deviation: float
    seed_deviation: float | None


@dataclass(frozen=True)
class CrossValidationReport(Report):
    """What :func:`cross_validate` measured.

    Attributes:
        dataset: Name and split of the dataset.
        leaky: Whether something of a test set stood in its training set: an artist, a recording, a track.
        recipe: What was trained.
        folds: Number of folds.
        groups: ``"artist"`` if groups were kept apart, ``None`` if tracks were divided whatever their group.
        seeds: The seeds; each draws the folds anew.
        accuracy: Over the folds.
        macro_f1: Over the folds.
        calibration_error: Over the folds.
        scores: The figures of each fold.
        pooled: A report a seed, of every track as it was predicted when it was held back.
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
        """Backbone, dataset and folds, and a word of warning where the report is leaky."""
        apart = ", groups kept apart" if self.groups is not None and not self.leaky else ""
        leak = " (leaky)" if self.leaky else ""
        return f"{self.recipe['backbone']['name']} on {self.dataset}: {self.folds} folds{apart}{leak}"

    def to_markdown(self) -> str:
        """Returns the report as Markdown: the spreads, the folds, then the pooled report of each seed."""
        spreads = {"accuracy": self.accuracy, "macro F1": self.macro_f1, "calibration error": self.calibration_error}
        rows = [
            (
                name,
                decimal(of.mean),
                decimal(of.fold_deviation),
                "" if of.seed_deviation is None else decimal(of.seed_deviation),
            )
            for name, of in spreads.items()
        ]
        folds = [
            (f"{row.seed}", f"{row.fold}", f"{row.tracks}", percent(row.accuracy), decimal(row.macro_f1))
            for row in self.scores
        ]
        return (
            f"# {self.title}\n\n{LEAK if self.leaky else ''}"
            f"{table(['figure', 'mean', 'deviation over folds', 'over seeds'], rows)}\n\n"
            f"{table(['seed', 'fold', 'tracks', 'accuracy', 'macro F1'], folds)}\n\n"
            + "\n".join(f"#{report.to_markdown()}" for report in self.pooled)
        )


def summarise(
    dataset: TrackDataset,
    measured: dict[tuple[int, int], EvaluationReport],
    *,
    recipe: Recipe,
    folds: int,
    groups: str | None,
) -> CrossValidationReport:
    """Returns what follows from the report of each (seed, fold)."""
    scores = tuple(
        FoldScores(seed, fold, of.tracks, of.accuracy, of.macro_f1, of.calibration_error)
        for (seed, fold), of in measured.items()
    )
    seeds = tuple(dict.fromkeys(row.seed for row in scores))
    return CrossValidationReport(
        dataset=named(dataset),
        leaky=any(report.leaky for report in measured.values()),
        recipe=sequences(recipe.described(), kind=tuple),
        folds=folds,
        groups=groups,
        seeds=seeds,
        accuracy=_spread(scores, "accuracy"),
        macro_f1=_spread(scores, "macro_f1"),
        calibration_error=_spread(scores, "calibration_error"),
        scores=scores,
        pooled=tuple(
            _pool(dataset, [of for key, of in measured.items() if key[0] == seed], seed=seed) for seed in seeds
        ),
    )


def _spread(scores: Sequence[FoldScores], figure: str) -> Spread:
    values: dict[int, list[float]] = {}
    for row in scores:
        values.setdefault(row.seed, []).append(getattr(row, figure))
    every = [value for of_seed in values.values() for value in of_seed]
    means = [float(np.mean(of_seed)) for of_seed in values.values()]
    between = float(np.std(means, ddof=1)) if len(means) > 1 else None
    return Spread(float(np.mean(every)), float(np.std(every, ddof=1)), between)


def _pool(dataset: TrackDataset, reports: list[EvaluationReport], *, seed: int) -> EvaluationReport:
    windows = np.sum([report.windows.reliability for report in reports], axis=0)
    rows = [row for report in reports for row in report.predictions]
    pooled = figures(rows, windows, labels=dataset.labels)
    return EvaluationReport(
        model=f"{reports[0].model}, cross-validated, seed {seed}",
        trained_on=None,
        dataset=named(dataset),
        missing=len(dataset.missing),
        leaky=any(report.leaky for report in reports),
        library_version=importlib.metadata.version("musgenre"),
        **pooled,
    )
