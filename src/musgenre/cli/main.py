"""The command itself: what it is made of, and what becomes of errors."""

from __future__ import annotations

import logging
import sys
from typing import Annotated

import typer

from musgenre.cli import download, evaluate, finetune, info, predict, serve, tag
from musgenre.cli.options import complain
from musgenre.core.errors import MusgenreError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="'musgenre COMMAND --help' tells more. Exit codes: 0 all went well; 2 something given cannot be used, and a "
    "line says what; 130 stopped by Ctrl-C; 1 a bug.",
)
_HEAR, _LEARN, _KNOW = "Hear", "Learn and measure", "Know what is here"
app.command(rich_help_panel=_HEAR)(predict.predict)
app.command(rich_help_panel=_HEAR)(tag.tag)
app.command(rich_help_panel=_HEAR)(predict.demo)
app.command("app", rich_help_panel=_HEAR)(serve.serve)
app.command(rich_help_panel=_LEARN)(finetune.finetune)
app.command(rich_help_panel=_LEARN)(evaluate.evaluate)
app.command("cross-validate", rich_help_panel=_LEARN)(evaluate.cross_validate)
app.command(rich_help_panel=_LEARN)(predict.export)
app.command(rich_help_panel=_LEARN)(download.download)
app.command("list", rich_help_panel=_KNOW)(info.list_entries)
app.command(rich_help_panel=_KNOW)(info.info)
app.command(rich_help_panel=_KNOW)(info.check)


def _version(wanted: bool) -> None:
    if wanted:
        import importlib.metadata

        typer.echo(f"musgenre {importlib.metadata.version('musgenre')}")
        raise typer.Exit


@app.callback()
def musgenre(
    *,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Tell on standard error what is looked up, loaded and downloaded.")
    ] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Tells the genre of music, and learns the genres that you teach it."""
    if verbose:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(name)s: %(message)s"))
        logger = logging.getLogger("musgenre")
        logger.addHandler(handler)
        logger.setLevel(logging.DEBUG)


def main() -> None:
    """Runs the command; what musgenre raises on purpose becomes one line and exit code 2, Ctrl-C exit code 130."""
    try:
        app()
    except MusgenreError as error:
        complain(error)
        sys.exit(2)
