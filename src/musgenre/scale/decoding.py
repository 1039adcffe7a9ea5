"""Decoding of batches of songs, in processes that do not load PyTorch."""

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
from musgenre.scale.dependencies import require
from musgenre.scale.filesystems import open_source

if TYPE_CHECKING:
    import pyarrow as pa

Samples = npt.NDArray[np.float32]

UNREADABLE = (MusgenreError, OSError)
"""Errors that are reported in the row of a song; the other songs are still processed."""


def decode_batch(
    batch: Mapping[str, Sequence[Any]],
    *,
    sample_rate: int,
    limit_bytes: int,
    filesystem: Any = None,
    reading: ReadOptions | None = None,
) -> dict[str, list[Any]]:
    """Decodes a batch of songs for :func:`~musgenre.scale.predict_batch`, within a limit of memory.

    Args:
        batch: Columns ``id`` and ``path``.
        sample_rate: The model's sample rate, in hertz.
        limit_bytes: Maximum size of all decoded samples together. A song that exceeds the rest is not decoded here, but
            block by block by the process that runs the network.
        filesystem: PyArrow's file system for paths that are not URIs; ``None`` is the local disk.
        reading: Limits and decoder for untrusted files.

    Returns:
        Columns ``id``, ``path``, ``samples`` (``None`` if not decoded), ``error`` and ``seconds``.
    """
    rows: dict[str, list[Any]] = {"id": list(batch["id"]), "path": list(batch["path"])}
    rows |= {"samples": [], "error": [], "seconds": []}
    remaining = limit_bytes
    for path in rows["path"]:
        begun = time.perf_counter()
        samples, error = None, None
        try:
            with open_source(path, filesystem=filesystem) as source:
                parts = blocks(source, sample_rate=sample_rate, reading=reading)
                samples = _concatenate(parts, limit_bytes=remaining)
        except UNREADABLE as caught:
            error = error_record(caught)
        remaining -= 0 if samples is None else samples.nbytes
        rows["samples"].append(samples)
        rows["error"].append(error)
        rows["seconds"].append(time.perf_counter() - begun)
    return rows


def decode_table(table: pa.Table, *, options: dict[str, Any]) -> pa.Table:
    """Decodes a table with :func:`decode_batch`, and returns the columns as a table."""
    pa = require("pyarrow")
    decoded = decode_batch({name: table[name].to_pylist() for name in ("id", "path")}, **options)
    return pa.table(
        {
            "id": pa.array(decoded["id"], pa.string()),
            "path": pa.array(decoded["path"], pa.string()),
            "samples": _to_binary(decoded["samples"]),
            "error": pa.array(decoded["error"], pa.struct([("kind", pa.string()), ("message", pa.string())])),
            "seconds": pa.array(decoded["seconds"], pa.float64()),
        }
    )


def _to_binary(samples: Sequence[Samples | None]) -> pa.ChunkedArray:
    """Returns a column of bytes with one chunk per array, without copying.

    ``pyarrow.array`` would copy the arrays, and never releases memoryviews.
    """
    pa = require("pyarrow")
    binary = pa.large_binary()

    def chunk(one: Samples | None) -> Any:
        if one is None:
            return pa.nulls(1, binary)
        offsets = pa.py_buffer(np.array([0, one.nbytes], np.int64))
        return pa.Array.from_buffers(binary, 1, [None, offsets, pa.py_buffer(one)])

    return pa.chunked_array([chunk(one) for one in samples], binary)


def error_record(error: BaseException) -> dict[str, str]:
    """Returns the content of the column ``error`` for an exception."""
    return {"kind": type(error).__name__, "message": " ".join(str(error).split())}


def _concatenate(parts: ClosingIterator[Samples], *, limit_bytes: int) -> Samples | None:
    collected: list[Samples] = []
    with contextlib.closing(parts):
        for part in parts:
            collected.append(part)
            if sum(one.nbytes for one in collected) > limit_bytes:
                return None
    return np.concatenate(collected)
