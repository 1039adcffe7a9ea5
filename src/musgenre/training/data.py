"""Lightning data module with the batches of windows or embeddings of a stage."""

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
    """Batches of one stage; those of an epoch do not depend on interruptions of the run.

    Args:
        train: Training windows or embeddings; ``set_epoch`` is called before each epoch.
        valid: All windows of the validation tracks or their embeddings, or ``None``.
        config: Batch size, balance and seed. A batch is divided among all devices.
        workers: Number of decoding processes. With none, a thread decodes the next batches while a GPU trains. When
            training on a CPU, each batch is decoded before its step: the threads of a step wait for each other, so that
            another thread on one of their cores slows down training. Not used for embeddings.
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
        """Return the loader of the training windows, which differ and are shuffled in each epoch."""
        count, rank = self._processes()
        order = _Shuffled(self.train, config=self.config, epoch=self._epoch, num_replicas=count, rank=rank)
        return self._loader(self.train, order)

    def val_dataloader(self) -> DataLoader[Any] | list[DataLoader[Any]]:
        """Return the loader of the validation windows, in order; an empty list without a validation set."""
        count, rank = self._processes()
        return (
            [] if self.valid is None else self._loader(self.valid, _Ordered(self.valid, num_replicas=count, rank=rank))
        )

    def _epoch(self) -> int:
        if self.trainer is None:
            return self.first_epoch
        # The number of completed epochs is one too low when the loader of a resumed run is made.
        current: Any = self.trainer.fit_loop.epoch_progress.current
        return self.first_epoch + int(current.processed)

    def _processes(self) -> tuple[int, int]:
        return (self.trainer.world_size, self.trainer.global_rank) if self.trainer else (1, 0)

    def _loader(self, source: Source, sampler: DistributedSampler[Any]) -> DataLoader[Any]:
        decodes = isinstance(source, TrackWindows)
        workers = self.workers if decodes else 0
        on_cpu = self.trainer is None or self.trainer.strategy.root_device.type == "cpu"
        loader = _PrefetchLoader if decodes and not workers and not on_cpu else DataLoader
        return loader(
            source,
            batch_size=math.ceil(self.config.batch_size / sampler.num_replicas),
            sampler=sampler,
            num_workers=workers,
            persistent_workers=workers > 0,
            generator=torch.Generator(),  # else each iterator draws from the epoch's random numbers
        )


class _PrefetchLoader(DataLoader[Any]):
    """Loader that prefetches two batches in a thread."""

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]  # DataLoader returns its own iterator class
        return Prefetcher(super().__iter__())


class _Shuffled(DistributedSampler[Any]):
    """Random order of each epoch; several devices together process the batches that one would process.

    A ``DistributedSampler``, because Lightning does not replace these.
    """

    def __init__(
        self, source: Source, *, config: FinetuneConfig, epoch: Callable[[], int], num_replicas: int, rank: int
    ) -> None:
        super().__init__(source, num_replicas=num_replicas, rank=rank)
        self._source = source
        self._seed = config.seed
        self._epoch = epoch
        self._weights = torch.tensor(_balanced_weights(source)) if config.balanced else None

    def __iter__(self) -> Iterator[int]:
        epoch = self._epoch()
        self._source.set_epoch(epoch)
        generator = torch.Generator().manual_seed(mix_seeds(self._seed, epoch))
        count = len(self._source)
        if self._weights is None:
            order = torch.randperm(count, generator=generator)
        else:
            order = torch.multinomial(self._weights, count, replacement=True, generator=generator)
        order = order.repeat(math.ceil(self.total_size / count))[: self.total_size]  # the same number for each device
        return iter(order[self.rank :: self.num_replicas].tolist())


class _Ordered(DistributedSampler[Any]):
    """Every window once, in order, divided among the devices."""

    def __iter__(self) -> Iterator[int]:
        return iter(self._indices())

    def __len__(self) -> int:
        return len(self._indices())

    def _indices(self) -> range:
        count = len(self.dataset)  # type: ignore[arg-type]
        # The others would wait for a device without windows: it takes the first window, which is then counted twice.
        return range(self.rank, count, self.num_replicas) if self.rank < count else range(1)


def mix_seeds(*numbers: int) -> int:
    """Return a seed that depends on all of some numbers."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0])


def _balanced_weights(source: Source) -> list[float]:
    windows = source.windows if isinstance(source, EmbeddedWindows) else source
    labels = [windows.labels[windows.locate(index)[0]] for index in range(len(windows))]
    counts = Counter(labels)
    return [1 / counts[label] for label in labels]
