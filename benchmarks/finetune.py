"""What ten epochs of the head of VGG-16 cost with and without kept embeddings.

    python benchmarks/finetune.py [--tracks 192] [--epochs 10] [--threads 1]

Three times are taken in one run, over the same songs (noise of five seconds each, one window a song and epoch) with the
same network (random weights, which take as long as trained ones): the pass that computes the embeddings; the epochs
that ``musgenre.finetune`` then goes through, its checkpoints included; and the peer, a bare loop in which every epoch
goes through the frozen backbone again. Building the network, which both need, is left out. Each is told in seconds of
the clock and of the processor, and ratios likewise; on a busy machine only the latter mean something. With few tracks
the checkpoint of each epoch, which does not grow with them, weighs more than the head.
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
"""Of the clock, and of the processor."""


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--tracks", type=int, default=192, help="songs, half of each of two genres")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    told = parser.parse_args()
    torch.set_num_threads(told.threads)
    print(f"{platform.machine()}, {os.cpu_count()} cores, {told.threads} threads, torch {torch.__version__}", end="; ")
    print(f"load {_load()}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        data = _songs(Path(folder) / "songs", count=told.tracks)
        windows = RandomWindows(data, audio=SPEC)
        network = _network(data)
        network(torch.zeros(1, SPEC.window_samples))
        one_pass = _cost(lambda: embedded(windows, network, directory=Path(folder) / "pass"))
        print(f"one pass over {told.tracks} windows: {_told(one_pass)}", flush=True)
        cached = one_pass + _cost_of_the_head(data, epochs=told.epochs, cache=Path(folder) / "cache")
        more = cached / one_pass
        print(f"the pass and {told.epochs} epochs of the head: {_told(cached)}", flush=True)
        print(f"  {more[0]:.2f} times the pass ({more[1]:.2f} by the processor)", flush=True)
        bare = _cost(lambda: _bare_loop(windows, network, epochs=told.epochs))
    slower = bare / cached
    print(f"{told.epochs} epochs in a bare loop: {_told(bare)}")
    print(f"  {slower[0]:.1f} times as long ({slower[1]:.1f} by the processor); load {_load()} at the end")


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
    """What one would write by hand: the backbone is frozen, and yet goes over every window in every epoch."""
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


def _told(cost: Seconds) -> str:
    return f"{cost[0]:.1f} s ({cost[1]:.1f} s of processor)"


def _load() -> str:
    return f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "unknown"


if __name__ == "__main__":
    main()
