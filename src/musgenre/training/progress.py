"""Progress of training: one progress bar for each stage, and the time that training waits for data."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import ProgressBar
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch import Tensor

from musgenre.training.config import Stage

_SMOOTHING = 0.05
_FORMATS = {"valid_loss": "valid loss {:.3f}", "valid_accuracy": "accuracy {:.1%}"}


class DataLoadingTimer(pl.Callback):
    """Measures the time that training waits for batches.

    Attributes:
        waited_seconds: Time from the end of each batch, or the start of its epoch, to the start of the next batch.
        worked_seconds: Time from the start to the end of each batch.
    """

    def __init__(self) -> None:
        self.waited_seconds = 0.0
        self.worked_seconds = 0.0
        self._since = 0.0

    @property
    def share(self) -> float:
        """Fraction of the time spent waiting, from 0 to 1."""
        total = self.waited_seconds + self.worked_seconds
        return self.waited_seconds / total if total else 0.0

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start waiting for the first batch."""
        self._since = time.perf_counter()

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any) -> None:
        """Stop waiting."""
        self.waited_seconds += self._lap()

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any, **kwargs: Any) -> None:
        """Start waiting for the next batch."""
        self.worked_seconds += self._lap()

    def _lap(self) -> float:
        before, self._since = self._since, time.perf_counter()
        return self._since - before


class StageProgress(ProgressBar):
    """Progress bar of a complete stage, on standard error.

    Lightning's ``RichProgressBar`` has a bar for each epoch, and so no time that remains of a stage.

    Args:
        stage: The stage.
        timer: Timer whose share of waiting is printed at the end.
    """

    def __init__(self, stage: Stage, timer: DataLoadingTimer) -> None:
        super().__init__()
        self.stage = stage
        self.timer = timer
        self._bar: Progress | None = None
        self._task = TaskID(0)
        self._enabled = True
        self._loss: float | None = None
        self._valid_metrics: dict[str, float] = {}

    def disable(self) -> None:
        """Hide the bar; Lightning calls this in all processes but the first."""
        self._enabled = False

    def enable(self) -> None:
        """Show the bar again."""
        self._enabled = True

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Draw the bar."""
        super().on_train_start(trainer, pl_module)
        if not self._enabled:
            return
        columns = ("{task.description}", BarColumn(), "{task.percentage:>3.0f} %", TextColumn("{task.fields[metrics]}"))
        self._bar = Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=Console(stderr=True))
        done = trainer.current_epoch * self.total_train_batches
        total = self.stage.epochs * self.total_train_batches
        self._task = self._bar.add_task(self._description(), completed=int(done), total=total, metrics="")
        self._bar.start()

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any, **kwargs: Any) -> None:
        """Advance the bar, and update the exponential moving average of the loss."""
        outputs = args[0]
        loss = outputs["loss"] if isinstance(outputs, Mapping) else outputs
        if isinstance(loss, Tensor):
            value = float(loss)
            self._loss = value if self._loss is None else (1 - _SMOOTHING) * self._loss + _SMOOTHING * value
        self._update(advance=1)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Show the validation metrics."""
        metrics = trainer.callback_metrics
        self._valid_metrics = {key: float(metrics[key]) for key in _FORMATS if key in metrics}
        self._update()

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop the bar, and print the share of time spent waiting for data."""
        if self._bar is not None:
            self._bar.console.print(f"{self.timer.share:.0%} of the training time so far was spent waiting for data")
        self._stop()

    def on_exception(self, *args: Any, **kwargs: Any) -> None:
        """Stop the bar."""
        self._stop()

    def _description(self) -> str:
        return f"{self.stage.name}, epoch {min(self.trainer.current_epoch + 1, self.stage.epochs)}/{self.stage.epochs}"

    def _update(self, *, advance: int = 0) -> None:
        if self._bar is not None:
            metrics = [] if self._loss is None else [f"loss {self._loss:.3f}"]
            metrics += [_FORMATS[key].format(value) for key, value in self._valid_metrics.items()]
            self._bar.update(self._task, advance=advance, description=self._description(), metrics=", ".join(metrics))

    def _stop(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
