"""The LightningDataModule: batches of windows or embeddings, drawn afresh each epoch."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import lightning.pytorch as pl
import numpy as np
import torch
from torch.utils.data import DataLoader
from torch.utils.data.distributed import DistributedSampler

from musgenre.core.threads import Prefetcher
from musgenre.datasets.windows import TrackWindows
from musgenre.training.config import FinetuneConfig
from musgenre.training.embedding_cache import EmbeddedWindows

Source: TypeAlias = TrackWindows | EmbeddedWindows


class GenreData(pl.LightningDataModule):
    """Loads the batches of one stage; an epoch's are the same whether or not the run has been interrupted.

    Args:
        train: What is learnt from; its ``set_epoch`` is called before each epoch.
        valid: Every window of the validation tracks, or ``None``.
        config: Batch size, balance and seed. A batch is shared by all devices.
        workers: Processes that decode. With none, a thread decodes the next batches while a GPU learns from one. Where
            the processor learns, each batch is decoded before it: the threads that share a step of learning wait for
            one another, and a further one that takes a core from them costs more than it saves. Embeddings need none.
        first_epoch: Number of the stage's first epoch.
    """

    def __init__(
        self,
        train: Source,
        valid: Source | None,
        *,
        config: FinetuneConfig,
        workers: int = 0,
        first_epoch: int = 0,
    ) -> None:
        super().__init__()
        self.train = train
        self.valid = valid
        self.config = config
        self.workers = workers
        self.first_epoch = first_epoch

    def train_dataloader(self) -> DataLoader[Any]:
        """Returns the loader of all the stage's epochs: other windows, in another order each."""
        count, rank = self._processes()
        order = _Shuffled(self.train, config=self.config, epoch=self._epoch, num_replicas=count, rank=rank)
        return self._loader(self.train, order)

    def val_dataloader(self) -> DataLoader[Any] | list[DataLoader[Any]]:
        """Returns the loader of the validation windows, in order; an empty list where there are none."""
        count, rank = self._processes()
        return [] if self.valid is None else self._loader(self.valid, _Share(self.valid, num_replicas=count, rank=rank))

    def _epoch(self) -> int:
        if self.trainer is None:
            return self.first_epoch
        # What is counted as completed is one behind when a loader is made for a run that goes on.
        current: Any = self.trainer.fit_loop.epoch_progress.current
        return self.first_epoch + int(current.processed)

    def _processes(self) -> tuple[int, int]:
        return (self.trainer.world_size, self.trainer.global_rank) if self.trainer else (1, 0)

    def _loader(self, source: Source, sampler: DistributedSampler[Any]) -> DataLoader[Any]:
        decodes = isinstance(source, TrackWindows)
        workers = self.workers if decodes else 0
        on_cpu = self.trainer is None or self.trainer.strategy.root_device.type == "cpu"
        kind = _AheadLoader if decodes and not workers and not on_cpu else DataLoader
        return kind(
            source,
            batch_size=math.ceil(self.config.batch_size / sampler.num_replicas),
            sampler=sampler,
            num_workers=workers,
            persistent_workers=workers > 0,
            generator=torch.Generator(),  # of its own: an iterator would draw from the epoch's random numbers
        )


class _AheadLoader(DataLoader[Any]):
    """A loader that works in a thread, two batches ahead."""

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]  # PyTorch promises an iterator of its own kind
        return Prefetcher(super().__iter__())


class _Shuffled(DistributedSampler[Any]):
    """An order for each epoch. Several devices together see the batches that one would see.

    Lightning leaves a ``DistributedSampler`` as it is.
    """

    def __init__(
        self, source: Source, *, config: FinetuneConfig, epoch: Callable[[], int], num_replicas: int, rank: int
    ) -> None:
        super().__init__(source, num_replicas=num_replicas, rank=rank)
        self._source = source
        self._seed = config.seed
        self._now = epoch
        self._weights = torch.tensor(_evenly(source)) if config.balanced else None

    def __iter__(self) -> Iterator[int]:
        epoch = self._now()
        self._source.set_epoch(epoch)
        generator = torch.Generator().manual_seed(mixed(self._seed, epoch))
        count = len(self._source)
        if self._weights is None:
            order = torch.randperm(count, generator=generator)
        else:
            order = torch.multinomial(self._weights, count, replacement=True, generator=generator)
        order = order.repeat(math.ceil(self.total_size / count))[: self.total_size]  # as many for each device
        return iter(order[self.rank :: self.num_replicas].tolist())


class _Share(DistributedSampler[Any]):
    """Every window once, in order, dealt out to the devices."""

    def __iter__(self) -> Iterator[int]:
        return iter(self._indices())

    def __len__(self) -> int:
        return len(self._indices())

    def _indices(self) -> range:
        count = len(self.dataset)  # type: ignore[arg-type]
        # A device without any would keep the others waiting: it takes the first, which is then judged twice.
        return range(self.rank, count, self.num_replicas) if self.rank < count else range(1)


def mixed(*numbers: int) -> int:
    """Returns a seed that depends on all of some numbers."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0])


def _evenly(source: Source) -> list[float]:
    windows = source.windows if isinstance(source, EmbeddedWindows) else source
    labels = [windows.labels[windows.place(index)[0]] for index in range(len(windows))]
    counts = Counter(labels)
    return [1 / counts[label] for label in labels]
