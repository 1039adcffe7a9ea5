"""Small music collections of noise."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from musgenre.datasets.base import Track, TrackDataset

RATE = 8_000


def write_noise(path: Path, *, seconds: float = 0.25, rate: int = RATE) -> Path:
    """Writes noise that depends on the name of the file only."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draw = np.random.default_rng(zlib.crc32(path.name.encode()))
    soundfile.write(path, draw.uniform(-0.5, 0.5, round(seconds * rate)).astype(np.float32), rate, subtype="PCM_16")
    return path


@pytest.fixture
def noise() -> Callable[..., Path]:
    return write_noise


@pytest.fixture
def gtzan_tree(tmp_path: Path) -> Callable[..., Path]:
    """Writes files with the given track ids to a folder, and returns the folder."""

    def make(ids: Iterable[str], *, layout: str = "genres", suffix: str = ".wav") -> Path:
        for track_id in ids:
            write_noise(tmp_path / layout / track_id.partition(".")[0] / f"{track_id}{suffix}")
        return tmp_path

    return make


@pytest.fixture
def make_dataset() -> Callable[..., TrackDataset]:
    """Makes a dataset from (label, group) pairs, without files."""

    def make(pairs: Iterable[tuple[str, str | None]], *, name: str = "made") -> TrackDataset:
        tracks = [
            Track(f"{number:04d}", Path(f"{name}/{number:04d}.wav"), label, group, duration_seconds=1.0)
            for number, (label, group) in enumerate(pairs)
        ]
        return TrackDataset(tracks, labels=sorted({track.label for track in tracks}), name=name)

    return make
