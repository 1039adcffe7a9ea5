"""The progress bar: one for each stage, with loss, accuracy and the time that is left of it."""

from __future__ import annotations

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


class StageProgress(ProgressBar):
    """Shows how far a stage is, on standard error.

    Args:
        stage: The stage.
    """

    def __init__(self, stage: Stage) -> None:
        super().__init__()
        self.stage = stage
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
        """Leaves the bar as it is."""
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
