"""Checkpoints: the directory of a run, and the callback that saves its state after each epoch."""

from __future__ import annotations

import contextlib
import csv
import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Checkpoint
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from musgenre.core.errors import ConfigError, MusgenreError, ParameterError
from musgenre.core.files import atomic_write
from musgenre.training.config import Stage
from musgenre.training.data import mix_seeds
from musgenre.training.distributed import rank

MONITORED = "valid_loss"
_IDENTITY, _PROGRESS, _TABLE = "run.json", "progress.json", "history.csv"
_PREFIX = "network."


class RunDirectory:
    """Directory with the state of a run; every file is written atomically.

    ``run.json`` identifies the run; ``progress.json`` and ``history.csv`` record its progress. ``last-1.ckpt`` is
    Lightning's checkpoint after the last epoch of stage 1, and ``best-3.safetensors`` holds the trained weights after
    the third epoch, the best so far.

    Args:
        path: The directory; it need not exist.
        resumable: Whether the run can be resumed from the directory; if not, the last checkpoint is not saved.
    """

    def __init__(self, path: Path, *, resumable: bool = True) -> None:
        self.path = path
        self.resumable = resumable

    def check(self, *, resume: bool) -> None:
        """Check that nothing would be overwritten; nothing is changed.

        Only the first of several processes checks; the others may start after it has written files.

        Raises:
            ParameterError: The directory holds other files, or a run that is not to be resumed.
        """
        if rank():
            return
        try:
            entries = self.path.iterdir() if self.path.exists() else ()
            names = {entry.name for entry in entries if entry.suffix != ".partial"}
        except OSError as error:
            raise ParameterError(
                f"'{self.path}' is not a directory for a run ({error.strerror}): choose another one."
            ) from error
        if _IDENTITY in names and not resume:
            raise ParameterError(
                f"'{self.path}' holds a run: pass resume=True to resume it, or choose another directory for a new run."
            )
        if names and _IDENTITY not in names:
            raise ParameterError(f"'{self.path}' is not empty and holds no run: choose a new directory.")

    def claim(self, identity: Mapping[str, Any]) -> None:
        """Write the identity of the run, or check that the directory is of the same run.

        Args:
            identity: All settings that the weights depend on, by name, as JSON types.

        Raises:
            ConfigError: The directory is of another run; the message names the differences.
            ParameterError: The directory cannot be written to.
        """
        path = self.path / _IDENTITY
        if rank():
            return
        if not path.exists():
            try:
                self.path.mkdir(parents=True, exist_ok=True)
                _write_json(path, identity)
            except OSError as error:
                raise ParameterError(
                    f"'{self.path}' cannot be written to ({error}): choose another directory."
                ) from error
            return
        found = _read_json(path)
        expected = json.loads(json.dumps(identity))
        if differing := [name for name in expected if found.get(name) != expected[name]]:
            raise ConfigError(
                f"'{self.path}' is of another run, with other {' and '.join(differing)}. Call finetune() with the "
                "arguments of that run, or choose another directory."
            )
        for partial in self.path.glob(".*.partial"):  # of a process that was killed while writing
            partial.unlink(missing_ok=True)

    def last_path(self, number: int) -> Path:
        """Return the path of a stage's last checkpoint; stages are numbered from 1."""
        return self.path / f"last-{number}.ckpt"

    def last_stage(self) -> int:
        """Return the number of the latest stage with a checkpoint; 0 before the end of the first epoch."""
        return max((int(path.stem.removeprefix("last-")) for path in self.path.glob("last-*.ckpt")), default=0)

    def load_progress(self) -> dict[str, Any]:
        """Return the progress that :meth:`save_progress` saved last."""
        path = self.path / _PROGRESS
        initial = {"stage": 0, "finished": False, "history": [], "best": {}, "best_epoch": 0}
        return _read_json(path) if path.exists() else initial

    def save_progress(self, progress: dict[str, Any]) -> None:
        """Save the progress of the run, and remove weights that are no longer the best.

        Args:
            progress: ``stage`` and whether it is ``finished``, the ``history``, the metrics of the ``best`` epoch, and
                its number ``best_epoch``.
        """
        with self._convert_errors():
            rows = progress["history"]
            columns = dict.fromkeys(name for row in rows for name in row)
            with atomic_write(self.path / _TABLE) as partial, partial.open("w", newline="", encoding="utf-8") as file:
                table = csv.DictWriter(file, list(columns))
                table.writeheader()
                table.writerows(rows)
            _write_json(self.path / _PROGRESS, progress)
            for path in self.path.glob("best-*.safetensors"):
                if path != self._best_path(progress["best_epoch"]):
                    path.unlink()

    def load_best(self, epoch: int) -> dict[str, Tensor]:
        """Return the weights after the best epoch; an empty dict for epoch 0."""
        return load_file(self._best_path(epoch)) if epoch else {}

    def save_best(self, epoch: int, weights: dict[str, Tensor]) -> None:
        """Save the weights after an epoch; they become the best by :meth:`save_progress`."""
        with self._convert_errors(), atomic_write(self._best_path(epoch)) as partial:
            save_file({name: tensor.detach().cpu().contiguous().clone() for name, tensor in weights.items()}, partial)

    @contextlib.contextmanager
    def replace_last(self, number: int) -> Iterator[Path]:
        """Yield the path to write a stage's last checkpoint to; afterwards, remove that of the previous stage."""
        with self._convert_errors(), atomic_write(self.last_path(number)) as partial:
            yield partial
        self.last_path(number - 1).unlink(missing_ok=True)

    def _best_path(self, epoch: int) -> Path:
        return self.path / f"best-{epoch}.safetensors"

    @contextlib.contextmanager
    def _convert_errors(self) -> Iterator[None]:
        try:
            yield
        except (OSError, SafetensorError) as error:
            raise MusgenreError(
                f"The state of the run cannot be saved in '{self.path}' ({error}). The last saved state is complete: "
                "make room, and resume with resume=True."
            ) from error


