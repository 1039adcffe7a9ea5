"""What several commands share: their options, and how they speak."""

from __future__ import annotations

import contextlib
import enum
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TextIO

import typer

from musgenre.core.errors import MusgenreError, ParameterError

if TYPE_CHECKING:
    from musgenre.core.config import Prediction
    from musgenre.datasets.base import TrackDataset

Model = Annotated[str | None, typer.Option(help="A model's directory or hub id; by default the one in the package.")]
Top = Annotated[int, typer.Option(min=1, help="How many genres to name.")]


class Decode(str, enum.Enum):
    """Where songs are decoded."""

    inline = "inline"
    subprocess = "subprocess"


Decoding = Annotated[Decode, typer.Option(help="'subprocess' decodes where a broken decoder harms nothing.")]
MaxDuration = Annotated[float, typer.Option(help="The longest song that is read, in seconds.")]
MaxChannels = Annotated[int, typer.Option(help="The most channels that are read.")]
MaxBytes = Annotated[int, typer.Option(help="The largest file that is read.")]


class Layout(str, enum.Enum):
    """How a dataset lies in its folder."""

    folder = "folder"
    gtzan = "gtzan"


Data = Annotated[Path, typer.Argument(help="The dataset's folder.")]
Dataset = Annotated[Layout, typer.Option(help="'folder' has one sub-folder of songs a genre.")]
Groups = Annotated[
    Path | None, typer.Option(help="CSV file 'track,group' (artists), so that no artist is on both sides.")
]


def tracks(data: Path, layout: Layout, *, groups: Path | None, gtzan: str) -> TrackDataset:
    """Returns the tracks of a dataset; ``gtzan`` names the scheme and split to take of GTZAN."""
    from musgenre.datasets.folder import AudioFolder
    from musgenre.datasets.gtzan import GTZAN

    if layout is Layout.folder:
        return AudioFolder(data, groups=groups)
    if groups is not None:
        raise ParameterError("GTZAN's artists are known: leave --groups out.")
    scheme, _, split = gtzan.partition(" ")
    return GTZAN(data, scheme=scheme, split=split or None)


def line(prediction: Prediction, top: int) -> str:
    """Returns a song's file and its most probable genres as one line."""
    genres = ", ".join(f"{label} {probability:.0%}" for label, probability in prediction.top(top))
    return f"{prediction.path}: {genres}"


def complain(error: MusgenreError, *, on: TextIO | None = None) -> None:
    """Prints an error as one line on standard error, or where it is told to."""
    typer.echo(words(error), file=on, err=on is None)


def words(error: MusgenreError) -> str:
    """Returns an error as one line."""
    return f"musgenre: {' '.join(str(error).split())}"


@contextlib.contextmanager
def quiet_decoder() -> Iterator[TextIO]:
    """Keeps the remarks that the MP3 decoder's C code writes to file descriptor 2 off the screen.

    What it finds wrong comes back as an error as well. A library must not touch the descriptor; the
    command owns its process. What is given is the standard error stream as it was, for the command's own words.
    """
    sys.stderr.flush()
    saved = os.dup(2)
    try:
        with open(os.devnull, "wb") as sink:
            os.dup2(sink.fileno(), 2)
        with open(saved, "w", buffering=1, errors="backslashreplace", closefd=False) as screen:
            yield screen
    finally:
        os.dup2(saved, 2)
        os.close(saved)
