"""Options shared by several commands, and helpers to interpret them."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TextIO

import typer

from musgenre.core.errors import ParameterError

if TYPE_CHECKING:
    from musgenre.datasets.base import TrackDataset

Layout = Literal["folder", "gtzan"]

ModelOption = Annotated[
    str | None, typer.Option(help="Model directory, name or Hub id.", show_default="the packaged model")
]
TopOption = Annotated[int, typer.Option(min=1, help="Number of genres to print for each song.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
DataArgument = Annotated[Path, typer.Argument(help="Dataset directory, or a file of its spectrograms (.npz).")]
DatasetOption = Annotated[
    Layout, typer.Option(help="Dataset layout; 'folder' has one subdirectory of audio files for each genre.")
]
GroupsOption = Annotated[
    Path | None,
    typer.Option(
        metavar="CSV",
        help="CSV file with the columns 'track' and 'group' (such as the artist). Splits never divide a group.",
    ),
]
LeakageOption = Annotated[
    bool,
    typer.Option("--allow-leakage", help="Continue if training and test data overlap, and mark the report as leaky."),
]


def open_dataset(data: Path, layout: Layout, *, groups: Path | None, gtzan: str) -> TrackDataset:
    """Open a dataset.

    Args:
        data: Dataset directory, or a file of its spectrograms.
        layout: Layout of the directory.
        groups: CSV file with the group of each track.
        gtzan: Scheme and split to use of GTZAN, separated by a space.

    Raises:
        ParameterError: ``groups`` is given for GTZAN.
        DatasetError: The dataset cannot be read.
    """
    from musgenre.datasets.folder import AudioFolder
    from musgenre.datasets.gtzan import GTZAN

    if layout == "folder":
        return AudioFolder(data, groups=groups)
    if groups is not None:
        raise ParameterError("--groups cannot be combined with --dataset gtzan, whose artists are known.")
    scheme, _, split = gtzan.partition(" ")
    return GTZAN(data, scheme=scheme, split=split or None)


@contextlib.contextmanager
def silence_decoder() -> Iterator[TextIO]:
    """Discard the messages that the MP3 decoder's C code writes to file descriptor 2.

    Decoding errors are raised as exceptions as well, so nothing is lost. Only the command line does this: a library
    must not redirect the descriptor of its process.

    Yields:
        The original standard error stream, for the command's own messages.
    """
    sys.stderr.flush()
    saved = os.dup(2)
    try:
        with open(os.devnull, "wb") as sink:
            os.dup2(sink.fileno(), 2)
        with open(saved, "w", buffering=1, errors="backslashreplace", closefd=False) as stderr:
            yield stderr
    finally:
        os.dup2(saved, 2)
        os.close(saved)
