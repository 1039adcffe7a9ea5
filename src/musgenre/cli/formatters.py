"""Output formats of predictions and errors: lines, JSON, CSV, a table, and a progress bar."""

from __future__ import annotations

import contextlib
import csv
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, TextIO

import typer

from musgenre.core.errors import MusgenreError, ParameterError

if TYPE_CHECKING:
    from rich.table import Table

    from musgenre.core.config import Prediction


def format_prediction(prediction: Prediction, *, top: int) -> str:
    """Format the path and the ``top`` most probable genres of a song as one line."""
    genres = ", ".join(f"{label} {probability:.0%}" for label, probability in prediction.top(top))
    return f"{prediction.path}: {genres}"


def format_error(error: MusgenreError) -> str:
    """Format an error as one line."""
    return f"error: {' '.join(str(error).split())}"


@contextlib.contextmanager
def progress_bar(
    *, total: int, stream: TextIO, visible: bool = True
) -> Iterator[Callable[[MusgenreError | None], None]]:
    """Show a progress bar with the remaining time while the block runs, if the stream is a terminal.

    Args:
        total: Number of songs.
        stream: Stream to write the bar and errors to.
        visible: ``False`` shows no bar, because other output goes to the same terminal.

    Yields:
        A function to call after each song. It takes the song's error, which it prints, or ``None``.
    """
    if not (visible and stream.isatty() and total > 1):

        def print_error(error: MusgenreError | None) -> None:
            if error is not None:
                typer.echo(format_error(error), file=stream)

        yield print_error
        return

    from rich.console import Console
    from rich.progress import Progress

    console = Console(file=stream)
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task("Predicting", total=total)

        def advance(error: MusgenreError | None) -> None:
            if error is not None:
                console.print(format_error(error), markup=False, emoji=False, highlight=False, soft_wrap=True)
            progress.advance(task)

        yield advance


@contextlib.contextmanager
def prediction_printer(
    *, as_json: bool, as_csv: bool, labels: Sequence[str], top: int
) -> Iterator[Callable[[Prediction], None]]:
    """Print predictions in the chosen format.

    Without a format, predictions are printed as lines, or on a terminal as a table. The table is printed at the end of
    the block, also if the block raises.

    Args:
        as_json: Print one JSON object per line.
        as_csv: Print a header and one row per song.
        labels: Genres of the model, which are columns of the CSV output.
        top: Number of genres in a line or in a row of the table.

    Yields:
        A function that prints one prediction.

    Raises:
        ParameterError: Both formats are chosen.
    """
    if as_json and as_csv:
        raise ParameterError("--json and --csv cannot be combined.")
    if as_json:
        yield lambda prediction: typer.echo(json.dumps(prediction.to_dict(), ensure_ascii=False))
    elif as_csv:
        yield _csv_printer(labels)
    elif sys.stdout.isatty():
        predictions: list[Prediction] = []
        try:
            yield predictions.append
        finally:
            if predictions:
                _print_table(_table(predictions, top=min(top, len(labels))))
    else:
        yield lambda prediction: typer.echo(format_prediction(prediction, top=top))


def _csv_printer(labels: Sequence[str]) -> Callable[[Prediction], None]:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(["path", "label", "probability", "duration_seconds", *labels])

    def print_row(prediction: Prediction) -> None:
        summary = [prediction.path, prediction.label, prediction.probability, prediction.duration_seconds]
        writer.writerow([*summary, *prediction.probabilities.values()])

    return print_row


def _table(predictions: Sequence[Prediction], *, top: int) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table("song", "length", *(f"{rank}." for rank in range(1, top + 1)), box=None, header_style="bold")
    for prediction in predictions:
        minutes, seconds = divmod(round(prediction.duration_seconds), 60)
        genres = [f"{label} {probability:.0%}" for label, probability in prediction.top(top)]
        table.add_row(*(Text(cell) for cell in (str(prediction.path), f"{minutes}:{seconds:02}", *genres)))
    return table


def _print_table(table: Table) -> None:
    from rich.console import Console

    Console().print(table)
