"""The time that training waits for data, and the loader that prefetches batches in a thread."""

from __future__ import annotations

import threading
import time
from types import SimpleNamespace

import pytest
import torch
from torch.utils.data import Dataset

from musgenre.core.config import AudioSpec
from musgenre.datasets import AudioFolder
from musgenre.datasets.windows import RandomWindows
from musgenre.training import progress
from musgenre.training.config import FinetuneConfig
from musgenre.training.data import GenreData, _PrefetchLoader
from musgenre.training.progress import DataLoadingTimer


def test_waiting_is_the_time_between_batches(monkeypatch):
    clock = iter([100.0, 103.0, 104.0, 106.0, 110.0, 200.0, 201.0, 202.0])
    monkeypatch.setattr(progress.time, "perf_counter", lambda: next(clock))
    timer = DataLoadingTimer()
    assert timer.share == 0
    for batches in (2, 1):  # validation lies between the epochs and counts for neither
        timer.on_train_epoch_start(None, None)
        for number in range(batches):
            timer.on_train_batch_start(None, None, "batch", number)
            timer.on_train_batch_end(None, None, None, "batch", number)
    assert (timer.waited_seconds, timer.worked_seconds) == (3 + 2 + 1, 1 + 4 + 1)
    assert timer.share == pytest.approx(1 / 2)


class Numbers(Dataset):
    def __init__(self):
        self.threads = set()
        self.requested = []

    def __len__(self):
        return 40

    def __getitem__(self, index):
        self.threads.add(threading.get_ident())
        self.requested.append(index)
        return torch.tensor(index)


def test_a_thread_prefetches_in_order():
    numbers = Numbers()
    loader = _PrefetchLoader(numbers, batch_size=4)
    for _ in range(2):
        assert torch.cat(list(loader)).tolist() == list(range(40))
    assert threading.get_ident() not in numbers.threads
    assert len(loader) == 10


@pytest.mark.parametrize(("device", "workers", "is_used"), [("cpu", 0, False), ("cuda", 0, True), ("cuda", 1, False)])
def test_windows_are_prefetched_beside_a_gpu_only(genre_folder, device, workers, is_used):
    windows = RandomWindows(AudioFolder(genre_folder), audio=AudioSpec(22_050))
    data = GenreData(windows, None, config=FinetuneConfig(), workers=workers)
    strategy = SimpleNamespace(root_device=torch.device(device))
    data.trainer = SimpleNamespace(strategy=strategy, world_size=1, global_rank=0)
    assert isinstance(data.train_dataloader(), _PrefetchLoader) == is_used


def test_at_most_two_batches_are_prefetched_and_the_thread_ends():
    before, numbers = threading.active_count(), Numbers()
    batches = iter(_PrefetchLoader(numbers, batch_size=4))
    next(batches)
    deadline = time.monotonic() + 10
    while len(numbers.requested) < 12 and time.monotonic() < deadline:
        time.sleep(0.001)
    assert len(numbers.requested) == 12
    batches.close()
    assert threading.active_count() == before
