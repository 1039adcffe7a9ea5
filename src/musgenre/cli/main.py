"""The command itself: what it is made of, and what becomes of errors."""

from __future__ import annotations

import sys

import typer

from musgenre.cli import listing, measuring, predicting, training
from musgenre.cli.options import complain
from musgenre.errors import MusgenreError

app = typer.Typer(
    no_args_is_help=True, add_completion=True, pretty_exceptions_enable=False, help="Tells the genre of music."
)
app.command()(predicting.predict)
app.command()(training.finetune)
app.command()(measuring.evaluate)
app.command("cross-validate")(measuring.cross_validate)
app.command("list")(listing.list_entries)
app.command()(predicting.export)
app.command()(predicting.demo)


def main() -> None:
    """Runs the command; what musgenre raises on purpose becomes one line and exit code 2."""
    try:
        app()
    except MusgenreError as error:
        complain(error)
        sys.exit(2)
