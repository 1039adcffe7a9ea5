"""``musgenre download``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer


def download(
    dataset: Annotated[Literal["gtzan"], typer.Argument(help="Dataset to download.")],
    root: Annotated[Path, typer.Argument(help="Directory to download to.")],
    *,
    url: Annotated[str | None, typer.Option(help="Alternative URL of the archive.")] = None,
    checksum: Annotated[
        str | None, typer.Option(help="Checksum of the archive at --url: 'sha256:<digits>' or 'md5:<digits>'.")
    ] = None,
) -> None:
    """Download and unpack a dataset (GTZAN: 1.2 GB).

    An interrupted download is resumed by repeating the command.
    """
    from musgenre.datasets.gtzan import GTZAN

    folder = GTZAN.download(root, url=url, checksum=checksum)
    typer.echo(f"{folder}: {dataset}")
