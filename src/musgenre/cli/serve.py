"""``musgenre app``."""

from __future__ import annotations

import signal
import threading
from typing import Annotated

import typer

from musgenre.cli.options import Model


def serve(
    *,
    model: Model = None,
    host: Annotated[
        str, typer.Option(help="The address to serve at; by default only this computer reaches it.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65_535, help="The port to serve at.")] = 7860,
    max_megabytes: Annotated[int, typer.Option(min=1, help="Larger files are refused.")] = 50,
    max_minutes: Annotated[int, typer.Option(min=1, help="Longer songs are refused.")] = 15,
) -> None:
    """Serve a page on which songs can be dropped or recorded, until Ctrl-C; with the extra 'app'."""
    from musgenre.app.analysis import Answerer
    from musgenre.app.page import served
    from musgenre.models.classifier import GenreClassifier

    answerer = Answerer(GenreClassifier.from_pretrained(model), max_minutes=max_minutes)
    # A polite kill ends it as Ctrl-C does, so that what was uploaded is deleted then too.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with served(answerer, host=host, port=port, max_megabytes=max_megabytes) as (_, address):
        typer.echo(f"Open {address} in a browser. Ctrl-C ends it.")
        threading.Event().wait()
