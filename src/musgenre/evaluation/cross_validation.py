"""Cross-validation: trains and evaluates a recipe on each fold."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
import json
import os
import pickle
from collections.abc import Callable, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import joblib  # type: ignore[import-untyped]
import torch

from musgenre.backbones.base import BACKBONES
from musgenre.core.errors import ConfigError, MusgenreError, ParameterError, PluginError, TrainingError
from musgenre.core.registry import Registry
from musgenre.datasets.base import TrackDataset
from musgenre.datasets.splits import check_split, group_folds
from musgenre.evaluation.cross_validation_report import CrossValidationReport, summarise
from musgenre.evaluation.evaluator import evaluate
from musgenre.evaluation.report import EvaluationReport, JsonReport, convert_sequences
from musgenre.features.base import FEATURES
from musgenre.training.config import RunOptions
from musgenre.training.finetune import finetune
from musgenre.training.recipes import Recipe

if TYPE_CHECKING:
    from lightning.pytorch import Callback
    from lightning.pytorch.loggers import Logger
    from lightning.pytorch.strategies import Strategy

_REGISTRIES: dict[str, Registry[Any]] = {"backbone": BACKBONES, "feature": FEATURES}


def cross_validate(
    dataset: TrackDataset,
    *,
    recipe: Recipe | None = None,
    folds: int = 5,
    seeds: Sequence[int] = (0,),
    groups: Literal["artist"] | None = "artist",
    allow_leakage: bool = False,
    directory: str | os.PathLike[str] | None = None,
    jobs: int = 1,
    accelerator: str = "auto",
    devices: int | str | Sequence[int] = 1,
    strategy: str | Strategy = "auto",
    workers: int = 0,
    progress: bool = True,
    callbacks: Sequence[Callback] = (),
    loggers: Sequence[Logger] = (),
) -> CrossValidationReport:
    """Trains and evaluates a recipe by k-fold cross-validation.

    Each fold is held out once for each seed. Training runs without a validation set, so a held-out fold influences
    nothing before it is evaluated.

    Args:
        dataset: The tracks.
        recipe: Backbone, feature and training configuration; ``None`` takes the defaults of
            :func:`~musgenre.finetune`.
        folds: Number of folds, at least 2.
        seeds: Seeds, each of which gives a different split into folds and seeds the training.
        groups: ``"artist"`` keeps all tracks of a group (artist) in one fold; a track without a group is a group of
            one. ``None`` ignores groups, which is leakage where groups are known.
        allow_leakage: If true, leakage is not an error, and the report is marked as leaky.
        directory: Directory to which each finished fold is saved as JSON. If an interrupted run is repeated with the
            same directory, finished folds are read instead of trained.
        jobs: Number of folds that are trained in parallel, each in a worker process with one thread and its own copy
            of the network in memory. -1 uses one process for each CPU.
        accelerator: As for :func:`~musgenre.finetune`.
        devices: As for :func:`~musgenre.finetune`.
        strategy: As for :func:`~musgenre.finetune`.
        workers: As for :func:`~musgenre.finetune`.
        progress: As for :func:`~musgenre.finetune`; with more than one job, no progress is shown.
        callbacks: As for :func:`~musgenre.finetune`.
        loggers: As for :func:`~musgenre.finetune`, but ``Logger`` objects only.

    Returns:
        The scores of each fold, with their means and standard deviations, and the held-out predictions.

    Raises:
        ParameterError: A value is out of range, or ``directory`` cannot be created.
        DatasetError: A genre has too few tracks or groups to be in every training set, a training set leaks into its
            test set (see :func:`~musgenre.datasets.splits.check_split`), or a track cannot be decoded.
        ConfigError: ``directory`` contains folds of a different recipe, dataset or version. They are not changed.
        PluginError: With ``jobs``, a feature or backbone registered in this process cannot be sent to the workers.
        MusgenreError: Any error of :func:`~musgenre.finetune`.

    Example::

        report = cross_validate(data, recipe=Recipe("vgg16-slim"), seeds=(0, 1, 2), directory="folds")
        report.accuracy.mean, report.accuracy.fold_deviation

    See Also:
        :func:`~musgenre.evaluation.evaluate` evaluates a trained classifier.
    """
    if jobs < 1 and jobs != -1:
        raise ParameterError(f"jobs must be at least 1, or -1 for one process for each CPU, got {jobs!r}.")
    if not seeds or len(set(seeds)) < len(seeds) or min(seeds) < 0:
        raise ParameterError(f"seeds must be one or more distinct non-negative integers, got {tuple(seeds)!r}.")
    run_options: dict[str, Any] = {
        "accelerator": accelerator,
        "devices": devices,
        "strategy": strategy,
        "workers": workers,
        "progress": progress,
        "callbacks": callbacks,
        "loggers": loggers,
    }
    RunOptions(**run_options)  # validates the values before anything is trained
    recipe = recipe or Recipe()
    path = None if directory is None else Path(directory).expanduser()
    # All splits and saved folds are validated before the first fold is trained, so that no training is lost.
    runs = [
        FoldRun(
            train=train,
            test=test,
            recipe=recipe,
            seed=seed,
            fold=fold,
            directory=path,
            leaky=check_split(train, test, allow_leakage=allow_leakage) is not None,
            options=run_options,
        )
        for seed in seeds
        for fold, (train, test) in enumerate(group_folds(dataset, folds=folds, seed=seed, groups=groups))
    ]
    saved = [run.load() for run in runs]
    if path is not None:
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ParameterError(f"The directory '{path}' could not be created: {error.strerror}.") from error
    trained = iter(_run_all([run for run, report in zip(runs, saved, strict=True) if report is None], jobs=jobs))
    reports = {(run.seed, run.fold): report or next(trained) for run, report in zip(runs, saved, strict=True)}
    return summarise(dataset, reports, recipe=recipe, folds=folds, groups=groups)


@dataclass(frozen=True, kw_only=True)
class FoldRun:
    """Training and evaluation of a single fold.

    Attributes:
        train: Training tracks.
        test: Held-out tracks.
        recipe: Backbone, feature and training configuration.
        seed: Seed of the split and of training.
        fold: Index of the fold, from 0.
        directory: Directory of the saved folds, or ``None``.
        leaky: Whether the training set is known, and allowed, to leak into the test set.
        options: Further keyword arguments of :func:`~musgenre.finetune`.
    """

    train: TrackDataset
    test: TrackDataset
    recipe: Recipe
    seed: int
    fold: int
    directory: Path | None
    leaky: bool
    options: dict[str, Any]

    def load(self) -> EvaluationReport | None:
        """Reads the report of an earlier run, or returns ``None`` if the fold is not saved.

        Raises:
            ConfigError: The file belongs to a different run or is damaged.
        """
        path = self._path()
        if path is None or not path.exists():
            return None
        saved = _SavedFold.load(path)
        expected = self._saved(saved.report)
        differing = [
            name for name in ("recipe", "tracks", "version") if getattr(saved, name) != getattr(expected, name)
        ]
        if differing:
            raise ConfigError(
                f"'{path}' was saved by a run with a different {' and '.join(differing)}. Choose another directory."
            )
        return saved.report

    def run(self) -> EvaluationReport:
        """Trains on the training tracks, evaluates on the held-out tracks and saves the report."""
        result = finetune(
            self.train,
            backbone=self.recipe.backbone,
            feature=self.recipe.feature,
            config=dataclasses.replace(self.recipe.config, seed=self.seed),
            **self.options,
        )
        report = evaluate(result.classifier, self.test, trained_on=self.train, allow_leakage=self.leaky)
        if (path := self._path()) is not None:
            self._saved(report).save(path)
        return report

    def _path(self) -> Path | None:
        return None if self.directory is None else self.directory / f"seed{self.seed}-fold{self.fold}.json"

    def _saved(self, report: EvaluationReport) -> _SavedFold:
        sides = [[(t.id, t.label, t.group, t.duration_seconds) for t in side] for side in (self.train, self.test)]
        return _SavedFold(
            recipe=convert_sequences(self.recipe.described(), to=tuple),
            tracks=hashlib.sha256(json.dumps([self.test.labels, sides]).encode()).hexdigest(),
            version=importlib.metadata.version("musgenre"),
            report=report,
        )


@dataclass(frozen=True)
class _SavedFold(JsonReport):
    """Report of a fold, with what it depends on: recipe, hash of the tracks, and version of musgenre."""

    recipe: dict[str, Any]
    tracks: str
    version: str
    report: EvaluationReport


def _run_all(runs: list[FoldRun], *, jobs: int) -> list[EvaluationReport]:
    if jobs == 1 or not runs:
        return [run.run() for run in runs]
    # A worker process does not know what was registered in this process. joblib's pickler sends classes and functions
    # of a notebook or script by value.
    plugins = [
        (kind, name, factory)
        for kind, registry in _REGISTRIES.items()
        for name, factory in registry.registered().items()
    ]
    try:
        reports: list[EvaluationReport] = joblib.Parallel(n_jobs=jobs)(
            joblib.delayed(_run_in_worker)(run, plugins) for run in runs
        )
    except (pickle.PicklingError, BrokenProcessPool) as error:
        # The cause is the error of the pickler; there is none if a worker was killed.
        if not plugins or error.__cause__ is None:
            raise
        names = ", ".join(f"{kind} {name!r}" for kind, name, _ in plugins)
        reason = str(error.__cause__).strip('"\n').splitlines()[-1]  # the last line of the worker's traceback
        raise PluginError(
            f"Registered in this process, but could not be sent to worker processes: {names} ({reason}). Declare it as "
            "an entry point of an installed package, or use jobs=1."
        ) from error
    return reports


def _run_in_worker(run: FoldRun, plugins: list[tuple[str, str, Callable[..., Any]]]) -> EvaluationReport:
    torch.set_num_threads(1)
    for kind, name, factory in plugins:
        _REGISTRIES[kind].register(name)(factory)
    try:
        return dataclasses.replace(run, options={**run.options, "progress": False}).run()
    except TrainingError as error:
        # A TrainingError holds a network, which is not sent back.
        raise MusgenreError(f"Seed {run.seed}, fold {run.fold}: {error}") from None
