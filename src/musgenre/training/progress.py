"""The progress bar: one for each stage, with loss, accuracy and the time that is left; and the time lost to waiting."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import ProgressBar
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch import Tensor

from musgenre.training.stages import Stage

_SMOOTHING = 0.05
_SHOWN = {"valid_loss": "valid loss {:.3f}", "valid_accuracy": "accuracy {:.1%}"}


class DataLoadingTimer(pl.Callback):
    """Takes the time that training waits for its batches.

    Attributes:
        waited_seconds: From the end of each batch, or the start of its epoch, until the next one was there.
        worked_seconds: From then on until its end.
    """

    def __init__(self) -> None:
        self.waited_seconds = 0.0
        self.worked_seconds = 0.0
        self._since = 0.0

    @property
    def share(self) -> float:
        """Share of the time that was spent waiting, from 0 to 1."""
        total = self.waited_seconds + self.worked_seconds
        return self.waited_seconds / total if total else 0.0

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begins to wait for the first batch."""
        self._since = time.perf_counter()

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *batch: Any) -> None:
        """Ends waiting."""
        self.waited_seconds += self._lap()

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *given: Any, **named: Any) -> None:
        """Begins to wait for the next one."""
        self.worked_seconds += self._lap()

    def _lap(self) -> float:
        before, self._since = self._since, time.perf_counter()
        return self._since - before


class StageProgress(ProgressBar):
    """Shows how far a stage is, on standard error.

    Args:
        stage: The stage.
        waiting: What takes the time of waiting, which is told at the end.
    """

    def __init__(self, stage: Stage, waiting: DataLoadingTimer) -> None:
        super().__init__()
        self.stage = stage
        self.waiting = waiting
        self._bar: Progress | None = None
        self._task = TaskID(0)
        self._enabled = True
        self._loss: float | None = None
        self._told: dict[str, float] = {}

    def disable(self) -> None:
        """Shows nothing: Lightning calls it in all processes but the first."""
        self._enabled = False

    def enable(self) -> None:
        """Shows the bar again."""
        self._enabled = True

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Draws the bar."""
        super().on_train_start(trainer, pl_module)
        if not self._enabled:
            return
        columns = ("{task.description}", BarColumn(), "{task.percentage:>3.0f} %", TextColumn("{task.fields[figures]}"))
        self._bar = Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=Console(stderr=True))
        done = trainer.current_epoch * self.total_train_batches
        total = self.stage.epochs * self.total_train_batches
        self._task = self._bar.add_task(self._description(), completed=int(done), total=total, figures="")
        self._bar.start()

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *given: Any, **named: Any) -> None:
        """Moves the bar on."""
        outputs = given[0]
        loss = outputs["loss"] if isinstance(outputs, Mapping) else outputs
        if isinstance(loss, Tensor):
            value = float(loss)
            self._loss = value if self._loss is None else (1 - _SMOOTHING) * self._loss + _SMOOTHING * value
        self._update(advance=1)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Shows what validation has found."""
        self._told = {key: float(trainer.callback_metrics[key]) for key in _SHOWN if key in trainer.callback_metrics}
        self._update()

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Leaves the bar as it is, and tells what waiting took."""
        if self._bar is not None:
            self._bar.console.print(f"{self.waiting.share:.0%} of the time so far went into waiting for data")
        self._stop()

    def on_exception(self, *given: Any, **named: Any) -> None:
        """Leaves the bar as it is."""
        self._stop()

    def _description(self) -> str:
        return f"{self.stage.name}, epoch {min(self.trainer.current_epoch + 1, self.stage.epochs)}/{self.stage.epochs}"

    def _update(self, *, advance: int = 0) -> None:
        if self._bar is not None:
            figures = [] if self._loss is None else [f"loss {self._loss:.3f}"]
            figures += [_SHOWN[key].format(value) for key, value in self._told.items()]
            self._bar.update(self._task, advance=advance, description=self._description(), figures=", ".join(figures))

    def _stop(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
