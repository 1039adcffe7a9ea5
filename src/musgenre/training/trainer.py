"""Run the stages of a plan, each by one fit of Lightning's ``Trainer``, and keep the best weights of all stages."""

from __future__ import annotations

import contextlib
import copy
import logging
import signal
import warnings
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import EarlyStopping, ProgressBar
from lightning.pytorch.loggers import Logger

from musgenre.core.download import cache_directory
from musgenre.core.errors import ParameterError
from musgenre.datasets.windows import TrackWindows
from musgenre.models.network import GenreNetwork
from musgenre.training.checkpoint import MONITORED, CheckpointCallback, RunDirectory
from musgenre.training.config import FinetuneConfig, RunOptions, Stage
from musgenre.training.data import GenreData
from musgenre.training.distributed import barrier
from musgenre.training.embedding_cache import embedded
from musgenre.training.module import GenreModule, class_weights, freeze
from musgenre.training.progress import DataLoadingTimer, StageProgress


class StageTrainer:
    """Trains a network through the stages of a plan.

    Args:
        network: The network; it is changed in place.
        plan: The stages.
        config: Training configuration.
        options: Run options.
        directory: Directory of the run; a run whose state is there is resumed.

    Attributes:
        progress: ``history``, a dict of metrics for each epoch; and ``best``, the lowest ``valid_loss`` of all stages
            and its ``valid_accuracy``, empty without a validation set.
        data_timer: Time that all stages together waited for data.

    Raises:
        ParameterError: TensorBoard is one of the loggers and not installed.
    """

    def __init__(
        self,
        network: GenreNetwork,
        plan: list[Stage],
        *,
        config: FinetuneConfig,
        options: RunOptions,
        directory: RunDirectory,
    ) -> None:
        self.network = network
        self.plan = plan
        self.config = config
        self.options = options
        self.directory = directory
        self.data_timer = DataLoadingTimer()
        self.progress = directory.load_progress()
        self._loggers = [_tensorboard(directory.path) if each == "tensorboard" else each for each in options.loggers]
        self._load_best()

    def fit(self, train: TrackWindows, valid: TrackWindows | None) -> None:
        """Run the remaining stages; the network then has the best weights, however this ends."""
        first = self.directory.last_stage()
        if self.progress["stage"] == first and self.progress["finished"]:
            first += 1
        for number in range(max(first, 1), len(self.plan) + 1):
            with self._restore_best(number):
                self._fit_stage(number, train, valid=valid)

    def _fit_stage(self, number: int, train: TrackWindows, *, valid: TrackWindows | None) -> None:
        stage = self.plan[number - 1]
        checkpoint = CheckpointCallback(
            self.directory,
            plan=self.plan,
            number=number,
            seed=self.config.seed,
            trained=self._trained(number),
            progress=self.progress,
        )
        weights = class_weights(train.labels, classes=len(train.dataset.labels)) if self.config.class_weights else None
        module = GenreModule(
            self.network,
            stage,
            augmentation=self.config.augmentation,
            class_weights=weights,
            embedded=stage.frozen,
        )
        module.strict_loading = False  # checkpoints do not hold parameters that are never trained
        last = self.directory.last_path(number)
        with self._trainer(stage, checkpoint, validates=valid is not None) as trainer:
            device = trainer.strategy.root_device
            data = self._data(train, valid, stage=stage, first_epoch=checkpoint.first_epoch, device=device)
            try:
                with _raise_keyboard_interrupt(checkpoint):
                    trainer.fit(module, datamodule=data, ckpt_path=last if last.exists() else None)
            finally:
                self.directory = checkpoint.directory

    def _data(
        self,
        train: TrackWindows,
        valid: TrackWindows | None,
        *,
        stage: Stage,
        first_epoch: int,
        device: torch.device,
    ) -> GenreData:
        """Return the windows of a stage or, while the backbone is frozen, their embeddings."""
        if not stage.frozen:
            return GenreData(train, valid, config=self.config, workers=self.options.workers, first_epoch=first_epoch)
        embed = partial(
            embedded,
            network=self.network.to(device),
            directory=self.config.cache or cache_directory("embeddings"),
            options=self.options,
        )
        embedded_train = embed(train, augmentation=self.config.augmentation, views=self.config.views)
        embedded_valid = None if valid is None else embed(valid)
        return GenreData(embedded_train, embedded_valid, config=self.config, first_epoch=first_epoch)

    @contextlib.contextmanager
    def _trainer(self, stage: Stage, checkpoint: CheckpointCallback, *, validates: bool) -> Iterator[pl.Trainer]:
        """Yield a new trainer for a stage, or the user's own."""
        callbacks: list[pl.Callback] = [EarlyStopping(MONITORED, patience=self.config.patience)] if validates else []
        callbacks += [self.data_timer, checkpoint]
        if self.options.trainer is not None:
            with _borrow(self.options.trainer, stage, callbacks=callbacks) as trainer:
                yield trainer
            return
        user_callbacks = list(self.options.callbacks)
        if self.options.progress and not any(isinstance(callback, ProgressBar) for callback in user_callbacks):
            user_callbacks.append(StageProgress(stage, self.data_timer))
        precision: Any = self.config.precision or default_precision(self.options.accelerator)
        devices: Any = self.options.devices
        yield pl.Trainer(
            max_epochs=stage.epochs,
            accelerator=self.options.accelerator,
            devices=devices,
            num_nodes=self.options.num_nodes,
            strategy=copy.deepcopy(self.options.strategy),  # a strategy object can serve one trainer only
            precision=precision,
            callbacks=[*user_callbacks, *callbacks],
            logger=self._loggers or False,
            log_every_n_steps=1,
            enable_progress_bar=any(isinstance(callback, ProgressBar) for callback in user_callbacks),
            enable_model_summary=False,
            num_sanity_val_steps=0,
            limit_val_batches=1.0 if validates else 0,
        )

    def _trained(self, number: int) -> frozenset[str]:
        """Return the names of the parameters trained in the stages up to one, and of all buffers."""
        parameters = {name for name, _ in self.network.named_parameters()}
        trained = set(self.network.state_dict()) - parameters
        for stage in self.plan[:number]:
            freeze(self.network, stage)
            trained |= {name for name, parameter in self.network.named_parameters() if parameter.requires_grad}
        return frozenset(trained)

    @contextlib.contextmanager
    def _restore_best(self, number: int) -> Iterator[None]:
        """Load the best weights of all stages into the network, however the block ends."""
        names = self._trained(number)
        initial = {name: value.clone() for name, value in self.network.state_dict().items() if name in names}
        try:
            yield
        finally:
            self.progress = self.directory.load_progress()
            self.network.cpu()
            self.network.load_state_dict(initial, strict=False)
            self._load_best()
        barrier()  # the files must not be removed before all processes have read them

    def _load_best(self) -> None:
        self.network.load_state_dict(self.directory.load_best(self.progress["best_epoch"]), strict=False)


