"""How ``musgenre predict`` shows songs: lines, JSON, CSV, or at a terminal a table."""

from __future__ import annotations

import contextlib
import csv
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, TextIO, TypeVar

import typer

from musgenre.cli.options import complain, line, words
from musgenre.core.errors import MusgenreError, ParameterError

if TYPE_CHECKING:
    from rich.table import Table

    from musgenre.core.config import Prediction

R = TypeVar("R")
Show = Callable[["Prediction"], None]


def watched(
    results: Iterable[R], *, total: int, screen: TextIO, free: bool = True
) -> tuple[Iterable[R], Callable[[MusgenreError], None]]:
    """Returns the results, under a bar with the time left where someone can see it, and what shows an error.

    Args:
        results: What comes one by one.
        total: How many there will be.
        screen: Where bar and errors are written.
        free: Whether nothing else is written to the same terminal meanwhile.
    """
    if not (screen.isatty() and free and total > 1):
        return results, lambda error: complain(error, on=screen)
    from rich.console import Console
    from rich.progress import track

    console = Console(file=screen)

    def above(error: MusgenreError) -> None:
        console.print(words(error), markup=False, emoji=False, highlight=False, soft_wrap=True)

    return track(results, "Predicting", total=total, console=console, transient=True), above


@contextlib.contextmanager
def shown(*, as_json: bool, as_csv: bool, labels: Sequence[str], top: int) -> Iterator[Show]:
    """Gives the function that shows a song; a table, at a terminal, appears when the block ends, however it ends.

    Args:
        as_json: One JSON object a line.
        as_csv: A header, then a row a song.
        labels: The model's genres, which are CSV's columns.
        top: How many genres a line or a row of the table names.

    Raises:
        ParameterError: JSON and CSV are wanted at once.
    """
    if as_json and as_csv:
        raise ParameterError("--json and --csv are two ways to print the same: choose one.")
    if as_json:
        yield lambda song: typer.echo(json.dumps(song.to_dict(), ensure_ascii=False))
    elif as_csv:
        yield _csv(labels)
    elif sys.stdout.isatty():
        songs: list[Prediction] = []
        try:
            yield songs.append
        finally:
            _print(_table(songs, top=min(top, len(labels))))
    else:
        yield lambda song: typer.echo(line(song, top))


def _csv(labels: Sequence[str]) -> Show:
    rows = csv.writer(sys.stdout, lineterminator="\n")
    rows.writerow(["path", "label", "probability", "duration_seconds", *labels])

    def show(song: Prediction) -> None:
        rows.writerow([song.path, song.label, song.probability, song.duration_seconds, *song.probabilities.values()])

    return show


def _table(songs: Sequence[Prediction], *, top: int) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table("song", "length", *(f"{place}." for place in range(1, top + 1)), box=None, header_style="bold")
    for song in songs:
        minutes, seconds = divmod(round(song.duration_seconds), 60)
        genres = [f"{label} {probability:.0%}" for label, probability in song.top(top)]
        table.add_row(*(Text(cell) for cell in (str(song.path), f"{minutes}:{seconds:02}", *genres)))
    return table


def _print(table: Table) -> None:
    from rich.console import Console

    if table.row_count:
        Console().print(table)
