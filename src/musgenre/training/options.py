"""Where and how a run of fine-tuning happens, apart from what it learns."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from musgenre.core.errors import ParameterError
from musgenre.core.registry import did_you_mean
from musgenre.training.config import FinetuneConfig

if TYPE_CHECKING:
    from lightning.pytorch import Callback, Trainer
    from lightning.pytorch.loggers import Logger
    from lightning.pytorch.strategies import Strategy

_TRAINERS_OWN = ("accelerator", "devices", "num_nodes", "strategy", "callbacks", "loggers")


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """Where and how :func:`~musgenre.finetune` runs; none of it is meant to change what is learnt.

    Attributes:
        directory: Where the run keeps its state, its history and, at the end, the model. It must be new or empty, or
            hold the run that is to go on. ``None`` keeps nothing but what is returned.
        resume: Whether a run that ``directory`` holds goes on after its last finished epoch; where there is none yet,
            it begins.
        accelerator: Lightning's: ``"auto"``, ``"cpu"``, ``"gpu"``, …
        devices: Lightning's: how many, which ones, or ``"auto"`` for all. ``batch_size`` is shared among them.
        num_nodes: Number of machines; more than one needs a ``directory`` that all of them see.
        strategy: Lightning's: ``"auto"``, ``"ddp"``, … or a ``Strategy``.
        workers: Processes that decode, for each device; 0 decodes in the process that trains, in a thread beside a GPU.
        progress: Whether a summary is shown before the start, and a progress bar after it.
        callbacks: Lightning's ``Callback`` objects, which take part in every stage.
        loggers: Lightning's ``Logger`` objects; ``"tensorboard"`` writes into ``directory``. The step that they are
            told is the number of the epoch, from 1, over all stages.
        trainer: A ready ``Trainer`` that is used in every stage, with its own devices, precision, callbacks and
            loggers; the stages say how many epochs it runs.

    Raises:
        ParameterError: A value is out of range, or two contradict each other.
    """

    directory: str | os.PathLike[str] | None = None
    resume: bool = False
    accelerator: str = "auto"
    devices: int | str | Sequence[int] = 1
    num_nodes: int = 1
    strategy: str | Strategy = "auto"
    workers: int = 0
    progress: bool = True
    callbacks: Sequence[Callback] = ()
    loggers: Sequence[Logger | Literal["tensorboard"]] = ()
    trainer: Trainer | None = None

    def __post_init__(self) -> None:
        if self.workers < 0:
            raise ParameterError(f"workers must not be negative, got {self.workers!r}.")
        if self.num_nodes < 1:
            raise ParameterError(f"num_nodes must be at least 1, not {self.num_nodes!r}.")
        for logger in self.loggers:
            if isinstance(logger, str) and logger != "tensorboard":
                raise ParameterError(f"loggers takes Lightning's Logger objects and 'tensorboard', not {logger!r}.")
        if self.trainer is not None:
            defaults = {field.name: field.default for field in dataclasses.fields(self)}
            if own := [name for name in _TRAINERS_OWN if getattr(self, name) not in (defaults[name], [])]:
                raise ParameterError(f"Give {', '.join(own)} to the trainer that you make, not to finetune() as well.")
        if self.directory is None:
            without = {
                "resume=True": self.resume,
                "num_nodes above 1": self.num_nodes > 1,
                "the logger 'tensorboard'": "tensorboard" in self.loggers,
            }
            if needing := [name for name, asked in without.items() if asked]:
                raise ParameterError(f"{' and '.join(needing)} cannot do without a directory: name one.")

    @property
    def place(self) -> Path | None:
        """The directory as a path."""
        return None if self.directory is None else Path(self.directory).expanduser()


def sort_options(options: dict[str, Any], config: FinetuneConfig | None) -> tuple[FinetuneConfig, RunOptions]:
    """Sorts options by name into what is learnt and how it runs.

    Args:
        options: Fields of :class:`FinetuneConfig` and of :class:`RunOptions`.
        config: What the former change; ``None`` takes the defaults.

    Raises:
        ParameterError: A name is none of theirs, or a value is out of range.

    Example:
        >>> config, run = sort_options({"seed": 1, "devices": 2}, None)
        >>> config.seed, run.devices
        (1, 2)
        >>> sort_options({"epoch": 1}, None)  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ...
        musgenre.core.errors.ParameterError: finetune() has no option 'epoch'. Did you mean 'epochs' or ...
    """
    run_names = {field.name for field in dataclasses.fields(RunOptions)}
    config_names = {field.name for field in dataclasses.fields(FinetuneConfig)}
    known = sorted(run_names | config_names | {"preset"})
    for name in options:
        if name not in known:
            told = f"{did_you_mean(name, known)} All: {', '.join(known)}."
            raise ParameterError(f"finetune() has no option {name!r}.{told}")
    run = RunOptions(**{name: value for name, value in options.items() if name in run_names})
    learnt = {name: value for name, value in options.items() if name in config_names - run_names}
    return dataclasses.replace(config or FinetuneConfig(), **learnt), run
