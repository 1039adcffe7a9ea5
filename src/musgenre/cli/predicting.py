"""``musgenre predict`` and ``musgenre demo``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from musgenre.cli.options import Model, Top, complain, line, quiet_decoder
from musgenre.errors import MusgenreError


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
        with quiet_decoder():
            result = classifier.predict(song, on_error="return")
        if isinstance(result, MusgenreError):
            failed = True
            complain(result)
        elif as_json:
            typer.echo(json.dumps(result.to_dict(), ensure_ascii=False))
        else:
            typer.echo(line(result, top))
    if failed:
        raise typer.Exit(2)


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
