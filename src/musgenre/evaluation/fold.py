"""One fold: trained, measured and kept."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from musgenre.core.errors import ConfigError, MusgenreError, TrainingError
from musgenre.datasets.base import TrackDataset
from musgenre.evaluation.evaluator import evaluate
from musgenre.evaluation.plugins import Parcel, unpack
from musgenre.evaluation.report import EvaluationReport
from musgenre.evaluation.report_files import Report, sequences
from musgenre.training.finetune import finetune
from musgenre.training.recipes import Recipe


@dataclass(frozen=True)
class FoldRun:
    """One fold to train and measure.

    Attributes:
        train: The other folds.
        test: The fold.
        recipe: What is trained.
        seed: Of the folds and of training.
        fold: Number of the fold, from 0.
        place: Directory in which the outcome is kept, or ``None``.
        leaky: Whether something of ``test`` stands in ``train``, and may.
        options: Where and how training runs, for :func:`~musgenre.finetune`.
    """

    train: TrackDataset
    test: TrackDataset
    recipe: Recipe
    seed: int
    fold: int
    place: Path | None = None
    leaky: bool = False
    options: dict[str, Any] = field(default_factory=dict)

    def kept(self) -> EvaluationReport | None:
        """Reads what an earlier call has found.

        Raises:
            ConfigError: The file is of another run or damaged.
        """
        path = self._path()
        if path is None or not path.exists():
            return None
        kept = _Kept.load(path)
        wanted = self._describe(kept.report)
        differing = [name for name in ("recipe", "tracks", "version") if getattr(kept, name) != getattr(wanted, name)]
        if differing:
            raise ConfigError(f"'{path}' is of another run: other {' and '.join(differing)}. Name another directory.")
        return kept.report

    def finish(self) -> EvaluationReport:
        """Trains, measures, and keeps the outcome."""
        config = dataclasses.replace(self.recipe.config, seed=self.seed)
        result = finetune(
            self.train, backbone=self.recipe.backbone, feature=self.recipe.feature, config=config, **self.options
        )
        report = evaluate(result.classifier, self.test, trained_on=self.train, allow_leakage=self.leaky)
        if (path := self._path()) is not None:
            self._describe(report).save(path)
        return report

    def finish_apart(self, plugins: list[Parcel]) -> EvaluationReport:
        """Does the same in one of several processes, with one thread and in silence."""
        torch.set_num_threads(1)
        unpack(plugins)
        try:
            return dataclasses.replace(self, options={**self.options, "progress": False}).finish()
        except TrainingError as error:
            # It holds a whole network, which is not to travel back.
            raise MusgenreError(f"Seed {self.seed}, fold {self.fold}: {error}") from None

    def _path(self) -> Path | None:
        return None if self.place is None else self.place / f"seed{self.seed}-fold{self.fold}.json"

    def _describe(self, report: EvaluationReport) -> _Kept:
        sides = [[(t.id, t.label, t.group, t.duration_seconds) for t in side] for side in (self.train, self.test)]
        tracks = hashlib.sha256(json.dumps([self.test.labels, sides]).encode()).hexdigest()
        recipe = sequences(self.recipe.described(), kind=tuple)
        return _Kept(recipe, tracks, importlib.metadata.version("musgenre"), report)


@dataclass(frozen=True)
class _Kept(Report):
    """A finished fold, and what it is the outcome of."""

    recipe: dict[str, Any]
    tracks: str
    version: str
    report: EvaluationReport
