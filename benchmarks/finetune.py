"""Benchmark ten epochs of the head of VGG-16 with and without the embedding cache.

    python benchmarks/finetune.py [--tracks 192] [--epochs 10] [--threads 1]

One run measures, on the same files (noise of five seconds each, one window per file and epoch) with the same network
(random weights, whose computation takes as long as that of trained ones): the pass that computes the embeddings; the
epochs of ``musgenre.finetune`` on the cache, including checkpoints; and a bare loop that runs the frozen backbone in
every epoch. The construction of the network is excluded. Wall time and CPU time are reported; on a busy machine, only
the latter is meaningful. With few tracks, the checkpoints, whose cost is constant, dominate the head.
"""

from __future__ import annotations

import argparse
import os
import platform
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import lightning.pytorch as pl
import numpy as np
import numpy.typing as npt
import soundfile
import torch
from torch.utils.data import DataLoader

import musgenre
from musgenre.core.config import AudioSpec, Component, ModelConfig
from musgenre.datasets.windows import RandomWindows
from musgenre.models.network import GenreNetwork
from musgenre.training.embedding_cache import embedded

RATE = 22_050
SPEC = AudioSpec(RATE)
VGG16 = Component("vgg16", {"weights": None})
BATCH = 16

Seconds: TypeAlias = npt.NDArray[np.float64]
"""Wall time and CPU time."""


def main() -> None:
    """Run the benchmark and print the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--tracks", type=int, default=192, help="number of files, half of them of each of two genres")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(
        f"{platform.machine()}, {os.cpu_count()} cores, {options.threads} threads, torch {torch.__version__}", end="; "
    )
    print(f"load {_load()}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        data = _songs(Path(folder) / "songs", count=options.tracks)
        windows = RandomWindows(data, audio=SPEC)
        network = _network(data)
        network(torch.zeros(1, SPEC.window_samples))
        one_pass = _cost(lambda: embedded(windows, network, directory=Path(folder) / "pass"))
        print(f"one pass over {options.tracks} windows: {_formatted(one_pass)}", flush=True)
        cached = one_pass + _cost_of_the_head(data, epochs=options.epochs, cache=Path(folder) / "cache")
        more = cached / one_pass
        print(f"the pass and {options.epochs} epochs of the head: {_formatted(cached)}", flush=True)
        print(f"  {more[0]:.2f} times the pass ({more[1]:.2f} by CPU time)", flush=True)
        bare = _cost(lambda: _bare_loop(windows, network, epochs=options.epochs))
    slower = bare / cached
    print(f"{options.epochs} epochs in a bare loop: {_formatted(bare)}")
    print(f"  {slower[0]:.1f} times as long ({slower[1]:.1f} by CPU time); load {_load()} at the end")


def _songs(folder: Path, *, count: int) -> musgenre.datasets.TrackDataset:
    generator = np.random.default_rng(0)
    for number in range(count):
        path = folder / ("hiss", "rumble")[number % 2] / f"{number}.flac"
        path.parent.mkdir(parents=True, exist_ok=True)
        noise = generator.normal(scale=0.1, size=5 * RATE)
        soundfile.write(path, np.cumsum(noise) / 1_000 if number % 2 else noise, RATE)
    return musgenre.datasets.AudioFolder(folder)


def _network(data: musgenre.datasets.TrackDataset) -> GenreNetwork:
    feature, hidden = Component("logmel-image"), (2048, 512, 256, 128, 64)
    return GenreNetwork.from_config(ModelConfig("vgg16", data.labels, SPEC, feature, VGG16, hidden=hidden))


class _Clock(pl.Callback):
    cost = np.zeros(2)

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.cost = _now()

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.cost = _now() - self.cost


def _cost_of_the_head(data: musgenre.datasets.TrackDataset, *, epochs: int, cache: Path) -> Seconds:
    clock = _Clock()
    config = musgenre.FinetuneConfig(freeze="all", head_epochs=epochs, batch_size=BATCH, cache=cache)
    musgenre.finetune(data, backbone=VGG16, config=config, callbacks=[clock], progress=False)
    return clock.cost


def _bare_loop(windows: RandomWindows, network: GenreNetwork, *, epochs: int) -> None:
    """The peer: the frozen backbone processes every window in every epoch."""
    network.requires_grad_(False)
    network.eval()
    network.head.requires_grad_(True).train()
    optimizer = torch.optim.AdamW(network.head.parameters(), lr=1e-3)
    for epoch in range(epochs):
        windows.set_epoch(epoch)
        for waveforms, labels, _ in DataLoader(windows, batch_size=BATCH, shuffle=True):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(network(waveforms), labels).backward()  # type: ignore[no-untyped-call]
            optimizer.step()


def _now() -> Seconds:
    return np.array([time.perf_counter(), time.process_time()])


def _cost(work: Callable[[], object]) -> Seconds:
    start = _now()
    work()
    return _now() - start


def _formatted(cost: Seconds) -> str:
    return f"{cost[0]:.1f} s ({cost[1]:.1f} s of CPU time)"


def _load() -> str:
    return f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "unknown"


if __name__ == "__main__":
    main()
