"""``musgenre tag``."""

from __future__ import annotations

from typing import Annotated

import typer

from musgenre.cli.options import ModelOption


def tag(
    source: Annotated[
        str, typer.Argument(help="Folder, glob pattern or manifest (.parquet, .csv), as a path or a URI.")
    ],
    *,
    output: Annotated[str, typer.Option(metavar="DIR", help="Parquet dataset to create or to continue.")],
    model: ModelOption = None,
    id_column: Annotated[str, typer.Option(metavar="NAME", help="Column of a manifest with the ids.")] = "path",
    embedding: Annotated[bool, typer.Option("--embedding", help="Add a column with the embedding.")] = False,
    windows: Annotated[
        bool, typer.Option("--windows", help="Add columns with the probabilities of each window.")
    ] = False,
    batch_size: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Windows per batch.", show_default="depends on the device"),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Maximum number of inference actors.", show_default="GPUs, or CPUs"),
    ] = None,
    songs_per_block: Annotated[int, typer.Option(min=1, metavar="N", help="Songs per decoding task.")] = 4,
    block_bytes: Annotated[
        int, typer.Option(min=1, metavar="N", help="Maximum size of the decoded samples of a block.")
    ] = 128 * 2**20,
    songs_per_file: Annotated[int, typer.Option(min=1, metavar="N", help="Minimum songs per Parquet file.")] = 1_000,
    progress: Annotated[bool, typer.Option("--progress/--no-progress", help="Show Ray's progress bars.")] = True,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan without running it.")] = False,
) -> None:
    """Predict a collection of songs with Ray, and write a Parquet dataset.

    An interrupted run is continued by repeating the command.
    """
    from musgenre.scale.collection import predict_collection

    try:
        report = predict_collection(
            source,
            output,
            model=model,
            id_column=id_column,
            embedding=embedding,
            windows=windows,
            batch_size=batch_size,
            workers=workers,
            songs_per_block=songs_per_block,
            block_bytes=block_bytes,
            songs_per_file=songs_per_file,
            progress=progress,
            dry_run=dry_run,
        )
    except KeyboardInterrupt as error:
        typer.echo(f"Interrupted. Finished rows are in '{output}'. Repeat the command to continue.", err=True)
        raise typer.Exit(130) from error
    typer.echo(report.plan if dry_run else str(report))
