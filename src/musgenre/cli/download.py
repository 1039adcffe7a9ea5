"""``musgenre download``."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Annotated

import typer


class Published(str, enum.Enum):
    """What can be downloaded."""

    gtzan = "gtzan"


def download(
    dataset: Annotated[Published, typer.Argument(help="What to download.")],
    root: Annotated[Path, typer.Argument(help="The folder that it is put in.")],
    *,
    url: Annotated[str | None, typer.Option(help="Another address of the archive.")] = None,
    checksum: Annotated[
        str | None, typer.Option(help="Of what is there: 'sha256:<digits>' or 'md5:<digits>'.", show_default=False)
    ] = None,
) -> None:
    """Download a dataset (GTZAN: 1.2 GB) and unpack it. A download that was cut off goes on."""
    from musgenre.datasets.gtzan import GTZAN

    folder = GTZAN.download(root, url=url, checksum=checksum)
    typer.echo(f"{folder}: {dataset.value}")
