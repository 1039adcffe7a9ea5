"""``musgenre evaluate`` and ``musgenre cross-validate``."""

from __future__ import annotations

import contextlib
import enum
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from musgenre.cli.fields import command_of
from musgenre.cli.options import Data, Dataset, Groups, Layout, quiet_decoder, tracks
from musgenre.core.errors import ParameterError

if TYPE_CHECKING:
    from musgenre.datasets.base import TrackDataset

Leakage = Annotated[
    bool, typer.Option("--allow-leakage", help="Go on where something was trained on, and mark the report as leaky.")
]


class Apart(str, enum.Enum):
    """What stands in one fold alone."""

    artist = "artist"
    none = "none"


@dataclass(frozen=True, kw_only=True)
class EvaluateOptions:
    """What ``musgenre evaluate`` takes."""

    model: Annotated[str, typer.Argument(help="A model's directory, name or hub id.")]
    data: Data
    dataset: Dataset = Layout.folder
    groups: Groups = None
    trained_on: Annotated[
        Path | None,
        typer.Option(help="The folder that the model was trained on: nothing of it may stand in DATA. Laid out as it."),
    ] = None
    trained_groups: Annotated[Path | None, typer.Option(help="As --groups, for --trained-on.")] = None
    allow_leakage: Leakage = False
    as_json: Annotated[Path | None, typer.Option("--json", help="Where the report is written as JSON.")] = None
    plot: Annotated[Path | None, typer.Option(help="Where the report is drawn, as PNG.")] = None


@command_of(EvaluateOptions)
def evaluate(options: EvaluateOptions) -> None:
    """Measure a model on songs it was not trained on; of GTZAN, on the fault-filtered test split."""
    from musgenre.evaluation.evaluator import evaluate as run
    from musgenre.models.classifier import GenreClassifier

    for path in (options.as_json, options.plot):
        if path is not None and not path.parent.is_dir():
            raise ParameterError(f"'{path}' cannot be written: there is no folder '{path.parent}'.")
    if options.trained_on is None and (options.trained_groups is not None or options.allow_leakage):
        raise ParameterError("--trained-groups and --allow-leakage are about what --trained-on names: give it as well.")
    classifier = GenreClassifier.from_pretrained(options.model)
    found = tracks(options.data, options.dataset, groups=options.groups, gtzan="fault-filtered test")
    trained_on = None
    if options.trained_on is not None:
        groups = options.trained_groups
        trained_on = tracks(options.trained_on, options.dataset, groups=groups, gtzan="fault-filtered train")
    with quiet_decoder():
        report = run(classifier, found, trained_on=trained_on, allow_leakage=options.allow_leakage)
    typer.echo(report.to_markdown())
    if options.as_json is not None:
        report.save(options.as_json)
    if options.plot is not None:
        report.plot(options.plot)


@dataclass(frozen=True, kw_only=True)
class CrossValidateOptions:
    """What ``musgenre cross-validate`` takes."""

    data: Data
    output: Annotated[Path, typer.Option(help="Where report and folds are kept; a second call goes on there.")]
    dataset: Dataset = Layout.folder
    groups: Groups = None
    apart: Annotated[
        Apart, typer.Option(help="What stands in one fold alone; 'none' divides songs whatever their artist.")
    ] = Apart.artist
    recipe: Annotated[
        str,
        typer.Option(help="A preset's or backbone's name, or a .json file with 'backbone', 'feature' and 'config'."),
    ] = "vgg16"
    folds: Annotated[int, typer.Option(min=2, help="How many folds.")] = 5
    seeds: Annotated[int, typer.Option(min=1, help="How many times the folds are drawn anew, with seeds from 0.")] = 1
    jobs: Annotated[
        int,
        typer.Option(min=-1, help="How many folds are trained at a time, with one thread each; -1: one a processor."),
    ] = 1
    allow_leakage: Leakage = False


@command_of(CrossValidateOptions)
def cross_validate(options: CrossValidateOptions) -> None:
    """Train on all folds of a dataset but one and measure on that one, for each; of GTZAN, all without a fault."""
    from musgenre.evaluation.cross_validation import cross_validate as run
    from musgenre.training.recipes import Recipe

    recipe = Recipe.read(options.recipe)
    found = tracks(options.data, options.dataset, groups=options.groups, gtzan="all")
    # Lightning draws its progress bar on standard output, where the report goes.
    with contextlib.redirect_stdout(sys.stderr):
        report = run(
            _faultless(found),
            recipe=recipe,
            folds=options.folds,
            groups="artist" if options.apart is Apart.artist else None,
            allow_leakage=options.allow_leakage,
            seeds=range(options.seeds),
            jobs=options.jobs,
            directory=options.output,
        )
    typer.echo(report.to_markdown())
    report.save(options.output / "report.json")
    report.pooled[0].plot(options.output / "report.png")


def _faultless(data: TrackDataset) -> TrackDataset:
    """Leaves out the tracks with a known fault: GTZAN's second copies, which have no artist to be kept apart by."""
    from musgenre.datasets.base import TrackDataset

    kept = [track for track in data if track.fault is None]
    split = data.split if len(kept) == len(data) else f"{data.split}, without known faults"
    return TrackDataset(kept, labels=data.labels, name=data.name, split=split, missing=data.missing)