class CheckpointCallback(Checkpoint):
    """Record the metrics of each epoch, and save the last and the best state.

    Each epoch is seeded by the run's seed and its own number, so that it does not depend on interruptions before it.
    Parameters that are never trained are not saved.

    Lightning's ``ModelCheckpoint`` is not used, because it selects the best epoch of one fit and not of all stages, and
    pickles the best weights, frozen ones included.

    Args:
        directory: Directory of the run; with several processes on a machine, that of the first one is used.
        plan: The stages of the run.
        number: Number of the current stage, from 1.
        seed: Seed of the run.
        trained: Names of the network's tensors that may have changed since the start of the run.
        progress: Progress of the stages before.
    """

    def __init__(
        self,
        directory: RunDirectory,
        *,
        plan: list[Stage],
        number: int,
        seed: int,
        trained: frozenset[str],
        progress: dict[str, Any],
    ) -> None:
        self.directory = directory
        self.number = number
        self.stage = plan[number - 1]
        self.first_epoch = sum(stage.epochs for stage in plan[: number - 1])  # of the stage, over all stages
        self.seed = seed
        self.trained = trained
        self.progress = {**progress, "stage": number, "finished": False}
        self.interrupted = False
        self._resumed = False
        self._saving_last = False

    def state_dict(self) -> dict[str, Any]:
        """Return the progress, which is saved in the checkpoint that it describes."""
        return {"progress": self.progress}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the progress from the checkpoint that is resumed."""
        self.progress = state_dict["progress"]
        self._resumed = True

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Agree on one directory; save a resumed checkpoint's progress, which may not have been saved after it."""
        self.directory = trainer.strategy.broadcast(self.directory)
        if self._resumed and trainer.is_global_zero:
            self.directory.save_progress(self.progress)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop at once when the resumed stage was finished."""
        trainer.should_stop = trainer.should_stop or self.progress["finished"]

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Seed the epoch, differently in each process."""
        torch.manual_seed(mix_seeds(self.seed, self.first_epoch + trainer.current_epoch, trainer.global_rank))

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log the number of the epoch over all stages."""
        self._log_step(pl_module)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Record the epoch's metrics and save its state."""
        self._log_step(pl_module)
        metrics = {key: float(value) for key, value in trainer.callback_metrics.items() if key != "step"}
        epoch = trainer.current_epoch + 1
        row = {"stage": self.stage.name, "epoch": epoch, **metrics}
        # Without a validation set the last weights are the best.
        monitored = metrics.get(MONITORED, math.inf) if trainer.datamodule.valid is not None else -math.inf  # type: ignore[attr-defined]
        is_best = monitored < self.progress["best"].get(MONITORED, math.inf)
        best = {key: metrics[key] for key in (MONITORED, "valid_accuracy") if key in metrics}
        self.progress = {
            "stage": self.number,
            "finished": trainer.should_stop or epoch >= self.stage.epochs,
            "history": [*self.progress["history"], row],
            "best": best if is_best else self.progress["best"],
            "best_epoch": len(self.progress["history"]) + 1 if is_best else self.progress["best_epoch"],
        }
        if is_best:
            state = trainer.strategy.lightning_module_state_dict()  # in all processes: some strategies shard it
            if trainer.is_global_zero:
                weights = {name: state[_PREFIX + name] for name in sorted(self.trained)}
                self.directory.save_best(self.progress["best_epoch"], weights)
        if self.directory.resumable:
            self._save_last(trainer)
        if trainer.is_global_zero:
            self.directory.save_progress(self.progress)
        trainer.strategy.barrier()

    def on_save_checkpoint(self, *args: Any, **kwargs: Any) -> None:
        """Remove parameters that have not changed since the start of the run."""
        checkpoint = args[-1]
        if self._saving_last:
            names = {_PREFIX + name for name in self.trained}
            checkpoint["state_dict"] = {key: value for key, value in checkpoint["state_dict"].items() if key in names}

    def on_exception(self, *args: Any, **kwargs: Any) -> None:
        """Record whether Ctrl-C was the cause, since Lightning raises another exception then."""
        self.interrupted = isinstance(args[-1], KeyboardInterrupt)

    def _save_last(self, trainer: pl.Trainer) -> None:
        self._saving_last = True
        try:
            with contextlib.ExitStack() as stack:
                path = self.directory.last_path(self.number)
                if trainer.is_global_zero:
                    path = stack.enter_context(self.directory.replace_last(self.number))
                trainer.save_checkpoint(trainer.strategy.broadcast(path))
        finally:
            self._saving_last = False

    def _log_step(self, module: pl.LightningModule) -> None:
        # Lightning uses a metric of this name as the step of all others.
        module.log("step", float(len(self.progress["history"]) + 1), batch_size=1, sync_dist=True)


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    with atomic_write(path) as partial:
        partial.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"'{path}' cannot be read ({error}): choose another directory.") from error
    if not isinstance(content, dict):
        raise ConfigError(f"'{path}' is damaged: choose another directory.")
    return content
