"""``musgenre finetune``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from musgenre.cli.options import GroupsOption
from musgenre.core.errors import DatasetError, ParameterError


def finetune(
    folder: Annotated[Path, typer.Argument(help="Folder with one subdirectory of audio files for each genre.")],
    *,
    output: Annotated[Path, typer.Option(metavar="DIR", help="Directory of the run, and in the end of the model.")],
    resume: Annotated[
        bool, typer.Option("--resume", help="Resume the run in the output directory from its last epoch.")
    ] = False,
    start: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="Model whose backbone is trained further: a directory, name or Hub id, or 'default'.",
            show_default="default, unless there is a preset or backbone",
        ),
    ] = None,
    preset: Annotated[
        str | None, typer.Option(metavar="NAME", help="Training preset: 'paper' or 'recommended'.")
    ] = None,
    backbone: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Backbone; see 'musgenre list backbones'.", show_default="that of the start or preset"
        ),
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(
            help="Initial weights of the backbone: 'none', a file, or a name such as 'imagenet'.",
            show_default="the backbone's",
        ),
    ] = None,
    freeze: Annotated[
        str | None,
        typer.Option(
            metavar="STAGES",
            help="Number of backbone stages to keep frozen, from the input; or 'all' or 'none'.",
            show_default="that of the start or preset, or none",
        ),
    ] = None,
    epochs: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="Maximum number of epochs for the head, and again for the backbone.",
            show_default="that of the start or preset, or 10",
        ),
    ] = None,
    groups: GroupsOption = None,
    seed: Annotated[int, typer.Option(min=0, metavar="N", help="Random seed of the split and of training.")] = 0,
    devices: Annotated[str, typer.Option(metavar="N", help="Number of GPUs or CPU processes, or 'auto'.")] = "1",
    workers: Annotated[int, typer.Option(min=0, metavar="N", help="Decoding processes for each device.")] = 0,
) -> None:
    """Fine-tune a classifier on a folder of songs.

    A fifth of the songs is held out for early stopping.
    """
    from musgenre.datasets.folder import AudioFolder
    from musgenre.datasets.splits import holdout
    from musgenre.training.checkpoint import RunDirectory
    from musgenre.training.distributed import rank
    from musgenre.training.finetune import FinetuneInterrupted
    from musgenre.training.finetune import finetune as run

    RunDirectory(output).check(resume=resume)
    if not folder.is_dir():
        raise DatasetError(f"'{folder}' is not a folder: expected one subdirectory of audio files for each genre.")
    if start is None and preset is None and backbone is None and weights is None:
        start = "default"
    settings = {
        "start": start,
        "preset": preset,
        "backbone": _backbone(backbone, weights=weights),
        "freeze": _int_or_str(freeze),
        "head_epochs": epochs,
        "epochs": epochs,
    }
    given: dict[str, Any] = {name: value for name, value in settings.items() if value is not None}
    train, valid = holdout(AudioFolder(folder, groups=groups), seed=seed)
    try:
        result = run(
            train,
            valid=valid,
            directory=output,
            resume=resume,
            seed=seed,
            devices=_int_or_str(devices),
            workers=workers,
            **given,
        )
    except FinetuneInterrupted as error:
        best = f" The best model so far is in '{output}'." if error.result else ""
        typer.echo(f"Interrupted.{best} Repeat the command with --resume to continue.", err=True)
        raise typer.Exit(130) from error
    if rank() != 0:
        return
    result.plot(output / "curves.png")
    accuracy = result.classifier.config.scores["valid_accuracy"]
    typer.echo(
        f"{output}: validation accuracy {accuracy:.1%} on {len(valid)} held-out songs, also used for early stopping"
    )


def _backbone(name: str | None, *, weights: str | None) -> Any:
    from musgenre.core.config import Component

    if weights is None:
        return name
    if name is None:
        raise ParameterError("--weights requires --backbone.")
    return Component(name, {"weights": None if weights == "none" else weights})


def _int_or_str(text: str | None) -> Any:
    return int(text) if text is not None and text.isdecimal() else text
