"""The LightningDataModule: batches of windows, drawn afresh each epoch."""

from __future__ import annotations

from typing import Any

import lightning.pytorch as pl
import torch
from torch.utils.data import DataLoader, Dataset, WeightedRandomSampler

from musgenre.datasets.windows import RandomWindows
from musgenre.training.plan import FinetuneConfig


class GenreData(pl.LightningDataModule):
    """Loads the batches of one run of fine-tuning, across all its stages.

    Args:
        train: Windows to learn from; ``RandomWindows`` draw others each epoch.
        valid: Every window of the validation tracks, or ``None``.
        config: Batch size, workers and seed.
        weights: How often each training item is drawn in proportion, with replacement; ``None`` takes each once.
    """

    def __init__(
        self,
        train: Dataset[Any],
        valid: Dataset[Any] | None,
        *,
        config: FinetuneConfig,
        weights: tuple[float, ...] | None = None,
    ) -> None:
        super().__init__()
        self.train = train
        self.valid = valid
        self.config = config
        self.weights = weights
        self._epoch = 0

    def train_dataloader(self) -> DataLoader[Any]:
        """Returns the loader of the next epoch: other windows, in another order."""
        generator = torch.Generator().manual_seed(self.config.seed + self._epoch)
        if isinstance(self.train, RandomWindows):
            self.train.set_epoch(self._epoch)
        self._epoch += 1
        weights = self.weights
        sampler = None if weights is None else WeightedRandomSampler(weights, len(weights), generator=generator)
        return self._loader(self.train, shuffle=sampler is None, sampler=sampler, generator=generator)

    def val_dataloader(self) -> DataLoader[Any] | list[DataLoader[Any]]:
        """Returns the loader of the validation windows, in order; an empty list where there are none."""
        return [] if self.valid is None else self._loader(self.valid)

    def _loader(self, dataset: Dataset[Any], **options: Any) -> DataLoader[Any]:
        size, workers = self.config.batch_size, self.config.workers
        return DataLoader(dataset, batch_size=size, num_workers=workers, **options)
