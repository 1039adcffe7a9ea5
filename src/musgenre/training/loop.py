"""The loop: one fit of Lightning's ``Trainer`` a stage, and the best weights of all stages."""

from __future__ import annotations

import contextlib
import logging
import signal
import warnings
from collections.abc import Iterator
from functools import partial
from typing import Any

import torch

from musgenre.core.download import cache_directory
from musgenre.datasets.windows import TrackWindows
from musgenre.models.network import GenreNetwork
from musgenre.training.checkpoint import CheckpointCallback
from musgenre.training.config import FinetuneConfig
from musgenre.training.data import GenreData
from musgenre.training.distributed import meet
from musgenre.training.embedding_cache import embedded
from musgenre.training.module import GenreModule, class_weights, freeze
from musgenre.training.options import RunOptions
from musgenre.training.run_directory import RunDirectory
from musgenre.training.stages import Stage
from musgenre.training.trainer import Trainers


class Run:
    """The stages of one fine-tuning, and the best weights so far.

    Args:
        network: The network; it is changed in place.
        plan: What it goes through.
        config: How it learns.
        options: Where and how it runs.
        directory: Where its state is; a run whose state is there goes on.

    Attributes:
        progress: ``history``, a dict of figures an epoch; and ``best``, the lowest ``valid_loss`` of all stages and its
            ``valid_accuracy``, empty without a validation set.
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
        self.directory = directory
        self.options = options
        self.trainers = Trainers(options, config=config, directory=directory.path)
        self.progress: dict[str, Any] = directory.progress()
        self._load_best()

    def fit(self, train: TrackWindows, valid: TrackWindows | None) -> None:
        """Goes through the stages that are left, and leaves the best weights in the network."""
        reached = self.directory.reached()
        if self.progress["stage"] == reached and self.progress["finished"]:
            reached += 1
        for number in range(max(reached, 1), len(self.plan) + 1):
            with self._restored_to_best(number):
                self._fit(number, train, valid=valid)

    def _fit(self, number: int, train: TrackWindows, *, valid: TrackWindows | None) -> None:
        stage = self.plan[number - 1]
        keeper = CheckpointCallback(
            self.directory,
            (number, stage),
            seed=self.config.seed,
            first_epoch=self._first_epoch(number),
            learnt=self._learnt(number),
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
        module.strict_loading = False  # what is frozen from the beginning is not in a checkpoint
        last = self.directory.last(number)
        with self.trainers.ready(stage, keeper, validates=valid is not None) as trainer:
            data = self._data(number, train, valid=valid, device=trainer.strategy.root_device)
            try:
                with _ctrl_c_comes_through(keeper):
                    trainer.fit(module, datamodule=data, ckpt_path=last if last.exists() else None)
            finally:
                self.directory = keeper.directory

    def _data(self, number: int, train: TrackWindows, *, valid: TrackWindows | None, device: torch.device) -> GenreData:
        first = self._first_epoch(number)
        if not self.plan[number - 1].frozen:
            return GenreData(train, valid, config=self.config, workers=self.options.workers, first_epoch=first)
        compute = partial(
            embedded,
            network=self.network.to(device),
            directory=self.config.cache or cache_directory("embeddings"),
            options=self.options,
        )
        learned = compute(train, augmentation=self.config.augmentation, views=self.config.views)
        judged = None if valid is None else compute(valid)
        return GenreData(learned, judged, config=self.config, first_epoch=first)

    def _first_epoch(self, number: int) -> int:
        return sum(stage.epochs for stage in self.plan[: number - 1])

    def _learnt(self, number: int) -> frozenset[str]:
        """Returns the names of the parameters that learn in the stages up to one, and of all statistics."""
        parameters = {name for name, _ in self.network.named_parameters()}
        learnt = set(self.network.state_dict()) - parameters
        for stage in self.plan[:number]:
            freeze(self.network, stage)
            learnt |= {name for name, parameter in self.network.named_parameters() if parameter.requires_grad}
        return frozenset(learnt)

    @contextlib.contextmanager
    def _restored_to_best(self, number: int) -> Iterator[None]:
        """Leaves the best weights of all stages in the network, however the block ends."""
        kept = self._learnt(number)
        before = {name: value.clone() for name, value in self.network.state_dict().items() if name in kept}
        try:
            yield
        finally:
            self.progress = self.directory.progress()
            self.network.cpu()
            self.network.load_state_dict(before, strict=False)
            self._load_best()
        meet()  # nobody takes the files away before all have read them

    def _load_best(self) -> None:
        self.network.load_state_dict(self.directory.best(self.progress["best_epoch"]), strict=False)


@contextlib.contextmanager
def _ctrl_c_comes_through(keeper: CheckpointCallback) -> Iterator[None]:
    """Raises Ctrl-C as what it is; Lightning would end the process, and turn a deaf ear to the next one."""
    handler = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit as error:
        if not keeper.interrupted:
            raise
        signal.signal(signal.SIGINT, handler)
        raise KeyboardInterrupt from error


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
