"""Windows of tracks, as PyTorch datasets; the split has been made before they are cut.

Training draws windows at random (:class:`RandomWindows`); validation takes every window by the rule
of prediction (:class:`GridWindows`), and may keep their spectrograms on disk (:class:`CachedFeatures`).
"""

from __future__ import annotations

import copy
import hashlib
import json
import math
import os
import warnings
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.utils.data import Dataset

from musgenre.atomic import replacing
from musgenre.audio import read_window, tile
from musgenre.datasets.base import DatasetWarning, Track, TrackDataset
from musgenre.errors import DatasetError, ParameterError
from musgenre.specs import AudioSpec, Component, to_dict


class RandomWindows(Dataset[tuple[torch.Tensor, int]]):
    """Windows at random places, drawn afresh each epoch: ``(waveform, label index)``.

    Only the window is decoded, by seeking. A place depends on the seed, the epoch and the index alone, so
    the number of workers changes nothing. A track shorter than a window is repeated to fill it.

    Args:
        dataset: The tracks.
        audio: Rate and window; its hop is not used.
        windows_per_track: How often each track occurs in an epoch, at least 1.
        seed: At least 0.

    Raises:
        ParameterError: ``windows_per_track`` or ``seed`` is too small.

    Shape:
        - waveform: ``(samples,)``, float32, with ``samples = audio.window_samples``.
    """

    def __init__(self, dataset: TrackDataset, *, audio: AudioSpec, windows_per_track: int = 1, seed: int = 0) -> None:
        if windows_per_track < 1:
            raise ParameterError(f"windows_per_track must be at least 1, not {windows_per_track!r}.")
        if seed < 0:
            raise ParameterError(f"seed must be at least 0, not {seed!r}.")
        self.dataset = dataset
        self.audio = audio
        self.windows_per_track = windows_per_track
        self.seed = seed
        self._labels = dataset.label_indices()
        # In shared memory, so that workers that outlive an epoch see the next one.
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()  # type: ignore[no-untyped-call]

    def set_epoch(self, epoch: int) -> None:
        """Chooses the places of one epoch; call it before the loader's iterator is made."""
        self._epoch.fill_(epoch)

    def __len__(self) -> int:
        return len(self.dataset) * self.windows_per_track

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        place = range(len(self))[index]  # refuses what is out of range, and counts -1 from the end
        number = place % len(self.dataset)
        track = self.dataset[number]
        latest = max(0.0, track.duration_seconds - self.audio.window_seconds)
        draw = np.random.default_rng((self.seed, int(self._epoch), place)).uniform()
        return _read(track, start_seconds=latest * draw, spec=self.audio), self._labels[number]


class GridWindows(Dataset[tuple[torch.Tensor, int, int]]):
    """Every window of every track: ``(waveform, label index, track index)``.

    The windows are those of prediction: one every hop, and a last one that ends with the track; a track
    shorter than a window is repeated to fill one.

    Args:
        dataset: The tracks.
        audio: Rate, window and hop.

    Shape:
        - waveform: ``(samples,)``, float32, with ``samples = audio.window_samples``.
    """

    def __init__(self, dataset: TrackDataset, *, audio: AudioSpec) -> None:
        self.dataset = dataset
        self.audio = audio
        self._labels = dataset.label_indices()
        self._places = [
            (number, start) for number, track in enumerate(dataset) for start in _grid(track.duration_seconds, audio)
        ]

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int, int]:
        number, start = self._places[index]
        waveform = _read(self.dataset[number], start_seconds=start / self.audio.sample_rate, spec=self.audio)
        return waveform, self._labels[number], number

    def place(self, index: int) -> tuple[int, int]:
        """Returns a window's track index and its first sample at the spec's rate; decodes nothing."""
        return self._places[index]


class CachedFeatures(Dataset[tuple[torch.Tensor, int, int]]):
    """The features of a grid's windows, kept on disk: ``(features, label index, track index)``.

    What is on disk is found again by the file (path, size and time of its last change), the window, the rate, the
    feature with its options and constants, and the version of musgenre; if any of them changes, it is computed
    anew. Several processes may fill one directory. A damaged file is computed again, with a warning.

    Args:
        windows: The windows.
        feature: A feature extractor; a copy of it runs on the CPU, in eval mode.
        directory: Where to keep the features; it is made if need be, and can be deleted at any time.
        component: The feature's name and options.

    Raises:
        ParameterError: The feature has weights that learn: what it gives today says nothing about tomorrow.
        DatasetError: Features cannot be written, for example because the disk is full (raised while reading items).

    Shape:
        - features: ``(channels, bins, frames)``, float32.
    """

    def __init__(
        self, windows: GridWindows, feature: nn.Module, *, directory: str | os.PathLike[str], component: Component
    ) -> None:
        if any(parameter.requires_grad for parameter in feature.parameters()):
            raise ParameterError(f"The feature {component.name!r} has weights that learn, so it cannot be cached.")
        self.windows = windows
        self.directory = Path(directory).expanduser()
        self._feature = copy.deepcopy(feature).cpu().eval()
        self._shape = tuple(self._feature.out_shape(windows.audio.window_samples))  # type: ignore[operator]
        self._labels = windows.dataset.label_indices()
        self._described = [to_dict(windows.audio), to_dict(component), _digest(self._feature), version("musgenre")]

    def __len__(self) -> int:
        return len(self.windows)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int, int]:
        number, start = self.windows.place(index)
        path = self._path(self.windows.dataset[number], start)
        features = self._load(path)
        if features is None:
            with torch.no_grad():
                features = self._feature(self.windows[index][0].unsqueeze(0))[0]
            self._store(path, features)
        return features, self._labels[number], number

    def _path(self, track: Track, start: int) -> Path:
        file = track.path.stat()
        identity = [str(track.path.resolve()), file.st_size, file.st_mtime_ns, start, *self._described]
        key = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
        return self.directory / key[:2] / f"{key}.npy"

    def _load(self, path: Path) -> torch.Tensor | None:
        try:
            with path.open("rb") as file:
                array = np.lib.format.read_array(file, allow_pickle=False)
            if array.shape != self._shape or array.dtype != np.float32:
                raise ValueError(f"{array.dtype} {array.shape} instead of float32 {self._shape}")
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, ValueError, EOFError) as error:
            warnings.warn(f"{path} is damaged ({error}) and computed again.", DatasetWarning, stacklevel=2)
            return None
        return torch.from_numpy(array)

    def _store(self, path: Path, features: torch.Tensor) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(path) as partial, partial.open("wb") as file:
                np.save(file, features.numpy(), allow_pickle=False)
        except OSError as error:
            raise DatasetError(f"Cannot keep features in {self.directory} ({error}): choose another folder.") from error


def _digest(module: nn.Module) -> str:
    digest = hashlib.sha256()
    for name, value in [*module.named_buffers(), *module.named_parameters()]:
        digest.update(name.encode() + value.numpy(force=True).tobytes())
    return digest.hexdigest()


def _grid(duration_seconds: float, spec: AudioSpec) -> list[int]:
    samples = math.floor(duration_seconds * spec.sample_rate + 0.5)  # halves go up, as with soxr
    last = max(0, samples - spec.window_samples)
    starts = list(range(0, last + 1, spec.hop_samples))
    return starts if starts[-1] == last else [*starts, last]


def _read(track: Track, *, start_seconds: float, spec: AudioSpec) -> torch.Tensor:
    samples = read_window(
        track.path, start_seconds=start_seconds, seconds=spec.window_seconds, sample_rate=spec.sample_rate
    )
    return torch.from_numpy(tile(samples, spec.window_samples))
