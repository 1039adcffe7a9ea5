"""The loop: one Lightning ``Trainer`` a stage, and the best weights of all stages."""

from __future__ import annotations

import contextlib
import logging
import tempfile
import warnings
from collections.abc import Iterator
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint

from musgenre.network import GenreNetwork
from musgenre.training.data import GenreData
from musgenre.training.module import GenreModule
from musgenre.training.plan import FinetuneConfig, Stage

_MONITORED = "valid_loss"


class Run:
    """The stages of one fine-tuning, and the best weights so far.

    Args:
        network: The network; it is changed in place.
        data: What it learns from and is stopped by.
        config: How.

    Attributes:
        history: A dict of figures an epoch.
        best: The lowest ``valid_loss`` of all stages and its ``valid_accuracy``; empty without a validation set.
    """

    def __init__(self, network: GenreNetwork, data: GenreData, *, config: FinetuneConfig) -> None:
        self.network = network
        self.data = data
        self.config = config
        self.history: list[dict[str, Any]] = []
        self.best: dict[str, float] = {}

    def fit(self, stage: Stage) -> None:
        """Goes through one stage, and leaves the best weights of all stages in the network."""
        module = GenreModule(
            self.network, stage, augmentation=self.config.augmentation, cached=self.config.cache is not None
        )
        before = {key: value.clone() for key, value in self.network.state_dict().items()} if self.best else None
        first = len(self.history)
        with tempfile.TemporaryDirectory(prefix="musgenre-") as directory:
            kept = ModelCheckpoint(directory, monitor=_MONITORED, save_weights_only=True)
            watch = (
                [kept, EarlyStopping(_MONITORED, patience=self.config.patience)] if self.data.valid is not None else []
            )
            trainer = pl.Trainer(
                max_epochs=stage.epochs,
                precision=self.config.precision,
                callbacks=[*watch, _History(self.history, stage)],
                logger=False,
                enable_checkpointing=bool(watch),
                enable_progress_bar=self.config.progress,
                enable_model_summary=False,
                num_sanity_val_steps=0,
                limit_val_batches=1.0 if watch else 0,
                reload_dataloaders_every_n_epochs=1,
            )
            trainer.fit(module, datamodule=self.data)
            if watch:
                state = torch.load(kept.best_model_path, map_location="cpu", weights_only=True)["state_dict"]
                module.load_state_dict(state)
        if watch:
            row = min(self.history[first:], key=lambda figures: figures[_MONITORED])
            best = {key: row[key] for key in (_MONITORED, "valid_accuracy")}
            if before is not None and best[_MONITORED] >= self.best[_MONITORED]:
                self.network.load_state_dict(before)
            else:
                self.best = best


class _History(pl.Callback):
    """Collects the figures of each epoch."""

    def __init__(self, rows: list[dict[str, Any]], stage: Stage) -> None:
        self.rows = rows
        self.stage = stage

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        figures = {key: float(value) for key, value in trainer.callback_metrics.items()}
        self.rows.append({"stage": self.stage.name, "epoch": trainer.current_epoch + 1, **figures})


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seeds torch for what happens inside; the caller's random state is as it was afterwards."""
    devices = list(range(torch.cuda.device_count()))
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        yield


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keeps Lightning's tips and notices off the screen; its warnings, errors and progress bar stay."""
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            # Few workers and frozen modules in evaluation mode are meant; the last is about Lightning's own code.
            for intended in ("does not have many workers", "in eval mode at the start", "LeafSpec"):
                warnings.filterwarnings("ignore", message=f".*{intended}.*")
            yield
    finally:
        logger.setLevel(level)
