"""The first half of the work, for processes that decode and never load PyTorch."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from musgenre.audio import blocks
from musgenre.audio.options import ReadOptions
from musgenre.audio.windows import ClosingIterator
from musgenre.core.errors import MusgenreError
from musgenre.scale.dependencies import needed
from musgenre.scale.filesystems import opened

if TYPE_CHECKING:
    import pyarrow as pa

Samples = npt.NDArray[np.float32]

UNREADABLE = (MusgenreError, OSError)
"""What is wrong with one song, and costs that song alone."""


def decode_batch(
    batch: Mapping[str, Sequence[Any]],
    *,
    sample_rate: int,
    limit_bytes: int,
    filesystem: Any = None,
    reading: ReadOptions | None = None,
) -> dict[str, list[Any]]:
    """Decodes a batch of songs for :func:`~musgenre.scale.predict_batch`, up to a bound.

    Args:
        batch: Columns ``id`` and ``path``.
        sample_rate: The model's rate, in hertz.
        limit_bytes: How much the decoded samples may take together. A song that does not fit in what is left is handed
            on as it is, to be decoded piece by piece where the network is.
        filesystem: PyArrow's file system of those paths that are no URIs; ``None`` is the local disk.
        reading: How far the files are trusted.

    Returns:
        Columns ``id``, ``path``, ``samples`` (``None`` where there are none), ``error`` and ``seconds``.
    """
    rows: dict[str, list[Any]] = {"id": list(batch["id"]), "path": list(batch["path"])}
    rows |= {"samples": [], "error": [], "seconds": []}
    left = limit_bytes
    for path in rows["path"]:
        begun = time.perf_counter()
        samples, error = None, None
        try:
            with opened(path, filesystem=filesystem) as source:
                parts = blocks(source, sample_rate=sample_rate, reading=reading)
                samples = _joined(parts, limit_bytes=left)
        except UNREADABLE as caught:
            error = told(caught)
        left -= 0 if samples is None else samples.nbytes
        rows["samples"].append(samples)
        rows["error"].append(error)
        rows["seconds"].append(time.perf_counter() - begun)
    return rows


def decode_table(table: pa.Table, *, options: dict[str, Any]) -> pa.Table:
    """Returns what :func:`decode_batch` gives as one block, whatever is in it."""
    pa = needed("pyarrow")
    decoded = decode_batch({name: table[name].to_pylist() for name in ("id", "path")}, **options)
    return pa.table(
        {
            "id": pa.array(decoded["id"], pa.string()),
            "path": pa.array(decoded["path"], pa.string()),
            "samples": _binary(decoded["samples"]),
            "error": pa.array(decoded["error"], pa.struct([("kind", pa.string()), ("message", pa.string())])),
            "seconds": pa.array(decoded["seconds"], pa.float64()),
        }
    )


def _binary(samples: Sequence[Samples | None]) -> pa.ChunkedArray:
    """Returns arrays as a column of bytes, a chunk each, so that the only copy is the one that leaves the process.

    ``pyarrow.array`` copies them, and never lets go of memoryviews.
    """
    pa = needed("pyarrow")
    kind = pa.large_binary()

    def chunk(one: Samples | None) -> Any:
        if one is None:
            return pa.nulls(1, kind)
        ends = pa.py_buffer(np.array([0, one.nbytes], np.int64))
        return pa.Array.from_buffers(kind, 1, [None, ends, pa.py_buffer(one)])

    return pa.chunked_array([chunk(one) for one in samples], kind)


def told(error: BaseException) -> dict[str, str]:
    """Returns an error as a row holds it."""
    return {"kind": type(error).__name__, "message": " ".join(str(error).split())}


def _joined(parts: ClosingIterator[Samples], *, limit_bytes: int) -> Samples | None:
    joined: list[Samples] = []
    with contextlib.closing(parts):
        for part in parts:
            joined.append(part)
            if sum(part.nbytes for part in joined) > limit_bytes:
                return None
    return np.concatenate(joined)
