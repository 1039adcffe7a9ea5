"""``musgenre tag``."""

from __future__ import annotations

import dataclasses
from typing import Annotated

import typer

from musgenre.cli.fields import command_of
from musgenre.cli.options import Model


@dataclasses.dataclass
class Tagging:
    """What ``musgenre tag`` is told."""

    source: Annotated[str, typer.Argument(help="A folder, a pattern or a manifest (.parquet, .csv); a path or a URI.")]
    output: Annotated[str, typer.Option(help="The Parquet dataset: a new folder, or one to go on with.")]
    model: Model = None
    id_column: Annotated[str, typer.Option(help="A manifest's column with the ids.")] = "path"
    embedding: Annotated[bool, typer.Option("--embedding", help="Add each song's embedding.")] = False
    windows: Annotated[bool, typer.Option("--windows", help="Add what was said of each window.")] = False
    batch_size: Annotated[int | None, typer.Option(min=1, help="Windows that are predicted together.")] = None
    workers: Annotated[int | None, typer.Option(min=1, help="Actors with the network, at most.")] = None
    songs_per_block: Annotated[int, typer.Option(min=1, help="Songs that one task decodes.")] = 4
    songs_per_file: Annotated[int, typer.Option(min=1, help="Songs in a Parquet file, at least.")] = 1_000
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan, and do nothing.")] = False

    def run(self) -> None:
        """Does it."""
        from musgenre.scale.collection import predict_collection

        report = predict_collection(**vars(self))
        typer.echo(report.plan if self.dry_run else str(report))


@command_of(Tagging)
def tag(told: Tagging) -> None:
    """Predict a whole collection with Ray, and write a row a song as Parquet; the same command again goes on."""
    try:
        told.run()
    except KeyboardInterrupt as stopped:
        typer.echo(f"musgenre: stopped; {told.output} is whole as far as it goes. Go on by the same command.", err=True)
        raise typer.Exit(130) from stopped
