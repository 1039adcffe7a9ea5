"""An array that is computed in parts and kept on disk, so that an interrupted computation goes on."""

from __future__ import annotations

import contextlib
import io
import itertools
import math
import shutil
import warnings
import zlib
from collections.abc import Callable, Generator, Iterable, Iterator
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from musgenre.core.errors import DatasetError, MusgenreError
from musgenre.core.files import atomic_write
from musgenre.datasets.base import DatasetWarning

Rows: TypeAlias = npt.NDArray[np.float32]

PART_ROWS = 16
"""Rows that are computed and written at a time; what a kill costs at most."""

_CHECKSUM_BYTES = 4


class CachedArray:
    """A float32 array in ``<folder>/embeddings.npy``, whole or not there.

    The file is NumPy's ``.npy`` with a CRC-32 of all that comes before behind it, by which damage is seen. While it is
    computed its parts stand beside it, each under the same guard. A lock in the folder lets one at a time compute.

    Args:
        folder: Its own folder; made by :meth:`fill`.
        shape: Of the array. A row is the last dimension; rows are counted through all others.
    """

    def __init__(self, folder: Path, *, shape: tuple[int, ...]) -> None:
        self.folder = folder
        self.shape = shape
        self.path = folder / "embeddings.npy"
        self.count = math.prod(shape[:-1])

    def fill(self, compute: Callable[[list[range]], Generator[Rows]]) -> Path:
        """Returns the file of the array; what is not on disk is computed.

        Args:
            compute: Gives ``(len(part), shape[-1])`` for each range of rows that it is given, in order. A part is
                the same whatever others are asked for.

        Raises:
            DatasetError: The folder cannot be written to, or the disk is full. Whole parts stay for the next time.
        """
        from filelock import FileLock

        if _is_whole(self.path, self.shape):  # without the lock, which a directory for reading only has no place for
            return self.path
        with _storing(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            with FileLock(self.folder / "lock"):
                if not _is_whole(self.path, self.shape, warn=True):  # unless another computed it while this one waited
                    self._compute(compute)
        return self.path

    def _compute(self, compute: Callable[[list[range]], Generator[Rows]]) -> None:
        for cut_off in self.folder.glob(".*.partial"):
            cut_off.unlink()
        parts = {
            self.folder / f"part-{first:09d}.npy": range(first, min(first + PART_ROWS, self.count))
            for first in range(0, self.count, PART_ROWS)
        }
        missing = {
            path: rows for path, rows in parts.items() if not _is_whole(path, (len(rows), self.shape[-1]), warn=True)
        }
        self._refuse_full_disk(sum(map(len, missing.values())))
        with contextlib.closing(compute(list(missing.values()))) as computed:
            for (path, rows), values in zip(missing.items(), computed, strict=True):
                _write(path, [values], shape=(len(rows), self.shape[-1]))
        _write(self.path, (np.lib.format.open_memmap(path, mode="r") for path in parts), shape=self.shape)
        for path in parts:
            path.unlink()

    def _refuse_full_disk(self, rows: int) -> None:
        needed = (self.count + rows) * self.shape[-1] * 4  # the parts that are missing, and then the whole beside them
        free = shutil.disk_usage(self.folder).free
        if free < needed:
            raise DatasetError(
                f"Embeddings in '{self.folder}' need {needed / 2**20:.0f} MiB, but {free / 2**20:.0f} MiB are free: "
                "make room, keep fewer views, or choose another directory."
            )


def _write(path: Path, blocks: Iterable[Rows], *, shape: tuple[int, ...]) -> None:
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


def _is_whole(path: Path, shape: tuple[int, ...], *, warn: bool = False) -> bool:
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
            warnings.warn(f"'{path}' is damaged ({error}) and computed again.", DatasetWarning, stacklevel=2)
        return False
    return True


@contextlib.contextmanager
def _storing(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if isinstance(error, MusgenreError):  # of a song that cannot be read
            raise
        raise DatasetError(f"Cannot keep embeddings in '{folder}' ({error}): choose another directory.") from error
