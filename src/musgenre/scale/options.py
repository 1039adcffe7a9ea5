"""Options and report of :func:`~musgenre.scale.predict_collection`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from musgenre.core.errors import ParameterError


@dataclass(frozen=True, kw_only=True)
class CollectionOptions:
    """Options of :func:`~musgenre.scale.predict_collection`, which takes every field as a keyword.

    Attributes:
        embedding: Whether each row holds the song's embedding, the mean of the backbone's output over its windows.
        windows: Whether each row holds the probabilities of each window.
        batch_size: Number of windows in a batch; by default 30 s of audio on a CPU, 64 on a GPU.
        workers: Maximum number of actors with the network; by default one per GPU, or one per CPU without GPUs.
        songs_per_block: Number of songs in a block, which one task decodes and one call of the network predicts.
        block_bytes: Maximum size of the decoded samples of a block. Songs beyond it are decoded block by block by the
            actor. Decoding a block takes up to twice this memory.
        songs_per_file: Minimum number of songs in a Parquet file. As many may have to be predicted again after a kill.
        filesystem: PyArrow's or fsspec's file system of the source; by default that of its URI, or the local disk.
        output_filesystem: File system of the output, likewise.
        progress: Whether Ray shows progress bars.
        dry_run: Whether only to check the source and the output, and to return the plan.

    Raises:
        ParameterError: A number is below 1.
    """

    embedding: bool = False
    windows: bool = False
    batch_size: int | None = None
    workers: int | None = None
    songs_per_block: int = 4
    block_bytes: int = 128 * 2**20
    songs_per_file: int = 1_000
    filesystem: Any = None
    output_filesystem: Any = None
    progress: bool = True
    dry_run: bool = False

    def __post_init__(self) -> None:
        for name in ("batch_size", "workers", "songs_per_block", "block_bytes", "songs_per_file"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ParameterError(f"{name} must be at least 1, not {value!r}.")


@dataclass(frozen=True)
class CollectionReport:
    """Result of :func:`~musgenre.scale.predict_collection`.

    Attributes:
        output: The output's folder or URI.
        songs: Number of songs in the source.
        present: Number of rows in the output before the run.
        predicted: Number of rows added by the run; 0 in a dry run.
        failed: Number of rows in the output with an error; 0 in a dry run.
        seconds: Duration of the run.
        plan: Description of the run, with one line per step.
    """

    output: str
    songs: int
    present: int
    predicted: int
    failed: int
    seconds: float
    plan: str

    def __str__(self) -> str:
        return (
            f"{self.output}: {self.songs} songs, {self.present} rows before, {self.predicted} now in "
            f"{self.seconds:.1f} s; {self.failed} rows have an error."
        )
