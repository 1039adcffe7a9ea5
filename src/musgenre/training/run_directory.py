"""The directory of a run: what it is, how far it has come, and what it takes to go on."""

from __future__ import annotations

import contextlib
import csv
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from musgenre.core.errors import ConfigError, MusgenreError, ParameterError
from musgenre.core.files import atomic_write
from musgenre.training.distributed import rank

_IDENTITY, _PROGRESS, _TABLE = "run.json", "progress.json", "history.csv"


class RunDirectory:
    """Where a run keeps its state. Every file is whole at any moment.

    ``run.json`` says what the run is, ``progress.json`` and ``history.csv`` how far it has come. ``last-1.ckpt`` is
    Lightning's checkpoint of the last epoch of stage 1, and ``best-3.safetensors`` holds the weights of what learns as
    they were after the third epoch of all, the best so far.

    Args:
        path: The directory; it need not exist.
        resumable: Whether a later run may go on from it; else the last state, which only that takes, is not kept.
    """

    def __init__(self, path: Path, *, resumable: bool = True) -> None:
        self.path = path
        self.resumable = resumable

    def check(self, *, resume: bool) -> None:
        """Makes sure that nothing is overwritten; changes nothing.

        Of several processes the first one does; the others may come when it has begun.

        Raises:
            ParameterError: There is something else at this place, or a run that is not to go on.
        """
        if rank():
            return
        try:
            entries = self.path.iterdir() if self.path.exists() else ()
            held = {entry.name for entry in entries if entry.suffix != ".partial"}
        except OSError as error:
            raise ParameterError(
                f"'{self.path}' is no directory for a run ({error.strerror}): name another."
            ) from error
        if _IDENTITY in held and not resume:
            raise ParameterError(
                f"'{self.path}' holds a run: go on with it by resume=True, or name another directory for a new one."
            )
        if held and _IDENTITY not in held:
            raise ParameterError(f"'{self.path}' is not empty and holds no run: name a new directory.")

    def claim(self, identity: Mapping[str, Any]) -> None:
        """Says what the run is, in the first process; one that is here already must be the same.

        Args:
            identity: Whatever the weights depend on, by name, in JSON's types.

        Raises:
            ConfigError: The directory is of another run; what differs is named.
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
                raise ParameterError(f"A run cannot be kept in '{self.path}' ({error}): name another.") from error
            return
        held = _read_json(path)
        wanted = json.loads(json.dumps(identity))
        if differing := [name for name in wanted if held.get(name) != wanted[name]]:
            raise ConfigError(
                f"'{self.path}' is of another run: other {' and '.join(differing)}. Call finetune() as that run was "
                "begun, or name another directory."
            )
        for left in self.path.glob(".*.partial"):  # by a process that was killed while it wrote
            left.unlink(missing_ok=True)

    def last(self, number: int) -> Path:
        """Returns where the checkpoint of a stage's last epoch is; stages count from 1."""
        return self.path / f"last-{number}.ckpt"

    def reached(self) -> int:
        """Returns the number of the stage that the run has come to; 0 before its first epoch has ended."""
        return max((int(path.stem.removeprefix("last-")) for path in self.path.glob("last-*.ckpt")), default=0)

    def progress(self) -> dict[str, Any]:
        """Returns what :meth:`keep_progress` has written last."""
        path = self.path / _PROGRESS
        beginning = {"stage": 0, "finished": False, "history": [], "best": {}, "best_epoch": 0}
        return _read_json(path) if path.exists() else beginning

    def keep_progress(self, progress: dict[str, Any]) -> None:
        """Writes how far the run has come, and removes what was the best before.

        Args:
            progress: ``stage`` and whether it is ``finished``, the ``history``, the figures of the ``best`` epoch, and
                its number ``best_epoch``.
        """
        with self._keeping():
            rows = progress["history"]
            columns = dict.fromkeys(name for row in rows for name in row)
            with atomic_write(self.path / _TABLE) as partial, partial.open("w", newline="", encoding="utf-8") as file:
                table = csv.DictWriter(file, list(columns))
                table.writeheader()
                table.writerows(rows)
            _write_json(self.path / _PROGRESS, progress)
            for path in self.path.glob("best-*.safetensors"):
                if path != self._best(progress["best_epoch"]):
                    path.unlink()

    def best(self, epoch: int) -> dict[str, Tensor]:
        """Returns the weights after an epoch that was the best; nothing for epoch 0."""
        return load_file(self._best(epoch)) if epoch else {}

    def keep_best(self, epoch: int, weights: dict[str, Tensor]) -> None:
        """Writes the weights after an epoch; :meth:`keep_progress` makes them the best."""
        with self._keeping(), atomic_write(self._best(epoch)) as partial:
            save_file({name: tensor.detach().cpu().contiguous().clone() for name, tensor in weights.items()}, partial)

    @contextlib.contextmanager
    def replacing_last(self, number: int) -> Iterator[Path]:
        """Gives the name to write a stage's checkpoint to; that of the stage before is removed afterwards."""
        with self._keeping(), atomic_write(self.last(number)) as partial:
            yield partial
        self.last(number - 1).unlink(missing_ok=True)

    def _best(self, epoch: int) -> Path:
        return self.path / f"best-{epoch}.safetensors"

    @contextlib.contextmanager
    def _keeping(self) -> Iterator[None]:
        try:
            yield
        except (OSError, SafetensorError) as error:
            raise MusgenreError(
                f"The state of the run cannot be written to '{self.path}' ({error}). What is there is whole: make "
                "room, and go on with resume=True."
            ) from error


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    with atomic_write(path) as partial:
        partial.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"'{path}' cannot be read ({error}): name another directory.") from error
    if not isinstance(content, dict):
        raise ConfigError(f"'{path}' is damaged: name another directory.")
    return content
