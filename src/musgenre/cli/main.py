"""The ``musgenre`` application: its commands, global options and error handling."""

from __future__ import annotations

import logging
import sys
from typing import Annotated

import typer

from musgenre.cli import download, evaluate, finetune, info, predict, serve, tag
from musgenre.cli.formatters import format_error
from musgenre.core.errors import MusgenreError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Run 'musgenre COMMAND --help' for the options of a command. Exit codes: 0 success; 1 internal error; "
    "2 invalid argument, file or model; 130 interrupted by Ctrl-C.",
)
_PREDICT, _TRAIN, _INSPECT = "Predict", "Train and evaluate", "Inspect"
app.command(rich_help_panel=_PREDICT)(predict.predict)
app.command(rich_help_panel=_PREDICT)(tag.tag)
app.command(rich_help_panel=_PREDICT)(predict.demo)
app.command("app", rich_help_panel=_PREDICT)(serve.serve)
app.command(rich_help_panel=_TRAIN)(finetune.finetune)
app.command(rich_help_panel=_TRAIN)(evaluate.evaluate)
app.command("cross-validate", rich_help_panel=_TRAIN)(evaluate.cross_validate)
app.command(rich_help_panel=_TRAIN)(predict.export)
app.command(rich_help_panel=_TRAIN)(download.download)
app.command("list", rich_help_panel=_INSPECT)(info.list_entries)
app.command(rich_help_panel=_INSPECT)(info.info)
app.command(rich_help_panel=_INSPECT)(info.check)


def _print_version(is_requested: bool) -> None:
    if is_requested:
        import importlib.metadata

        typer.echo(f"musgenre {importlib.metadata.version('musgenre')}")
        raise typer.Exit


@app.callback()
def musgenre(
    *,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Log searched paths, loaded models and downloads to standard error.")
    ] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Classify music by genre, and fine-tune genre classifiers."""
    if verbose:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(name)s: %(message)s"))
        logger = logging.getLogger("musgenre")
        logger.addHandler(handler)
        logger.setLevel(logging.DEBUG)


def main() -> None:
    """Run the command line; print a :class:`~musgenre.core.errors.MusgenreError` as one line and exit with code 2."""
    try:
        app()
    except MusgenreError as error:
        typer.echo(format_error(error), err=True)
        sys.exit(2)
