"""What is kept after each epoch, so that a run that is killed at any moment goes on as if nothing had happened."""

from __future__ import annotations

import contextlib
import math
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Checkpoint

from musgenre.training.data import mixed
from musgenre.training.run_directory import RunDirectory
from musgenre.training.stages import Stage

MONITORED = "valid_loss"
_PREFIX = "network."


class CheckpointCallback(Checkpoint):
    """Collects the figures of each epoch, and keeps the last and the best state.

    An epoch draws its random numbers from the seed and its own number alone, so that it is the same whether or not the
    run was cut off before it. What is frozen from the beginning is not written.

    Args:
        directory: Where the state is kept; of several processes on a machine the first one's.
        stage: The stage, and its number from 1.
        seed: Seed of the run.
        first_epoch: Number of the stage's first epoch, over all stages.
        learnt: Names of the network's tensors that may differ from those at the beginning of the run.
        progress: What is known of the stages before.
    """

    def __init__(
        self,
        directory: RunDirectory,
        stage: tuple[int, Stage],
        *,
        seed: int,
        first_epoch: int,
        learnt: frozenset[str],
        progress: dict[str, Any],
    ) -> None:
        self.directory = directory
        self.number, self.stage = stage
        self.seed = seed
        self.first_epoch = first_epoch
        self.learnt = learnt
        self.progress = {**progress, "stage": self.number, "finished": False}
        self.interrupted = False
        self._gone_on = False
        self._pruning = False

    def state_dict(self) -> dict[str, Any]:
        """Returns the figures so far, which go into the checkpoint that they are true of."""
        return {"progress": self.progress}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes the figures of the checkpoint that is gone on from."""
        self.progress = state_dict["progress"]
        self._gone_on = True

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Agrees on one directory, and writes the figures of the checkpoint: the run may have been cut off after it."""
        self.directory = trainer.strategy.broadcast(self.directory)
        if self._gone_on and trainer.is_global_zero:
            self.directory.keep_progress(self.progress)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Ends a stage that had ended already."""
        trainer.should_stop = trainer.should_stop or self.progress["finished"]

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Seeds the epoch; each process draws other numbers."""
        torch.manual_seed(mixed(self.seed, self.first_epoch + trainer.current_epoch, trainer.global_rank))

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Tells loggers the number of the epoch over all stages."""
        self._log_step(pl_module)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Keeps the epoch."""
        self._log_step(pl_module)
        figures = {key: float(value) for key, value in trainer.callback_metrics.items() if key != "step"}
        epoch = trainer.current_epoch + 1
        row = {"stage": self.stage.name, "epoch": epoch, **figures}
        # Without a validation set the last weights are the best.
        judged = figures.get(MONITORED, math.inf) if trainer.datamodule.valid is not None else -math.inf  # type: ignore[attr-defined]
        better = judged < self.progress["best"].get(MONITORED, math.inf)
        best = {key: figures[key] for key in (MONITORED, "valid_accuracy") if key in figures}
        self.progress = {
            "stage": self.number,
            "finished": trainer.should_stop or epoch >= self.stage.epochs,
            "history": [*self.progress["history"], row],
            "best": best if better else self.progress["best"],
            "best_epoch": len(self.progress["history"]) + 1 if better else self.progress["best_epoch"],
        }
        if better:
            state = trainer.strategy.lightning_module_state_dict()  # in all processes: some have only a part
            if trainer.is_global_zero:
                weights = {name: state[_PREFIX + name] for name in sorted(self.learnt)}
                self.directory.keep_best(self.progress["best_epoch"], weights)
        if self.directory.resumable:
            self._keep_last(trainer)
        if trainer.is_global_zero:
            self.directory.keep_progress(self.progress)
        trainer.strategy.barrier()

    def on_save_checkpoint(self, *given: Any, **named: Any) -> None:
        """Leaves out what is as it was at the beginning."""
        checkpoint = given[-1]
        if self._pruning:
            wanted = {_PREFIX + name for name in self.learnt}
            checkpoint["state_dict"] = {key: value for key, value in checkpoint["state_dict"].items() if key in wanted}

    def on_exception(self, *given: Any, **named: Any) -> None:
        """Remembers whether it was Ctrl-C, since Lightning then raises something else."""
        self.interrupted = isinstance(given[-1], KeyboardInterrupt)

    def _keep_last(self, trainer: pl.Trainer) -> None:
        self._pruning = True
        try:
            with contextlib.ExitStack() as stack:
                path = self.directory.last(self.number)
                if trainer.is_global_zero:
                    path = stack.enter_context(self.directory.replacing_last(self.number))
                trainer.save_checkpoint(trainer.strategy.broadcast(path))
        finally:
            self._pruning = False

    def _log_step(self, module: pl.LightningModule) -> None:
        # Lightning takes a figure of this name for the step.
        module.log("step", float(len(self.progress["history"]) + 1), batch_size=1, sync_dist=True)