@contextlib.contextmanager
def _borrow(trainer: pl.Trainer, stage: Stage, *, callbacks: list[pl.Callback]) -> Iterator[pl.Trainer]:
    """Yield the user's own trainer for one stage, with epochs and steps counted from 0."""
    loop = trainer.fit_loop
    user_callbacks: list[pl.Callback] = trainer.callbacks  # type: ignore[attr-defined]
    max_epochs = loop.max_epochs
    fresh = pl.Trainer(logger=False, accelerator="cpu", enable_checkpointing=False, barebones=True).fit_loop
    loop.load_state_dict(fresh.state_dict())
    loop.restarting = False
    loop.max_epochs = stage.epochs
    trainer.callbacks = [*user_callbacks, *callbacks]  # type: ignore[attr-defined]
    try:
        yield trainer
    finally:
        trainer.callbacks = user_callbacks  # type: ignore[attr-defined]
        loop.max_epochs = max_epochs


def default_precision(accelerator: str) -> str:
    """Return Lightning's name of mixed precision if a GPU with bfloat16 is used, else of single precision."""
    on_gpu = accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()
    return "bf16-mixed" if on_gpu and torch.cuda.is_bf16_supported(including_emulation=False) else "32-true"


def _tensorboard(directory: Path) -> Logger:
    from lightning.pytorch.loggers import TensorBoardLogger

    try:
        return TensorBoardLogger(directory, name="tensorboard", version="")
    except ModuleNotFoundError as error:
        raise ParameterError("TensorBoard is not installed: run pip install 'musgenre[tensorboard]'.") from error


@contextlib.contextmanager
def _raise_keyboard_interrupt(checkpoint: CheckpointCallback) -> Iterator[None]:
    """Raise Ctrl-C as ``KeyboardInterrupt``; Lightning exits the process, and then ignores the next Ctrl-C."""
    handler = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit as error:
        if not checkpoint.interrupted:
            raise
        signal.signal(signal.SIGINT, handler)
        raise KeyboardInterrupt from error


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed PyTorch within the block, and restore the caller's random state afterwards."""
    devices = list(range(torch.cuda.device_count()))
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        yield


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence Lightning's tips and notices; its warnings, errors and progress bar are still shown."""
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            # Few workers and frozen modules in evaluation mode are intended; the last is about Lightning's own code.
            for intended in ("does not have many workers", "in eval mode at the start", "LeafSpec"):
                warnings.filterwarnings("ignore", message=f".*{intended}.*")
            yield
    finally:
        logger.setLevel(level)
