"""``musgenre evaluate`` and ``musgenre cross-validate``."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from musgenre.cli.options import (
    DataArgument,
    DatasetOption,
    GroupsOption,
    LeakageOption,
    open_dataset,
    silence_decoder,
)
from musgenre.core.errors import ParameterError


def evaluate(
    model: Annotated[str, typer.Argument(help="Model directory, name or Hub id.")],
    data: DataArgument,
    *,
    dataset: DatasetOption = "folder",
    groups: GroupsOption = None,
    trained_on: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Training set of the model, in the layout of DATA, to check that no song of it is in DATA.",
        ),
    ] = None,
    trained_groups: Annotated[
        Path | None, typer.Option(metavar="CSV", help="CSV file with the groups of --trained-on.")
    ] = None,
    allow_leakage: LeakageOption = False,
    as_json: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write the report as JSON to FILE.")
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write a PNG with the confusion matrix and reliability diagram to FILE."),
    ] = None,
) -> None:
    """Evaluate a model on songs that it was not trained on.

    With --dataset gtzan, the fault-filtered test split is used.
    """
    from musgenre.evaluation.evaluator import evaluate as run
    from musgenre.models.classifier import GenreClassifier

    for path in (as_json, plot):
        if path is not None and not path.parent.is_dir():
            raise ParameterError(f"cannot write '{path}': there is no directory '{path.parent}'.")
    if trained_on is None and (trained_groups is not None or allow_leakage):
        raise ParameterError("--trained-groups and --allow-leakage require --trained-on.")
    classifier = GenreClassifier.from_pretrained(model)
    test_data = open_dataset(data, dataset, groups=groups, gtzan="fault-filtered test")
    training_data = None
    if trained_on is not None:
        training_data = open_dataset(trained_on, dataset, groups=trained_groups, gtzan="fault-filtered train")
    with silence_decoder():
        report = run(classifier, test_data, trained_on=training_data, allow_leakage=allow_leakage)
    typer.echo(report.to_markdown())
    if as_json is not None:
        report.save(as_json)
    if plot is not None:
        report.plot(plot)


def cross_validate(
    data: DataArgument,
    *,
    output: Annotated[
        Path, typer.Option(metavar="DIR", help="Directory of the folds and the report; existing folds are reused.")
    ],
    dataset: DatasetOption = "folder",
    groups: GroupsOption = None,
    apart: Annotated[
        Literal["artist", "none"],
        typer.Option(help="'artist' assigns each group to one fold; 'none' ignores groups."),
    ] = "artist",
    recipe: Annotated[
        str,
        typer.Option(help="Preset, backbone, or JSON file with 'backbone', 'feature' and 'config'."),
    ] = "vgg16",
    folds: Annotated[int, typer.Option(min=2, metavar="N", help="Number of folds.")] = 5,
    seeds: Annotated[
        int, typer.Option(min=1, metavar="N", help="Number of repetitions with different folds, with seeds from 0.")
    ] = 1,
    jobs: Annotated[
        int,
        typer.Option(
            min=-1, metavar="N", help="Number of folds to train in parallel, with one thread each; -1 for all CPUs."
        ),
    ] = 1,
    allow_leakage: LeakageOption = False,
) -> None:
    """Cross-validate a training recipe on a dataset.

    With --dataset gtzan, all tracks without known faults are used.
    """
    from musgenre.evaluation.cross_validation import cross_validate as run
    from musgenre.training.recipes import Recipe

    chosen = Recipe.read(recipe)
    tracks = open_dataset(data, dataset, groups=groups, gtzan="all")
    # Lightning writes its progress bar to standard output, which is for the report.
    with contextlib.redirect_stdout(sys.stderr):
        report = run(
            tracks.without_faults(),
            recipe=chosen,
            folds=folds,
            groups="artist" if apart == "artist" else None,
            allow_leakage=allow_leakage,
            seeds=range(seeds),
            jobs=jobs,
            directory=output,
        )
    typer.echo(report.to_markdown())
    report.save(output / "report.json")
    report.pooled[0].plot(output / "report.png")
