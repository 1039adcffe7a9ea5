"""Training and measuring, fold after fold."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import joblib  # type: ignore[import-untyped]

from musgenre.core.errors import ParameterError
from musgenre.core.registry import did_you_mean
from musgenre.datasets.base import TrackDataset
from musgenre.datasets.splits import check_split, group_folds
from musgenre.evaluation.cross_validation_report import CrossValidationReport, summarise
from musgenre.evaluation.fold import FoldRun
from musgenre.evaluation.plugins import packed
from musgenre.evaluation.report import EvaluationReport
from musgenre.training.config import RunOptions
from musgenre.training.recipes import Recipe

# A fold has no state of its own to go on from, and a Trainer is made for one run.
_NOT_A_FOLDS = {"directory", "resume", "trainer"}


def cross_validate(
    dataset: TrackDataset,
    *,
    recipe: Recipe | None = None,
    folds: int = 5,
    groups: Literal["artist"] | None = "artist",
    allow_leakage: bool = False,
    **options: Any,
) -> CrossValidationReport:
    """Trains on all folds but one and measures on that one, for each fold and seed.

    Nothing of a fold is seen before it is measured: training runs without a validation set.

    Args:
        dataset: The tracks.
        recipe: What to train; by default what :func:`~musgenre.finetune` does by default.
        folds: Number of folds, at least 2.
        groups: ``"artist"``: no group (artist) stands in two folds; a track without one is its own. ``None``: tracks
            are divided whatever their group, which leaks where groups are known.
        allow_leakage: Whether folds that leak are trained and measured all the same; the report then says that it is
            leaky.
        **options: By name: ``seeds`` (by default ``(0,)``), each of which draws the folds anew and seeds training;
            ``directory``, where each finished fold is kept as JSON, and where an interrupted run that is called again
            goes on; ``jobs`` (by default 1), how many folds are trained at a time, each in a process of its own with
            one thread and a copy of the network in memory, or -1 for as many as there are processors. And the fields
            of :class:`~musgenre.training.config.RunOptions` but ``directory``, ``resume`` and ``trainer``.

    Raises:
        ParameterError: An option is unknown or out of range, or ``directory`` cannot be written.
        DatasetError: A genre has too few tracks or groups to be in every training set, something stands in a training
            and its test set (:func:`~musgenre.datasets.splits.check_split`), or a track cannot be decoded.
        ConfigError: ``directory`` holds folds of another recipe, dataset or version; they stay as they are.
        PluginError: With ``jobs``, a feature or backbone that is registered in this process alone cannot be sent to
            another one.
        MusgenreError: Whatever :func:`~musgenre.finetune` raises.

    Example::

        report = cross_validate(data, recipe=Recipe("vgg16-slim"), seeds=(0, 1, 2), directory="folds")
        report.accuracy.mean, report.accuracy.fold_deviation
    """
    how = _Options.of(options)
    recipe = recipe or Recipe()
    runs = [
        FoldRun(train, test, recipe, seed=seed, fold=fold, place=how.place, options=how.run)
        for seed in how.seeds
        for fold, (train, test) in enumerate(group_folds(dataset, folds=folds, seed=seed, groups=groups))
    ]
    # All before the first is trained, so that no work is lost.
    runs = [
        dataclasses.replace(run, leaky=check_split(run.train, run.test, allow_leakage=allow_leakage) is not None)
        for run in runs
    ]
    done = [run.kept() for run in runs]
    how.make_place()
    trained = iter(_finished([run for run, report in zip(runs, done, strict=True) if report is None], jobs=how.jobs))
    measured = {(run.seed, run.fold): report or next(trained) for run, report in zip(runs, done, strict=True)}
    return summarise(dataset, measured, recipe=recipe, folds=folds, groups=groups)


def _finished(runs: list[FoldRun], *, jobs: int) -> list[EvaluationReport]:
    if jobs == 1 or not runs:
        return [run.finish() for run in runs]
    plugins = packed(runs[0].recipe)
    reports: list[EvaluationReport] = joblib.Parallel(n_jobs=jobs)(
        joblib.delayed(FoldRun.finish_apart)(run, plugins) for run in runs
    )
    return reports


@dataclass(frozen=True, kw_only=True)
class _Options:
    """What :func:`cross_validate` takes by name."""

    seeds: Sequence[int] = (0,)
    directory: str | os.PathLike[str] | None = None
    jobs: int = 1
    run: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, options: dict[str, Any]) -> _Options:
        own = {option.name for option in dataclasses.fields(cls)} - {"run"}
        passed = {option.name for option in dataclasses.fields(RunOptions)} - _NOT_A_FOLDS
        for name in options:
            if name not in own | passed:
                known = sorted(own | passed)
                raise ParameterError(
                    f"cross_validate() has no option {name!r}.{did_you_mean(name, known)} All: {', '.join(known)}; "
                    "what is learnt is the recipe's."
                )
        run = {name: value for name, value in options.items() if name in passed}
        RunOptions(**run)  # refuses what is out of range
        return cls(**{name: value for name, value in options.items() if name in own}, run=run)

    def __post_init__(self) -> None:
        if self.jobs < 1 and self.jobs != -1:
            raise ParameterError(f"jobs must be at least 1, or -1 for one a processor, not {self.jobs!r}.")
        if not self.seeds or len(set(self.seeds)) < len(self.seeds) or min(self.seeds) < 0:
            raise ParameterError(f"seeds must be at least one number from 0 on, each once, not {tuple(self.seeds)!r}.")

    @property
    def place(self) -> Path | None:
        return None if self.directory is None else Path(self.directory).expanduser()

    def make_place(self) -> None:
        if self.place is None:
            return
        try:
            self.place.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ParameterError(f"Folds cannot be kept in '{self.place}': {error.strerror}.") from error
