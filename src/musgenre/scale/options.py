"""How a collection is predicted, and what came of it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from musgenre.core.errors import ParameterError
from musgenre.core.registry import did_you_mean


@dataclass(frozen=True, kw_only=True)
class CollectionOptions:
    """How :func:`~musgenre.scale.predict_collection` goes about it; every field can be given to it by name.

    Attributes:
        embedding: Whether each row holds the mean of the backbone's vectors.
        windows: Whether each row holds what was said of each window.
        batch_size: Windows that go through the network together; ``None`` is 10 on a CPU, 64 on a GPU.
        workers: Actors that hold the network, at most; ``None`` is one a GPU, or one a CPU where there is none.
        songs_per_block: Songs that one task decodes and one call of the network is given.
        block_bytes: How much the decoded samples of a block may take; what does not fit is decoded piece by piece where
            the network is. Up to twice as much is held while a block is made.
        songs_per_file: Songs in one Parquet file, at least; as many may have to be predicted again after a kill.
        filesystem: PyArrow's or fsspec's file system of the source; ``None`` goes by its URI, or is the local disk.
        output_filesystem: The same, of the output.
        progress: Whether Ray shows progress bars.
        dry_run: Whether nothing is done but to look at the source and the output.

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

    @classmethod
    def of(cls, given: dict[str, Any]) -> CollectionOptions:
        """Makes options of keyword arguments.

        Raises:
            ParameterError: There is no such option, or a value is out of range.

        Example:
            >>> CollectionOptions.of({"embeding": True})  # doctest: +ELLIPSIS
            Traceback (most recent call last):
            ...
            musgenre.core.errors.ParameterError: predict_collection() has no option 'embeding'. Did you mean ...
        """
        known = [field.name for field in dataclasses.fields(cls)]
        for name in given:
            if name not in known:
                told = f"{did_you_mean(name, known)} All: {', '.join(known)}."
                raise ParameterError(f"predict_collection() has no option {name!r}.{told}")
        return cls(**given)


@dataclass(frozen=True)
class CollectionReport:
    """What :func:`~musgenre.scale.predict_collection` returns.

    Attributes:
        output: Where the rows are.
        songs: How many songs the source has.
        present: How many rows the output had before.
        predicted: How many rows it got now; 0 in a dry run.
        failed: How many of all its rows have an error; 0 in a dry run.
        seconds: How long it took.
        plan: What is done, in a person's words, a line a step.
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
