"""Windows of tracks, as PyTorch datasets; the split has been made before they are cut.

Training draws windows at random (:class:`RandomWindows`); validation takes every window by the rule
of prediction (:class:`GridWindows`).
"""

from __future__ import annotations

import abc
import math

import numpy as np
import torch
from torch.utils.data import Dataset

from musgenre.audio import read_window, tile
from musgenre.core.config import AudioSpec
from musgenre.core.errors import ParameterError
from musgenre.datasets.base import TrackDataset


class TrackWindows(Dataset[tuple[torch.Tensor, int, int]], abc.ABC):
    """What both kinds of windows share: ``(waveform, label index, track index)``.

    Only the window is decoded, by seeking. A track shorter than a window is repeated to fill it.

    Args:
        dataset: The tracks.
        audio: Rate, window and hop.

    Attributes:
        labels: The label index of each track.
        seed: What random places are drawn from.

    Shape:
        - waveform: ``(samples,)``, float32, with ``samples = audio.window_samples``.
    """

    def __init__(self, dataset: TrackDataset, *, audio: AudioSpec) -> None:
        self.dataset = dataset
        self.audio = audio
        self.seed = 0
        self.labels = dataset.label_indices()
        # In shared memory, so that workers that outlive an epoch see the next one.
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()  # type: ignore[no-untyped-call]

    def set_epoch(self, epoch: int) -> None:
        """Chooses the places of one epoch; call it before the loader's iterator is made."""
        self._epoch.fill_(epoch)

    @abc.abstractmethod
    def __len__(self) -> int: ...

    @abc.abstractmethod
    def locate(self, index: int, *, epoch: int = 0) -> tuple[int, float]:
        """Returns a window's track index and its start in seconds; decodes nothing."""

    def waveform(self, index: int, *, epoch: int = 0) -> torch.Tensor:
        """Returns the samples of a window as they are in one epoch."""
        return self._read(*self.locate(index, epoch=epoch))

    def _read(self, number: int, start_seconds: float) -> torch.Tensor:
        spec = self.audio
        samples = read_window(
            self.dataset[number].path,
            start_seconds=start_seconds,
            seconds=spec.window_seconds,
            sample_rate=spec.sample_rate,
        )
        return torch.from_numpy(tile(samples, spec.window_samples))

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int, int]:
        index = range(len(self))[index]  # refuses what is out of range, and counts -1 from the end
        number, start = self.locate(index, epoch=int(self._epoch))
        return self._read(number, start), self.labels[number], number


class RandomWindows(TrackWindows):
    """Windows at random places, drawn afresh each epoch.

    A place depends on the seed, the epoch and the index alone, so the number of workers changes nothing.

    Args:
        dataset: The tracks.
        audio: Rate and window; its hop is not used.
        windows_per_track: How often each track occurs in an epoch, at least 1.
        seed: At least 0.

    Raises:
        ParameterError: ``windows_per_track`` or ``seed`` is too small.
    """

    def __init__(self, dataset: TrackDataset, *, audio: AudioSpec, windows_per_track: int = 1, seed: int = 0) -> None:
        if windows_per_track < 1:
            raise ParameterError(f"windows_per_track must be at least 1, not {windows_per_track!r}.")
        if seed < 0:
            raise ParameterError(f"seed must be at least 0, not {seed!r}.")
        super().__init__(dataset, audio=audio)
        self.windows_per_track = windows_per_track
        self.seed = seed

    def __len__(self) -> int:
        return len(self.dataset) * self.windows_per_track

    def locate(self, index: int, *, epoch: int = 0) -> tuple[int, float]:
        """Returns a window's track index and its start in seconds; decodes nothing."""
        number = index % len(self.dataset)
        latest = max(0.0, self.dataset[number].duration_seconds - self.audio.window_seconds)
        return number, latest * float(np.random.default_rng((self.seed, epoch, index)).uniform())


class GridWindows(TrackWindows):
    """Every window of every track, the same in every epoch.

    The windows are those of prediction: one every hop, and a last one that ends with the track.

    Args:
        dataset: The tracks.
        audio: Rate, window and hop.
    """

    def __init__(self, dataset: TrackDataset, *, audio: AudioSpec) -> None:
        super().__init__(dataset, audio=audio)
        self._places = [
            (number, start / audio.sample_rate)
            for number, track in enumerate(dataset)
            for start in _grid(track.duration_seconds, audio)
        ]

    def __len__(self) -> int:
        return len(self._places)

    def locate(self, index: int, *, epoch: int = 0) -> tuple[int, float]:
        """Returns a window's track index and its start in seconds; decodes nothing."""
        return self._places[index]


def _grid(duration_seconds: float, spec: AudioSpec) -> list[int]:
    samples = math.floor(duration_seconds * spec.sample_rate + 0.5)  # halves go up, as with soxr
    last = max(0, samples - spec.window_samples)
    starts = list(range(0, last + 1, spec.hop_samples))
    return starts if starts[-1] == last else [*starts, last]
