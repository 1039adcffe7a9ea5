"""``musgenre predict``, ``musgenre export`` and ``musgenre demo``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from musgenre.cli.options import Model, Top, complain, line, quiet_decoder
from musgenre.errors import MusgenreError

_TOGETHER = 32
"""Songs predicted side by side before any of them is printed."""


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
    for start in range(0, len(songs), _TOGETHER):
        with quiet_decoder():
            results = classifier.predict(songs[start : start + _TOGETHER], on_error="return")
        for result in results:
            if isinstance(result, MusgenreError):
                failed = True
                complain(result)
            elif as_json:
                typer.echo(json.dumps(result.to_dict(), ensure_ascii=False))
            else:
                typer.echo(line(result, top))
    if failed:
        raise typer.Exit(2)


def export(
    output: Annotated[Path, typer.Argument(help="The ONNX file that is written.")],
    *,
    model: Model = None,
) -> None:
    """Write a model as one ONNX graph, from samples to probabilities, for programs without PyTorch."""
    from musgenre.classifier import GenreClassifier

    classifier = GenreClassifier.from_pretrained(model, device="cpu")
    classifier.export_onnx(output)
    audio = classifier.config.audio
    typer.echo(f"{output}: windows of {audio.window_samples} samples at {audio.sample_rate} Hz")


def demo(
    *,
    output: Annotated[Path, typer.Option(help="Where the picture is written.")] = Path("musgenre-demo.png"),
    top: Top = 3,
) -> None:
    """Predict a short piece that comes with the package, and draw its spectrogram over its genres."""
    from musgenre.audio import load
    from musgenre.classifier import GenreClassifier
    from musgenre.plotting import save_overview

    song = Path(__file__).parent.parent / "assets" / "demo.ogg"
    classifier = GenreClassifier.from_pretrained()
    prediction = classifier.predict(song)
    rate = classifier.config.audio.sample_rate
    save_overview(load(song, sample_rate=rate), sample_rate=rate, prediction=prediction, path=output)
    typer.echo(line(prediction, top))
    typer.echo(f"Spectrogram and timeline: {output}")
