"""Windows of tracks as PyTorch datasets, cut after the split.

Training uses random windows (:class:`RandomWindows`); validation uses the same windows as prediction
(:class:`GridWindows`).
"""

from __future__ import annotations

import abc
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.utils.data import Dataset

from musgenre.audio import read_window, tile
from musgenre.core.config import AudioSpec
from musgenre.core.errors import DatasetError, ParameterError
from musgenre.datasets.base import TrackDataset

if TYPE_CHECKING:
    from musgenre.transforms.spectral import MelSpectrogram


class TrackWindows(Dataset[tuple[torch.Tensor, int, int]], abc.ABC):
    """Base class of datasets of windows, with items ``(window, label index, track index)``.

    Only the window is decoded, by seeking. A track shorter than a window is repeated to the window's length.

    Args:
        dataset: The tracks; all of them have audio, or all have stored spectrograms.
        audio: Sample rate, window and hop.
        mel: For stored spectrograms, the mel spectrogram that the network's feature starts with.

    Attributes:
        labels: The label index of each track.
        seed: Seed for random windows.

    Raises:
        DatasetError: Some tracks have audio and others spectrograms, or a spectrogram does not fit the feature.

    Shape:
        - window of audio: ``(samples,)``, float32, with ``samples = audio.window_samples``
        - window of a spectrogram: power, ``(n_mels, frames)``, float32, with the frames of ``mel`` for such a window
    """

    def __init__(self, dataset: TrackDataset, *, audio: AudioSpec, mel: MelSpectrogram | None = None) -> None:
        self.dataset = dataset
        self.audio = audio
        spectrograms = [track.spectrogram for track in dataset if track.spectrogram is not None]
        if spectrograms and len(spectrograms) < len(dataset):
            raise DatasetError(f"{dataset!r} has tracks with audio and tracks with stored spectrograms: use one kind.")
        for spectrogram in spectrograms:
            spectrogram.check(mel)
        self._frames = 0 if mel is None else mel.frame_count(audio.window_samples)
        self.seed = 0
        self.labels = dataset.label_indices()
        # In shared memory, so that persistent workers see the next epoch.
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()  # type: ignore[no-untyped-call]

    def set_epoch(self, epoch: int) -> None:
        """Selects the windows of an epoch; call it before creating the loader's iterator."""
        self._epoch.fill_(epoch)

    @abc.abstractmethod
    def __len__(self) -> int: ...

    @abc.abstractmethod
    def locate(self, index: int, *, epoch: int = 0) -> tuple[int, float]:
        """Returns a window's track index and its start in seconds; decodes nothing."""

    def window(self, index: int, *, epoch: int = 0) -> torch.Tensor:
        """Returns the samples, or the power spectrogram, of a window in an epoch."""
        return self._read(*self.locate(index, epoch=epoch))

    def _read(self, number: int, start_seconds: float) -> torch.Tensor:
        spec, source = self.audio, self.dataset[number].source
        if not isinstance(source, Path):
            return torch.from_numpy(source.window(start_seconds, frames=self._frames))
        samples = read_window(
            source,
            start_seconds=start_seconds,
            seconds=spec.window_seconds,
            sample_rate=spec.sample_rate,
        )
        return torch.from_numpy(tile(samples, spec.window_samples))

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int, int]:
        index = range(len(self))[index]  # checks the range, and converts negative indices
        number, start = self.locate(index, epoch=int(self._epoch))
        return self._read(number, start), self.labels[number], number


class RandomWindows(TrackWindows):
    """Windows with random starts, which differ between epochs.

    A start depends on the seed, the epoch and the index only, and thus not on the number of workers.

    Args:
        dataset: As for :class:`TrackWindows`.
        audio: Sample rate and window; the hop is not used.
        mel: As for :class:`TrackWindows`.
        windows_per_track: Number of windows of each track in an epoch, at least 1.
        seed: At least 0.

    Raises:
        ParameterError: ``windows_per_track`` or ``seed`` is too small.
    """

    def __init__(
        self,
        dataset: TrackDataset,
        *,
        audio: AudioSpec,
        mel: MelSpectrogram | None = None,
        windows_per_track: int = 1,
        seed: int = 0,
    ) -> None:
        if windows_per_track < 1:
            raise ParameterError(f"windows_per_track must be at least 1, not {windows_per_track!r}.")
        if seed < 0:
            raise ParameterError(f"seed must be at least 0, not {seed!r}.")
        super().__init__(dataset, audio=audio, mel=mel)
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
    """All windows of all tracks, the same in every epoch.

    The windows are those of prediction: one per hop, and a last one that ends at the end of the track.

    Args:
        dataset: As for :class:`TrackWindows`.
        audio: Sample rate, window and hop.
        mel: As for :class:`TrackWindows`.
    """

    def __init__(self, dataset: TrackDataset, *, audio: AudioSpec, mel: MelSpectrogram | None = None) -> None:
        super().__init__(dataset, audio=audio, mel=mel)
        self._places = [
            (number, start / audio.sample_rate)
            for number, track in enumerate(dataset)
            for start in audio.window_starts(track.duration_seconds)
        ]

    def __len__(self) -> int:
        return len(self._places)

    def locate(self, index: int, *, epoch: int = 0) -> tuple[int, float]:
        """Returns a window's track index and its start in seconds; decodes nothing."""
        return self._places[index]
