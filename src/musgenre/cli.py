"""The ``musgenre`` command. Each command is thin: it calls the library and prints what comes back.

Exit codes: 0 when everything worked; 2 when an argument, a file or a model cannot be used.
"""

from __future__ import annotations

import contextlib
import enum
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from musgenre.errors import DatasetError, MusgenreError, ParameterError, WeightsError

if TYPE_CHECKING:
    from musgenre.datasets.base import TrackDataset
    from musgenre.registry import Registry
    from musgenre.specs import Prediction

app = typer.Typer(
    no_args_is_help=True, add_completion=True, pretty_exceptions_enable=False, help="Tells the genre of music."
)

Model = Annotated[str | None, typer.Option(help="A model's directory or hub id; by default the one in the package.")]
Top = Annotated[int, typer.Option(min=1, help="How many genres to name.")]


class Kind(str, enum.Enum):
    """What ``musgenre list`` can list."""

    backbones = "backbones"
    features = "features"
    datasets = "datasets"


class Layout(str, enum.Enum):
    """How a dataset lies in its folder."""

    folder = "folder"
    gtzan = "gtzan"


Data = Annotated[Path, typer.Argument(help="The dataset's folder.")]
Dataset = Annotated[Layout, typer.Option(help="'folder' has one sub-folder of songs a genre.")]
Groups = Annotated[
    Path | None, typer.Option(help="CSV file 'track,group' (artists), so that no artist is on both sides.")
]


@app.command()
def predict(
    songs: Annotated[list[Path], typer.Argument(metavar="SONG...", help="Audio files of any length and rate.")],
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a line.")] = False,
    top: Top = 3,
    model: Model = None,
) -> None:
    """Predict the genre of songs. A song that cannot be read costs itself alone; the exit code is then 2."""
    from musgenre.classifier import GenreClassifier

    classifier = GenreClassifier.from_pretrained(model)
    failed = False
    for song in songs:
        with _quiet_decoder():
            result = classifier.predict(song, on_error="return")
        if isinstance(result, MusgenreError):
            failed = True
            _complain(result)
        elif as_json:
            typer.echo(json.dumps(result.to_dict(), ensure_ascii=False))
        else:
            typer.echo(_line(result, top))
    if failed:
        raise typer.Exit(2)


@app.command()
def finetune(
    folder: Annotated[Path, typer.Argument(help="A folder with one sub-folder of songs a genre.")],
    *,
    output: Annotated[Path, typer.Option(help="Where the model is written.")],
    backbone: Annotated[str, typer.Option(help="See 'musgenre list backbones'.")] = "vgg16",
    weights: Annotated[
        str | None,
        typer.Option(help="The backbone's initial weights: 'imagenet', 'none' or a file.", show_default=False),
    ] = None,
    epochs: Annotated[int, typer.Option(min=1, help="Epochs of the head, and again of the backbone, at most.")] = 10,
    groups: Groups = None,
) -> None:
    """Train a classifier on your own genres; a fifth of the songs is held back to stop by."""
    from musgenre.datasets.folder import AudioFolder
    from musgenre.datasets.splits import holdout
    from musgenre.finetuning import finetune as run
    from musgenre.specs import Component
    from musgenre.training.plan import FinetuneConfig

    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise WeightsError(f"'{output}' is not empty: name a new directory, so that nothing is overwritten.")
    if not folder.is_dir():
        raise DatasetError(f"'{folder}' is no folder: expected one with a sub-folder of songs for each genre.")
    options: dict[str, Any] = {} if weights is None else {"weights": None if weights == "none" else weights}
    train, valid = holdout(AudioFolder(folder, groups=groups))
    result = run(
        train,
        valid=valid,
        backbone=Component(backbone, options),
        config=FinetuneConfig(head_epochs=epochs, epochs=epochs),
    )
    result.classifier.save_pretrained(output)
    accuracy = result.classifier.config.scores["valid_accuracy"]
    typer.echo(f"{output}: {accuracy:.1%} of {len(valid)} held-back songs are right, which also chose the weights.")


