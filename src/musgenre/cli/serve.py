"""``musgenre app``."""

from __future__ import annotations

import signal
import threading
from typing import Annotated

import typer

from musgenre.cli.options import ModelOption


def serve(
    *,
    model: ModelOption = None,
    host: Annotated[
        str, typer.Option(metavar="ADDRESS", help="Address to listen on; the default is not reachable from elsewhere.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65_535, metavar="PORT", help="Port to listen on.")] = 7860,
    max_megabytes: Annotated[int, typer.Option(min=1, metavar="N", help="Maximum size of a file in megabytes.")] = 50,
    max_minutes: Annotated[int, typer.Option(min=1, metavar="N", help="Maximum duration of a song in minutes.")] = 15,
) -> None:
    """Serve a web page for classifying songs, until Ctrl-C.

    Requires the extra 'app'.
    """
    from musgenre.app.analysis import SongAnalyser
    from musgenre.app.page import serve_page
    from musgenre.models.classifier import GenreClassifier

    analyser = SongAnalyser(GenreClassifier.from_pretrained(model), max_minutes=max_minutes)
    # SIGTERM raises KeyboardInterrupt as Ctrl-C does, so that uploaded files are deleted.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with serve_page(analyser, host=host, port=port, max_megabytes=max_megabytes) as (_, address):
        typer.echo(f"Serving at {address} (press Ctrl-C to stop)")
        threading.Event().wait()
