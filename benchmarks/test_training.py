"""Benchmark an epoch of ``musgenre.finetune`` and the same epoch in a bare loop.

Both build a vgg16-slim and train all of its layers for three epochs on windows of 3 s that are decoded on the fly,
without validation; ``finetune`` also validates the tracks, saves checkpoints and returns a classifier. The time of an
epoch is a third of the total.
"""
# ruff: noqa: PLR0917 - fixtures are passed by name

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from torch.utils.data import DataLoader

import musgenre
from musgenre.core.config import AudioSpec, Component, ModelConfig
from musgenre.datasets.windows import RandomWindows
from musgenre.models.network import GenreNetwork

pytestmark = pytest.mark.timeout(0)  # without limit
RATE = 22_050
SPEC = AudioSpec(RATE)
BACKBONE = Component("vgg16-slim")
BATCH, WINDOWS, EPOCHS = 16, 4, 3
Measure = Callable[..., None]


@pytest.fixture(scope="module")
def tracks(tmp_path_factory: pytest.TempPathFactory) -> musgenre.datasets.TrackDataset:
    """Sixty-four files of 30 s, of two genres."""
    folder, generator = tmp_path_factory.mktemp("genres"), np.random.default_rng(0)
    for number in range(64):
        path = folder / ("hiss", "rumble")[number % 2] / f"{number}.flac"
        path.parent.mkdir(exist_ok=True)
        noise = generator.normal(scale=0.1, size=30 * RATE)
        soundfile.write(path, np.cumsum(noise) / 1_000 if number % 2 else noise, RATE)
    return musgenre.datasets.AudioFolder(folder)


def _finetune(tracks: musgenre.datasets.TrackDataset) -> None:
    musgenre.finetune(
        tracks,
        backbone=BACKBONE,
        head_epochs=0,
        epochs=EPOCHS,
        batch_size=BATCH,
        windows_per_track=WINDOWS,
        accelerator="cpu",
        progress=False,
    )


def _bare_loop(tracks: musgenre.datasets.TrackDataset) -> None:
    config: Any = ModelConfig("bare", tracks.labels, SPEC, Component("logmel"), BACKBONE)
    network = GenreNetwork.from_config(config).train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, fused=True)
    windows = RandomWindows(tracks, audio=SPEC, windows_per_track=WINDOWS)
    for _ in range(EPOCHS):
        for waveforms, labels, _ in DataLoader(windows, batch_size=BATCH, shuffle=True):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(network(waveforms), labels).backward()  # type: ignore[no-untyped-call]
            optimizer.step()


@pytest.mark.parametrize(("who", "train"), [("musgenre", _finetune), ("bare loop", _bare_loop)])
def test_epoch(
    measure: Measure, tracks: musgenre.datasets.TrackDataset, who: str, train: Callable[[Any], None]
) -> None:
    measure("finetune, an epoch", who, lambda: train(tracks), rounds=3, per=EPOCHS)


def test_training_does_not_wait_for_data(tracks: musgenre.datasets.TrackDataset, tmp_path: Path) -> None:
    result = musgenre.finetune(
        tracks, backbone=BACKBONE, head_epochs=0, epochs=1, directory=tmp_path / "run", progress=False
    )
    assert result.waiting < 0.1
