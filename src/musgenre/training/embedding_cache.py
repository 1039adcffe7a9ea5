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
import io
import itertools
import json
import math
import os
import re
import shutil
import warnings
import zlib
from collections.abc import Callable, Generator, Iterable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from rich.progress import track
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from musgenre.core.errors import DatasetError, MusgenreError, ParameterError, PluginError
from musgenre.core.files import atomic_write
from musgenre.datasets.base import DatasetWarning, Track
from musgenre.datasets.embeddings import TrackVectors
from musgenre.datasets.windows import TrackWindows
from musgenre.models.network import GenreNetwork
from musgenre.training.config import Augmentation, RunOptions
from musgenre.training.fingerprint import fingerprint

Embeddings: TypeAlias = npt.NDArray[np.float32]

PART_ROWS = 16
"""Number of rows that are computed and written at a time; at most these are lost when the process is killed."""

_CHECKSUM_BYTES = 4
_KEY = re.compile("[0-9a-f]{64}")


class EmbeddedWindows(Dataset[tuple[Tensor, int, int]]):
    """Embeddings of windows, as ``(embedding, label index, track index)``; :func:`embedded` makes them.

    Args:
        windows: The windows.
        path: File with their embeddings.

    Shape:
        - array in the file: ``(windows, views, out_features)``, float32
        - embedding: ``(out_features,)``, float32
    """

    def __init__(self, windows: TrackWindows, path: Path) -> None:
        self.windows = windows
        self.path = path
        self._array = np.lib.format.open_memmap(path, mode="r")
        # In shared memory, so that persistent workers see a change.
        self._view = torch.zeros((), dtype=torch.int64).share_memory_()  # type: ignore[no-untyped-call]

    def set_epoch(self, epoch: int) -> None:
        """Select the view of an epoch; epochs use the views in turn."""
        self._view.fill_(epoch % self._array.shape[1])

    def __len__(self) -> int:
        return len(self.windows)

    def __getitem__(self, index: int) -> tuple[Tensor, int, int]:
        index = range(len(self))[index]  # checks the range, and counts negative indices from the end
        number, _ = self.windows.locate(index)
        row = self._array[index, int(self._view)]
        return torch.from_numpy(np.array(row)), self.windows.labels[number], number

    def __getstate__(self) -> dict[str, Any]:
        # Worker processes map the file themselves; pickling would copy the array.
        return {name: value for name, value in vars(self).items() if name != "_array"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._array = np.lib.format.open_memmap(self.path, mode="r")


def embedded(
    windows: TrackWindows,
    network: GenreNetwork,
    *,
    directory: str | os.PathLike[str],
    augmentation: Augmentation | None = None,
    views: int = 1,
    options: RunOptions | None = None,
) -> EmbeddedWindows:
    """Return the embeddings of windows; those that are not cached are computed.

    They are computed on the network's device, in evaluation mode and float32. An interrupted computation is resumed.
    Of several processes or threads that need the same embeddings, one computes them and the others wait.

    Args:
        windows: The windows. Random windows differ between views, as between the epochs of the same numbers.
        network: The network whose feature and backbone are used.
        directory: Directory of the cache, which is created if needed. It may be deleted at any time.
        augmentation: Augmentation of each view. Its random numbers depend on the windows' seed, the window and the view
            only. Mixup is not applied.
        views: Number of embeddings of each window, at least 1.
        options: Run options, of which ``workers`` and ``progress`` are used; by default neither.

    Raises:
        ParameterError: ``views`` is too small, or the augmentation needs audio that the tracks do not have.
        DatasetError: A track's file does not exist, or the directory cannot be written to or is full; embeddings
            computed so far stay in the cache.
        AudioFileError, AudioError: A track cannot be read.
        PluginError: The shape of the backbone's output differs from its ``out_features``.
    """
    if views < 1:
        raise ParameterError(f"views must be at least 1, not {views!r}.")
    augmentation = augmentation or Augmentation()
    augmentation.check(windows.dataset)
    directory = Path(directory).expanduser()
    rows = _AugmentedViews(windows, augmentation, views=views)
    if isinstance(windows.dataset, TrackVectors):
        return _cache_vectors(rows, windows.dataset.vectors, directory=directory)
    options = options or RunOptions(progress=False)

    def compute(parts: list[range]) -> Generator[Embeddings]:
        loader = DataLoader(
            rows,
            batch_sampler=[list(part) for part in parts],
            num_workers=options.workers,
            generator=torch.Generator(),  # else the caller's random state depends on what is cached
        )
        batches = zip(parts, loader, strict=True)
        for part, waveforms in track(batches, "Embedding", total=len(parts), disable=not options.progress):
            yield rows.embed(waveforms, part, network=network)

    array = CachedArray(directory / _key(rows, network), shape=(len(windows), views, network.backbone.out_features))
    return EmbeddedWindows(windows, array.fill(compute))


def embeddings_size(directory: str | os.PathLike[str]) -> int:
    """Return the size of the embeddings cached in a directory, in bytes."""
    return sum(path.stat().st_size for folder in _folders(directory) for path in folder.iterdir())


def clear_embeddings(directory: str | os.PathLike[str]) -> None:
    """Remove all cached embeddings from a directory, and no other files."""
    for folder in _folders(directory):
        shutil.rmtree(folder)


def _folders(directory: str | os.PathLike[str]) -> list[Path]:
    return [path for path in Path(directory).expanduser().glob("*") if _KEY.fullmatch(path.name)]


def _cache_vectors(rows: _AugmentedViews, vectors: Embeddings, *, directory: Path) -> EmbeddedWindows:
    """Cache the given embedding of each track as that of each of its windows."""
    if rows.augments:
        raise ParameterError("Given embeddings cannot be augmented: remove views and augmentation (except mixup).")
    values = vectors[[rows.locate(row)[0] for row in range(len(rows))]]
    array = CachedArray(directory / hashlib.sha256(values.tobytes()).hexdigest(), shape=(len(rows), 1, values.shape[1]))
    return EmbeddedWindows(rows.windows, array.fill(lambda parts: (values[part.start : part.stop] for part in parts)))


class _AugmentedViews(Dataset[Tensor]):
    """Samples of each row of a cache, and their augmentation; the views of a window are adjacent rows."""

    def __init__(self, windows: TrackWindows, augmentation: Augmentation, *, views: int) -> None:
        self.windows = windows
        self.augmentation = dataclasses.replace(augmentation, mixup=0.0)  # mixes two windows during training
        self.views = views
        self._on_waveform = self.augmentation.on_waveform()
        self._on_feature = self.augmentation.on_feature()

    @property
    def augments(self) -> bool:
        return self.views > 1 or len(self._on_waveform) + len(self._on_feature) > 0

    def __len__(self) -> int:
        return len(self.windows) * self.views

    def __getitem__(self, row: int) -> Tensor:
        index, view = divmod(row, self.views)
        return self.windows.window(index, epoch=view)

    def locate(self, row: int) -> tuple[int, float]:
        index, view = divmod(row, self.views)
        return self.windows.locate(index, epoch=view)

    def embed(self, waveforms: Tensor, part: range, *, network: GenreNetwork) -> Embeddings:
        device = next(network.parameters()).device
        with _evaluation_mode(network), torch.inference_mode():
            augmented = self._augment(waveforms.to(device), self._on_waveform, rows=part)
            augmented = self._augment(network.feature(augmented), self._on_feature, rows=part)
            embeddings: Embeddings = network.backbone(augmented).float().numpy(force=True)
        expected = (len(part), network.backbone.out_features)
        if embeddings.shape != expected:
            raise PluginError(
                f"The backbone {type(network.backbone).__name__} returned the shape {embeddings.shape}, expected "
                f"{expected} by its out_features: correct its forward() or its out_features."
            )
        return embeddings

    def _augment(self, batch: Tensor, steps: nn.Sequential, *, rows: range) -> Tensor:
        """Augment each example with its own generator, so that the result does not depend on the batch."""
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


def _key(rows: _AugmentedViews, network: GenreNetwork) -> str:
    """Return a digest of all that the embeddings depend on."""
    audio = rows.windows.audio
    content = {
        "versions": [version("musgenre"), version("torch")],
        "tracks": [_file_identity(track) for track in rows.windows.dataset],
        "windows": [rows.locate(row) for row in range(len(rows))],
        "views": rows.views,
        "audio": [audio.sample_rate, audio.window_seconds],
        "augmentation": [dataclasses.asdict(rows.augmentation), rows.windows.seed],
        "network": [fingerprint(network.feature), fingerprint(network.backbone)],
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _file_identity(track: Track) -> tuple[str, int, int, int] | str:
    source = track.source
    if not isinstance(source, Path):
        return source.digest()
    try:
        file = source.stat()
    except OSError as error:
        raise DatasetError(
            f"The file of track {track.id!r} does not exist ({error}): restore it, or remove the track."
        ) from error
    # st_ctime_ns changes when another file of the same size and modification time is moved to this path.
    return str(source.resolve()), file.st_size, file.st_mtime_ns, file.st_ctime_ns


@contextlib.contextmanager
def _evaluation_mode(network: nn.Module) -> Iterator[None]:
    """Set a network to evaluation mode within the block, and restore the mode of each part afterwards."""
    modes = {part: part.training for part in network.modules()}
    network.eval()
    try:
        yield
    finally:
        for part, training in modes.items():
            part.training = training


class CachedArray:
    """A float32 array in ``<folder>/embeddings.npy``, either complete or absent.

    The file is in NumPy's ``.npy`` format, followed by a CRC-32 checksum that detects damage. During the computation,
    finished parts are in files of the same format beside it. A lock file lets one process or thread compute at a time.

    Args:
        folder: Directory that holds only this array; :meth:`fill` creates it.
        shape: Shape of the array. A row is the last dimension; rows are counted over all others.
    """

    def __init__(self, folder: Path, *, shape: tuple[int, ...]) -> None:
        self.folder = folder
        self.shape = shape
        self.path = folder / "embeddings.npy"
        self.count = math.prod(shape[:-1])

    def fill(self, compute: Callable[[list[range]], Generator[Embeddings]]) -> Path:
        """Return the path of the complete array; missing parts are computed.

        Args:
            compute: Returns a generator of ``(len(part), shape[-1])`` for each of the given ranges of rows, in order.
                A part must not depend on which others are computed.

        Raises:
            DatasetError: The folder cannot be written to, or the disk is full. Finished parts are reused the next time.
        """
        from filelock import FileLock

        if _is_intact(self.path, self.shape):  # without the lock, which a read-only directory cannot hold
            return self.path
        with _convert_errors(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            with FileLock(self.folder / "lock"):
                if not _is_intact(self.path, self.shape, warn=True):  # another process may have computed it meanwhile
                    self._compute(compute)
        return self.path

    def _compute(self, compute: Callable[[list[range]], Generator[Embeddings]]) -> None:
        for partial in self.folder.glob(".*.partial"):
            partial.unlink()
        parts = {
            self.folder / f"part-{first:09d}.npy": range(first, min(first + PART_ROWS, self.count))
            for first in range(0, self.count, PART_ROWS)
        }
        missing = {
            path: rows for path, rows in parts.items() if not _is_intact(path, (len(rows), self.shape[-1]), warn=True)
        }
        self._check_free_space(sum(map(len, missing.values())))
        with contextlib.closing(compute(list(missing.values()))) as computed:
            for (path, rows), values in zip(missing.items(), computed, strict=True):
                _write(path, [values], shape=(len(rows), self.shape[-1]))
        _write(self.path, (np.lib.format.open_memmap(path, mode="r") for path in parts), shape=self.shape)
        for path in parts:
            path.unlink()

    def _check_free_space(self, missing_rows: int) -> None:
        needed = (self.count + missing_rows) * self.shape[-1] * 4  # the missing parts, and the array beside them
        free = shutil.disk_usage(self.folder).free
        if free < needed:
            raise DatasetError(
                f"Embeddings in '{self.folder}' need {needed / 2**20:.0f} MiB, but {free / 2**20:.0f} MiB are free: "
                "make room, use fewer views, or choose another directory."
            )


def _write(path: Path, blocks: Iterable[Embeddings], *, shape: tuple[int, ...]) -> None:
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": shape})
    checksum = 0
    with atomic_write(path) as partial, partial.open("wb") as file:
        for data in itertools.chain(
            [header.getbuffer()], (np.ascontiguousarray(block, "<f4").data for block in blocks)
        ):
            checksum = zlib.crc32(data, checksum)
            file.write(data)
        file.write(checksum.to_bytes(_CHECKSUM_BYTES, "little"))


def _is_intact(path: Path, shape: tuple[int, ...], *, warn: bool = False) -> bool:
    try:
        content = np.memmap(path, dtype=np.uint8, mode="r")
        checksum = int.from_bytes(content[-_CHECKSUM_BYTES:].tobytes(), "little")
        if zlib.crc32(content[:-_CHECKSUM_BYTES].data) != checksum:
            raise ValueError("its checksum is wrong")
        if (found := np.lib.format.open_memmap(path, mode="r").shape) != shape:
            raise ValueError(f"its shape is {found} instead of {shape}")
    except FileNotFoundError:
        return False
    except (OSError, ValueError) as error:
        if warn:
            warnings.warn(f"'{path}' is damaged ({error}) and is computed again.", DatasetWarning, stacklevel=2)
        return False
    return True


@contextlib.contextmanager
def _convert_errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if isinstance(error, MusgenreError):  # of a track that cannot be read
            raise
        raise DatasetError(f"Cannot cache embeddings in '{folder}' ({error}): choose another directory.") from error
