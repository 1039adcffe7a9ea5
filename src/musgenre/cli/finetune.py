"""``musgenre finetune``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from musgenre.cli.fields import command_of
from musgenre.cli.options import Groups
from musgenre.core.errors import DatasetError, ParameterError


@dataclass(frozen=True, kw_only=True)
class Finetuning:
    """What ``musgenre finetune`` is told."""

    folder: Annotated[Path, typer.Argument(help="A folder with one sub-folder of songs a genre.")]
    output: Annotated[Path, typer.Option(help="Where the run keeps its state, and at the end the model.")]
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run that the output directory holds.")] = (
        False
    )
    preset: Annotated[
        str | None, typer.Option(help="A whole recipe: 'paper' or 'recommended'.", show_default=False)
    ] = None
    backbone: Annotated[
        str | None, typer.Option(help="See 'musgenre list backbones'; the preset's, or vgg16.", show_default=False)
    ] = None
    weights: Annotated[
        str | None,
        typer.Option(
            help="The backbone's initial weights: 'none', a file, or a name it knows, such as 'imagenet'.",
            show_default=False,
        ),
    ] = None
    freeze: Annotated[
        str | None,
        typer.Option(
            help="How many of the backbone's stages never learn: a number, 'all' or 'none'.", show_default=False
        ),
    ] = None
    epochs: Annotated[
        int | None,
        typer.Option(min=1, help="Epochs of the head, and again of the backbone, at most.", show_default=False),
    ] = None
    groups: Groups = None
    seed: Annotated[int, typer.Option(min=0, help="Seed of the split and of training.")] = 0
    devices: Annotated[str, typer.Option(help="How many GPUs or processes, or 'auto'.")] = "1"
    workers: Annotated[int, typer.Option(min=0, help="Processes that decode, for each device.")] = 0

    def given(self) -> dict[str, Any]:
        """Returns the options that go to :func:`musgenre.finetune` as they are."""
        from musgenre.core.config import Component

        chosen: dict[str, Any] = {"preset": self.preset, "backbone": self.backbone, "freeze": _number(self.freeze)}
        chosen |= {"head_epochs": self.epochs, "epochs": self.epochs, "seed": self.seed}
        chosen |= {"devices": _number(self.devices), "workers": self.workers}
        if self.weights is not None:
            if self.backbone is None:
                raise ParameterError("--weights are those of a backbone: name it by --backbone.")
            chosen["backbone"] = Component(self.backbone, {"weights": None if self.weights == "none" else self.weights})
        return {name: value for name, value in chosen.items() if value is not None}


@command_of(Finetuning)
def finetune(told: Finetuning) -> None:
    """Train a classifier on your own genres; a fifth of the songs is held back to stop by."""
    from musgenre.datasets.folder import AudioFolder
    from musgenre.datasets.splits import holdout
    from musgenre.training.checkpoint import RunDirectory
    from musgenre.training.distributed import rank
    from musgenre.training.finetune import FinetuneInterrupted
    from musgenre.training.finetune import finetune as run

    RunDirectory(told.output).check(resume=told.resume)
    if not told.folder.is_dir():
        raise DatasetError(f"'{told.folder}' is no folder: expected one with a sub-folder of songs for each genre.")
    train, valid = holdout(AudioFolder(told.folder, groups=told.groups), seed=told.seed)
    try:
        result = run(train, valid=valid, directory=told.output, resume=told.resume, **told.given())
    except FinetuneInterrupted as stopped:
        kept = f"; the best model so far is in {told.output}" if stopped.result else ""
        typer.echo(f"musgenre: stopped{kept}. Go on by the same command with --resume.", err=True)
        raise typer.Exit(130) from stopped
    if rank():
        return
    result.plot(told.output / "curves.png")
    accuracy = result.classifier.config.scores["valid_accuracy"]
    typer.echo(
        f"{told.output}: {accuracy:.1%} of {len(valid)} held-back songs are right, which also chose the weights."
    )


def _number(text: str | None) -> int | str | None:
    return int(text) if text is not None and text.isdecimal() else text
