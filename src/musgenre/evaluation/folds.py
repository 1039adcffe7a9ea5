"""Training and measuring, fold after fold."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import joblib  # type: ignore[import-untyped]
import torch

from musgenre.datasets.base import TrackDataset
from musgenre.datasets.splits import check_split, group_folds
from musgenre.errors import ConfigError, ParameterError
from musgenre.evaluation.measuring import evaluate
from musgenre.evaluation.recipes import Recipe
from musgenre.evaluation.reports import EvaluationReport
from musgenre.evaluation.storage import Report, sequences
from musgenre.evaluation.validation import CrossValidationReport, summarise
from musgenre.finetuning import finetune


def cross_validate(
    dataset: TrackDataset,
    *,
    recipe: Recipe | None = None,
    folds: int = 5,
    seeds: Sequence[int] = (0,),
    directory: str | os.PathLike[str] | None = None,
    jobs: int = 1,
) -> CrossValidationReport:
    """Trains on all folds but one and measures on that one, for each fold and seed.

    No group (artist) stands in two folds. Nothing of a fold is seen before it is measured: training runs without a
    validation set.

    Args:
        dataset: The tracks.
        recipe: What to train; by default what :func:`~musgenre.finetune` does by default.
        folds: Number of folds, at least 2.
        seeds: Each draws the folds anew, and seeds training.
        directory: Where each finished fold is kept as JSON. An interrupted run that is called again goes on there.
        jobs: How many folds are trained at a time, each in a process of its own with one thread. Features and backbones
            must then come from installed packages.

    Raises:
        ParameterError: A number is out of range, or ``directory`` cannot be written.
        DatasetError: A genre has too few groups to be in every training set, or a track cannot be decoded.
        ConfigError: ``directory`` holds folds of another recipe, dataset or version; they stay as they are.
        MusgenreError: Whatever :func:`~musgenre.finetune` raises.

    Example::

        report = cross_validate(data, recipe=Recipe("vgg16-slim"), seeds=(0, 1, 2), directory="folds")
        report.accuracy.mean, report.accuracy.fold_deviation
    """
    if jobs < 1:
        raise ParameterError(f"jobs must be at least 1, not {jobs!r}.")
    if not seeds or len(set(seeds)) < len(seeds) or min(seeds) < 0:
        raise ParameterError(f"seeds must be at least one number from 0 on, each once, not {tuple(seeds)!r}.")
    recipe = recipe or Recipe()
    place = None if directory is None else Path(directory)
    runs = [
        _Run(train, test, recipe=recipe, seed=seed, fold=fold, place=place)
        for seed in seeds
        for fold, (train, test) in enumerate(group_folds(dataset, folds=folds, seed=seed))
    ]
    # All before the first is trained, so that no work is lost.
    for run in runs:
        check_split(run.train, run.test)
    done = [run.kept() for run in runs]
    if place is not None:
        _make(place)
    todo = [run for run, report in zip(runs, done, strict=True) if report is None]
    trained = iter(joblib.Parallel(n_jobs=jobs)(joblib.delayed(_Run.finish)(run, alone=jobs == 1) for run in todo))
    measured = {(run.seed, run.fold): report or next(trained) for run, report in zip(runs, done, strict=True)}
    return summarise(dataset, measured, recipe=recipe, folds=folds)


@dataclass(frozen=True)
class _Kept(Report):
    """A finished fold, and what it is the outcome of."""

    recipe: dict[str, Any]
    tracks: str
    version: str
    report: EvaluationReport


@dataclass(frozen=True)
class _Run:
    """One fold to train and measure."""

    train: TrackDataset
    test: TrackDataset
    recipe: Recipe
    seed: int
    fold: int
    place: Path | None

    def kept(self) -> EvaluationReport | None:
        """Reads what an earlier call has found."""
        path = self._path()
        if path is None or not path.exists():
            return None
        kept = _Kept.load(path)
        wanted = self._describe(kept.report)
        differing = [name for name in ("recipe", "tracks", "version") if getattr(kept, name) != getattr(wanted, name)]
        if differing:
            raise ConfigError(f"'{path}' is of another run: other {' and '.join(differing)}. Name another directory.")
        return kept.report

    def finish(self, *, alone: bool) -> EvaluationReport:
        """Trains, measures, and keeps the outcome."""
        config = dataclasses.replace(self.recipe.config, seed=self.seed)
        if not alone:
            torch.set_num_threads(1)
            config = dataclasses.replace(config, progress=False)
        result = finetune(self.train, backbone=self.recipe.backbone, feature=self.recipe.feature, config=config)
        report = evaluate(result.classifier, self.test, trained_on=self.train)
        if (path := self._path()) is not None:
            self._describe(report).save(path)
        return report

    def _path(self) -> Path | None:
        return None if self.place is None else self.place / f"seed{self.seed}-fold{self.fold}.json"

    def _describe(self, report: EvaluationReport) -> _Kept:
        sides = [[(t.id, t.label, t.group, t.duration_seconds) for t in side] for side in (self.train, self.test)]
        tracks = hashlib.sha256(json.dumps([self.test.labels, sides]).encode()).hexdigest()
        recipe = sequences(self.recipe.described(), kind=tuple)
        return _Kept(recipe, tracks, importlib.metadata.version("musgenre"), report)


def _make(directory: Path) -> None:
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ParameterError(f"Folds cannot be kept in '{directory}': {error.strerror}.") from error