@app.command()
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
    tracks = _tracks(data, dataset, groups=groups, gtzan="fault-filtered test")
    with _quiet_decoder():
        report = run(classifier, tracks)
    typer.echo(report.to_markdown())
    if as_json is not None:
        report.save(as_json)
    if plot is not None:
        report.plot(plot)


@app.command("cross-validate")
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
    tracks = _tracks(data, dataset, groups=groups, gtzan="all")
    # Lightning draws its progress bar on standard output, where the report goes.
    with contextlib.redirect_stdout(sys.stderr):
        report = run(tracks, recipe=what, folds=folds, directory=output)
    typer.echo(report.to_markdown())
    report.save(output / "report.json")
    report.pooled[0].plot(output / "report.png")


@app.command("list")
def list_entries(kind: Annotated[Kind, typer.Argument(help="What to list.")]) -> None:
    """List what is built in, installed or announced by other packages."""
    for entry in _registry(kind).entries():
        typer.echo(f"{entry.name:<16} {entry.origin:<16} {entry.target}")


@app.command()
def demo(
    *,
    output: Annotated[Path, typer.Option(help="Where the picture is written.")] = Path("musgenre-demo.png"),
    top: Top = 3,
) -> None:
    """Predict a short piece that comes with the package, and draw its spectrogram over its genres."""
    from musgenre.audio import load
    from musgenre.classifier import GenreClassifier
    from musgenre.plotting import save_overview

    song = Path(__file__).parent / "assets" / "demo.ogg"
    classifier = GenreClassifier.from_pretrained()
    prediction = classifier.predict(song)
    rate = classifier.config.audio.sample_rate
    save_overview(load(song, sample_rate=rate), sample_rate=rate, prediction=prediction, path=output)
    typer.echo(_line(prediction, top))
    typer.echo(f"Spectrogram and timeline: {output}")


def main() -> None:
    """Runs the command; what musgenre raises on purpose becomes one line and exit code 2."""
    try:
        app()
    except MusgenreError as error:
        _complain(error)
        sys.exit(2)


def _registry(kind: Kind) -> Registry[Any]:
    from musgenre.backbones.base import BACKBONES
    from musgenre.datasets.base import DATASETS
    from musgenre.features.base import FEATURES

    registries: dict[Kind, Registry[Any]] = {
        Kind.backbones: BACKBONES,
        Kind.features: FEATURES,
        Kind.datasets: DATASETS,
    }
    return registries[kind]


def _tracks(data: Path, layout: Layout, *, groups: Path | None, gtzan: str) -> TrackDataset:
    from musgenre.datasets.folder import AudioFolder
    from musgenre.datasets.gtzan import GTZAN

    if layout is Layout.folder:
        return AudioFolder(data, groups=groups)
    if groups is not None:
        raise ParameterError("GTZAN's artists are known: leave --groups out.")
    scheme, _, split = gtzan.partition(" ")
    return GTZAN(data, scheme=scheme, split=split or None)


def _line(prediction: Prediction, top: int) -> str:
    genres = ", ".join(f"{label} {probability:.0%}" for label, probability in prediction.top(top))
    return f"{prediction.path}: {genres}"


def _complain(error: MusgenreError) -> None:
    typer.echo(f"musgenre: {' '.join(str(error).split())}", err=True)


@contextlib.contextmanager
def _quiet_decoder() -> Iterator[None]:
    """Keeps the remarks that the MP3 decoder's C code writes to file descriptor 2 off the screen.

    What it finds wrong comes back as an error as well. A library must not touch the descriptor; the
    command owns its process.
    """
    sys.stderr.flush()
    saved = os.dup(2)
    try:
        with open(os.devnull, "wb") as sink:
            os.dup2(sink.fileno(), 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
