"""``musgenre finetune``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from musgenre.cli.options import Groups
from musgenre.errors import DatasetError, WeightsError


def finetune(
    folder: Annotated[Path, typer.Argument(help="A folder with one sub-folder of songs a genre.")],
    *,
    output: Annotated[Path, typer.Option(help="Where the model is written.")],
    backbone: Annotated[str, typer.Option(help="See 'musgenre list backbones'.")] = "vgg16",
    weights: Annotated[
        str | None,
        typer.Option(help="The backbone's initial weights: 'imagenet', 'none' or a file.", show_default=False),
    ] = None,
    epochs: Annotated[int, typer.Option(min=1, help="Epochs of the head, and again of the backbone, at most.")] = 10,
    groups: Groups = None,
) -> None:
    """Train a classifier on your own genres; a fifth of the songs is held back to stop by."""
    from musgenre.datasets.folder import AudioFolder
    from musgenre.datasets.splits import holdout
    from musgenre.finetuning import finetune as run
    from musgenre.specs import Component
    from musgenre.training.plan import FinetuneConfig

    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise WeightsError(f"'{output}' is not empty: name a new directory, so that nothing is overwritten.")
    if not folder.is_dir():
        raise DatasetError(f"'{folder}' is no folder: expected one with a sub-folder of songs for each genre.")
    options: dict[str, Any] = {} if weights is None else {"weights": None if weights == "none" else weights}
    train, valid = holdout(AudioFolder(folder, groups=groups))
    result = run(
        train,
        valid=valid,
        backbone=Component(backbone, options),
        config=FinetuneConfig(head_epochs=epochs, epochs=epochs),
    )
    result.classifier.save_pretrained(output)
    accuracy = result.classifier.config.scores["valid_accuracy"]
    typer.echo(f"{output}: {accuracy:.1%} of {len(valid)} held-back songs are right, which also chose the weights.")
