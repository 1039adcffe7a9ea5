"""Embeddings of frozen backbones, computed once and cached on disk.

While a backbone is frozen, every epoch would compute the same embeddings again; :func:`embedded` computes them in one
pass, and each epoch reads them. The cache's key is a digest of all that the embeddings depend on: the files (path, size
and modification times), the windows, the code, options and weights of feature and backbone, the augmentation, and the
versions of musgenre and PyTorch. When any of it changes, the embeddings are computed again under another key; the old
ones stay until :func:`clear_embeddings`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import re
import shutil
from collections.abc import Generator, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from rich.progress import track
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from musgenre.core.errors import DatasetError, ParameterError, PluginError
from musgenre.datasets.base import Track
from musgenre.datasets.embeddings import TrackVectors
from musgenre.datasets.windows import TrackWindows
from musgenre.models.network import GenreNetwork
from musgenre.training.cached_array import CachedArray
from musgenre.training.config import Augmentation
from musgenre.training.fingerprint import fingerprint
from musgenre.training.options import RunOptions

Embeddings: TypeAlias = npt.NDArray[np.float32]

_KEY = re.compile("[0-9a-f]{64}")


class EmbeddedWindows(Dataset[tuple[Tensor, int, int]]):
    """Windows as a frozen backbone sees them: ``(embedding, label index, track index)``; :func:`embedded` makes them.

    Args:
        windows: The windows.
        path: The file of their embeddings.

    Shape:
        - the file: ``(windows, views, out_features)``, float32
        - embedding: ``(out_features,)``, float32
    """

    def __init__(self, windows: TrackWindows, path: Path) -> None:
        self.windows = windows
        self.path = path
        self._rows = np.lib.format.open_memmap(path, mode="r")
        # In shared memory, so that workers that outlive an epoch see the next one.
        self._view = torch.zeros((), dtype=torch.int64).share_memory_()  # type: ignore[no-untyped-call]

    def set_epoch(self, epoch: int) -> None:
        """Chooses the view that an epoch reads: epochs take turns at them."""
        self._view.fill_(epoch % self._rows.shape[1])

    def __len__(self) -> int:
        return len(self.windows)

    def __getitem__(self, index: int) -> tuple[Tensor, int, int]:
        index = range(len(self))[index]  # refuses what is out of range, and counts -1 from the end
        number, _ = self.windows.place(index)
        row = self._rows[index, int(self._view)]
        return torch.from_numpy(np.array(row)), self.windows.labels[number], number

    def __getstate__(self) -> dict[str, Any]:
        # A worker process maps the file itself; what is mapped would travel to it as a copy.
        return {name: value for name, value in vars(self).items() if name != "_rows"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._rows = np.lib.format.open_memmap(self.path, mode="r")


def embedded(
    windows: TrackWindows,
    network: GenreNetwork,
    *,
    directory: str | os.PathLike[str],
    augmentation: Augmentation | None = None,
    views: int = 1,
    options: RunOptions | None = None,
) -> EmbeddedWindows:
    """Returns the embeddings of windows, and computes those that are not on disk yet.

    They are computed where the network is (a CPU or a GPU), in evaluation mode and float32. A pass that was cut off
    goes on where it was. Of several processes or threads that ask for the same embeddings one computes them, and the
    others wait.

    Args:
        windows: The windows. Random ones are at another place in every view, as in the epoch of its number.
        network: Its feature and backbone are used.
        directory: Where embeddings are kept; made if need be, and can be deleted at any time.
        augmentation: How each view is varied; what is drawn depends on the windows' seed, the window and the view
            alone. Mixup is left to training.
        views: How many embeddings of each window are kept, at least 1.
        options: Of these, how many workers decode and whether progress is shown; ``None`` is no worker and no progress.

    Raises:
        ParameterError: ``views`` is too small.
        DatasetError: A track's file is gone, or the directory cannot be written to or is full; what was computed stays.
        AudioFileError, AudioError: A track cannot be read.
        PluginError: The backbone gives another shape than it promises.
    """
    if views < 1:
        raise ParameterError(f"views must be at least 1, not {views!r}.")
    rows = _Rows(windows, augmentation or Augmentation(), views=views)
    place = Path(directory).expanduser()
    if isinstance(windows.dataset, TrackVectors):
        return _known(rows, windows.dataset.vectors, directory=place)
    folder = place / _key(rows, network)
    options = options or RunOptions(progress=False)

    def compute(parts: list[range]) -> Generator[Embeddings]:
        # A generator of its own: the caller's random state is the same whether there is something to compute or not.
        loader = DataLoader(
            rows,
            batch_sampler=[list(part) for part in parts],
            num_workers=options.workers,
            generator=torch.Generator(),
        )
        batches = zip(parts, loader, strict=True)
        for part, waveforms in track(batches, "Embedding", total=len(parts), disable=not options.progress):
            yield rows.embed(waveforms, part, network=network)

    kept = CachedArray(folder, shape=(len(windows), views, network.backbone.out_features))
    return EmbeddedWindows(windows, kept.fill(compute))


def embeddings_size(directory: str | os.PathLike[str]) -> int:
    """Returns how many bytes the embeddings in a directory take."""
    return sum(path.stat().st_size for folder in _folders(directory) for path in folder.iterdir())


def clear_embeddings(directory: str | os.PathLike[str]) -> None:
    """Removes all embeddings from a directory, and nothing else that is in it."""
    for folder in _folders(directory):
        shutil.rmtree(folder)


def _folders(directory: str | os.PathLike[str]) -> list[Path]:
    return [path for path in Path(directory).expanduser().glob("*") if _KEY.fullmatch(path.name)]


def _known(rows: _Rows, vectors: Embeddings, *, directory: Path) -> EmbeddedWindows:
    """Keeps what is known of tracks as what each of their windows gives."""
    if rows.varied:
        raise ParameterError(
            "Embeddings that are known cannot be varied: leave augmentation (but mixup) and views out."
        )
    given = vectors[[rows.place(row)[0] for row in range(len(rows))]]
    kept = CachedArray(directory / hashlib.sha256(given.tobytes()).hexdigest(), shape=(len(rows), 1, given.shape[1]))
    return EmbeddedWindows(rows.windows, kept.fill(lambda parts: (given[part.start : part.stop] for part in parts)))


class _Rows(Dataset[Tensor]):
    """The samples behind each row of a cache, the views of a window one after the other, and how they are varied."""

    def __init__(self, windows: TrackWindows, augmentation: Augmentation, *, views: int) -> None:
        self.windows = windows
        self.augmentation = dataclasses.replace(augmentation, mixup=0.0)  # of two windows, and so not of one alone
        self.views = views
        self._on_waveform = self.augmentation.on_waveform()
        self._on_feature = self.augmentation.on_feature()

    @property
    def varied(self) -> bool:
        return self.views > 1 or len(self._on_waveform) + len(self._on_feature) > 0

    def __len__(self) -> int:
        return len(self.windows) * self.views

    def __getitem__(self, row: int) -> Tensor:
        index, view = divmod(row, self.views)
        return self.windows.waveform(index, epoch=view)

    def place(self, row: int) -> tuple[int, float]:
        index, view = divmod(row, self.views)
        return self.windows.place(index, epoch=view)

    def embed(self, waveforms: Tensor, part: range, *, network: GenreNetwork) -> Embeddings:
        device = next(network.parameters()).device
        with _evaluating(network), torch.inference_mode():
            varied = self._vary(waveforms.to(device), self._on_waveform, rows=part)
            varied = self._vary(network.feature(varied), self._on_feature, rows=part)
            embeddings: Embeddings = network.backbone(varied).float().numpy(force=True)
        expected = (len(part), network.backbone.out_features)
        if embeddings.shape != expected:
            raise PluginError(
                f"The backbone {type(network.backbone).__name__} gave the shape {embeddings.shape}, where its "
                f"out_features promise {expected}: let its forward() and out_features agree."
            )
        return embeddings

    def _vary(self, batch: Tensor, steps: nn.Sequential, *, rows: range) -> Tensor:
        """Varies each example by draws of its own, so that they depend on no other and on no batch."""
        if not len(steps):
            return batch
        examples = []
        step: Any
        for row, example in zip(rows, batch, strict=True):
            kind = int(steps is self._on_feature)
            seed = np.random.SeedSequence((self.windows.seed, *divmod(row, self.views), kind))
            generator = torch.Generator().manual_seed(int(seed.generate_state(1, np.uint64)[0]))
            for step in steps:
                step.generator = generator
            examples.append(steps(example[None]))
        return torch.cat(examples)


def _key(rows: _Rows, network: GenreNetwork) -> str:
    """Returns a digest of all that the embeddings depend on."""
    audio = rows.windows.audio
    told = {
        "versions": [version("musgenre"), version("torch")],
        "tracks": [_identity(track) for track in rows.windows.dataset],
        "places": [rows.place(row) for row in range(len(rows))],
        "views": rows.views,
        "window": [audio.sample_rate, audio.window_seconds],
        "augmentation": [dataclasses.asdict(rows.augmentation), rows.windows.seed],
        "network": [fingerprint(network.feature), fingerprint(network.backbone)],
    }
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def _identity(track: Track) -> tuple[str, int, int, int]:
    try:
        file = track.path.stat()
    except OSError as error:
        raise DatasetError(
            f"The file of track {track.id!r} is gone ({error}): put it back, or leave it out."
        ) from error
    # The last changes when a file of another place takes this one's, with the size and the time that it had there.
    return str(track.path.resolve()), file.st_size, file.st_mtime_ns, file.st_ctime_ns


@contextlib.contextmanager
def _evaluating(network: nn.Module) -> Iterator[None]:
    """Puts a network into evaluation mode; afterwards each part is in the mode that it was in."""
    modes = {part: part.training for part in network.modules()}
    network.eval()
    try:
        yield
    finally:
        for part, training in modes.items():
            part.training = training
