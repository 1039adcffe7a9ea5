"""``musgenre evaluate`` and ``musgenre cross-validate``."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import Annotated

import typer

from musgenre.cli.options import Data, Dataset, Groups, Layout, quiet_decoder, tracks
from musgenre.errors import ParameterError


def evaluate(
    model: Annotated[str, typer.Argument(help="A model's directory, name or hub id.")],
    data: Data,
    *,
    dataset: Dataset = Layout.folder,
    groups: Groups = None,
    as_json: Annotated[Path | None, typer.Option("--json", help="Where the report is written as JSON.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Where the report is drawn, as PNG.")] = None,
) -> None:
    """Measure a model on songs it was not trained on; of GTZAN, on the fault-filtered test split."""
    from musgenre.classifier import GenreClassifier
    from musgenre.evaluation.measuring import evaluate as run

    for path in (as_json, plot):
        if path is not None and not path.parent.is_dir():
            raise ParameterError(f"'{path}' cannot be written: there is no folder '{path.parent}'.")
    classifier = GenreClassifier.from_pretrained(model)
    found = tracks(data, dataset, groups=groups, gtzan="fault-filtered test")
    with quiet_decoder():
        report = run(classifier, found)
    typer.echo(report.to_markdown())
    if as_json is not None:
        report.save(as_json)
    if plot is not None:
        report.plot(plot)


def cross_validate(
    data: Data,
    *,
    output: Annotated[Path, typer.Option(help="Where report and folds are kept; a second call goes on there.")],
    dataset: Dataset = Layout.folder,
    groups: Groups = None,
    recipe: Annotated[
        str, typer.Option(help="A backbone's name, or a .json file with 'backbone', 'feature' and 'config'.")
    ] = "vgg16",
    folds: Annotated[int, typer.Option(min=2, help="How many folds.")] = 5,
) -> None:
    """Train on all folds of a dataset but one and measure on that one, for each; of GTZAN, on all tracks."""
    from musgenre.evaluation.folds import cross_validate as run
    from musgenre.evaluation.recipes import Recipe

    what = Recipe.read(recipe)
    found = tracks(data, dataset, groups=groups, gtzan="all")
    # Lightning draws its progress bar on standard output, where the report goes.
    with contextlib.redirect_stdout(sys.stderr):
        report = run(found, recipe=what, folds=folds, directory=output)
    typer.echo(report.to_markdown())
    report.save(output / "report.json")
    report.pooled[0].plot(output / "report.png")
