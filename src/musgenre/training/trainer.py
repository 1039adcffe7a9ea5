"""Lightning's ``Trainer`` for each stage."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import EarlyStopping, ProgressBar
from lightning.pytorch.loggers import Logger

from musgenre.core.errors import ParameterError
from musgenre.training.checkpoint import MONITORED, CheckpointCallback
from musgenre.training.config import FinetuneConfig
from musgenre.training.options import RunOptions
from musgenre.training.progress import DataLoadingTimer, StageProgress
from musgenre.training.stages import Stage


class Trainers:
    """Makes a trainer a stage, or makes the user's own ready for it.

    Args:
        options: Where and how it runs.
        config: Precision and patience.
        directory: Where logs go.

    Attributes:
        waiting: What takes the time that all stages together wait for data.

    Raises:
        ParameterError: TensorBoard is asked for, and not installed.
    """

    def __init__(self, options: RunOptions, *, config: FinetuneConfig, directory: Path) -> None:
        self.options = options
        self.config = config
        self.waiting = DataLoadingTimer()
        self.loggers = [_tensorboard(directory) if logger == "tensorboard" else logger for logger in options.loggers]

    @contextlib.contextmanager
    def ready(self, stage: Stage, keeper: CheckpointCallback, *, validates: bool) -> Iterator[pl.Trainer]:
        """Gives a trainer that runs the epochs of a stage."""
        callbacks: list[pl.Callback] = [EarlyStopping(MONITORED, patience=self.config.patience)] if validates else []
        callbacks.append(self.waiting)
        if self.options.trainer is not None:
            with _lent(self.options.trainer, stage, callbacks=[*callbacks, keeper]) as trainer:
                yield trainer
        else:
            yield self._make(stage, [*callbacks, keeper], validates=validates)

    def _make(self, stage: Stage, callbacks: list[pl.Callback], *, validates: bool) -> pl.Trainer:
        users = list(self.options.callbacks)
        if self.options.progress and not any(isinstance(callback, ProgressBar) for callback in users):
            users.append(StageProgress(stage, self.waiting))
        precision: Any = self.config.precision or default_precision(self.options.accelerator)
        devices: Any = self.options.devices
        return pl.Trainer(
            max_epochs=stage.epochs,
            accelerator=self.options.accelerator,
            devices=devices,
            num_nodes=self.options.num_nodes,
            strategy=copy.deepcopy(self.options.strategy),  # an object serves one trainer
            precision=precision,
            callbacks=[*users, *callbacks],
            logger=self.loggers or False,
            log_every_n_steps=1,
            enable_progress_bar=any(isinstance(callback, ProgressBar) for callback in users),
            enable_model_summary=False,
            num_sanity_val_steps=0,
            limit_val_batches=1.0 if validates else 0,
        )


@contextlib.contextmanager
def _lent(trainer: pl.Trainer, stage: Stage, *, callbacks: list[pl.Callback]) -> Iterator[pl.Trainer]:
    """Gives the user's own trainer for one stage, whose epochs and steps it counts from 0."""
    loop = trainer.fit_loop
    own: list[pl.Callback] = trainer.callbacks  # type: ignore[attr-defined]
    epochs = loop.max_epochs
    fresh = pl.Trainer(logger=False, accelerator="cpu", enable_checkpointing=False, barebones=True).fit_loop
    loop.load_state_dict(fresh.state_dict())
    loop.restarting = False
    loop.max_epochs = stage.epochs
    trainer.callbacks = [*own, *callbacks]  # type: ignore[attr-defined]
    try:
        yield trainer
    finally:
        trainer.callbacks = own  # type: ignore[attr-defined]
        loop.max_epochs = epochs


def default_precision(accelerator: str) -> str:
    """Returns Lightning's name of bfloat16 where a GPU is used that has it, else of single precision."""
    on_gpu = accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()
    return "bf16-mixed" if on_gpu and torch.cuda.is_bf16_supported(including_emulation=False) else "32-true"


def _tensorboard(directory: Path) -> Logger:
    from lightning.pytorch.loggers import TensorBoardLogger

    try:
        return TensorBoardLogger(directory, name="tensorboard", version="")
    except ModuleNotFoundError as error:
        raise ParameterError("TensorBoard is not installed: run pip install 'musgenre[tensorboard]'.") from error
