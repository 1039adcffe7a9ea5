"""The dataset that a collection is written to, and how it is known to be whole."""

from __future__ import annotations

import json
import os
import posixpath
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from musgenre.core.errors import DatasetError
from musgenre.datasets.base import abbreviated
from musgenre.scale.dependencies import needed
from musgenre.scale.filesystems import resolve
from musgenre.scale.sources import Source, hashed

if TYPE_CHECKING:
    import pyarrow as pa

_PENDING = ".pending.parquet"  # what Ray calls a checkpoint whose rows are not all written


class Output:
    """A Parquet dataset, with a folder ``_musgenre`` beside its files that readers of Parquet pass over.

    The folder holds ``collection.json`` (which model and columns), ``songs`` (what is to be predicted) and ``done``
    (Ray's checkpoint).

    Args:
        place: The dataset's folder or URI.
        schema: Its columns, with the model in their metadata.
        filesystem: As for :func:`~musgenre.scale.filesystems.resolve`.
    """

    def __init__(self, place: str | os.PathLike[str], schema: pa.Schema, *, filesystem: Any = None) -> None:
        self.place = os.fspath(place)
        self.schema = schema
        self.filesystem, self.path = resolve(place, filesystem=filesystem)
        self.path = self.path.rstrip("/")
        self.own = posixpath.join(self.path, "_musgenre")
        self.songs = posixpath.join(self.own, "songs")
        self.done = posixpath.join(self.own, "done")
        self._card = posixpath.join(self.own, "collection.json")

    def check(self) -> None:
        """Refuses a folder with something else in it, or with rows of another model or other columns.

        Raises:
            DatasetError: It is such a folder.
        """
        card = self._read_card()
        if card is None:
            if self._entries(self.path):
                raise DatasetError(f"{self.place}: holds something else; give a new or empty folder.")
            return
        mine = self._identity()
        differ = [f"{name} {card.get(name)!r}, not {mine[name]!r}" for name in mine if card.get(name) != mine[name]]
        if differ:
            raise DatasetError(
                f"{self.place}: holds rows with {abbreviated(differ)}; give another folder, or that model and columns."
            )

    def claim(self, source: Source) -> None:
        """Writes down what the dataset is, and the songs that are to be in it; there may be songs in it already."""
        pq = needed("pyarrow.parquet")
        self.filesystem.create_dir(self.done, recursive=True)
        partial = f"{self._card}.partial"
        with self.filesystem.open_output_stream(partial) as file:
            file.write(json.dumps(self._identity(), indent=2, ensure_ascii=False).encode())
        self.filesystem.move(partial, self._card)
        if self._files(self.songs):
            self.filesystem.delete_dir_contents(self.songs)
        self.filesystem.create_dir(self.songs, recursive=True)
        for number, batch in enumerate(source.batches()):
            pq.write_table(batch, posixpath.join(self.songs, f"{number:06}.parquet"), filesystem=self.filesystem)

    def settle(self) -> None:
        """Takes back what was marked as done while Ray was cut off between the two steps of doing so.

        Ray renames a checkpoint from pending to done; in an object store both names may be left. Ray then removes the
        rows of what is pending and believes what is done, so that rows would be lost. Without the second name they are
        predicted anew.
        """
        names = set(self._files(self.done))
        for name in names:
            if name.endswith(_PENDING) and (twin := f"{name.removesuffix(_PENDING)}.parquet") in names:
                self.filesystem.delete_file(twin)

    def present(self) -> int:
        """Returns how many rows are marked as done."""
        files = [name for name in self._files(self.done) if not name.endswith(_PENDING)]
        return self._dataset(files).count_rows() if files else 0

    def verify(self, planned: npt.NDArray[np.uint64]) -> int:
        """Makes sure that every song has one row.

        Args:
            planned: The hashes of the ids of all songs.

        Returns:
            How many rows have an error.

        Raises:
            DatasetError: A song has no row, or a row is there twice.
        """
        hashes, failed = [np.empty(0, np.uint64)], 0
        for batch in self._rows():
            hashes.append(hashed(batch["id"].to_pylist()))
            failed += len(batch) - batch["error"].null_count
        written = np.sort(np.concatenate(hashes))
        missing = np.setdiff1d(planned, written).size
        twice = int((written[1:] == written[:-1]).sum())
        if missing or twice:
            raise DatasetError(
                f"{self.place}: {missing} songs have no row, and {twice} rows are there twice, as when two runs "
                "write to one place at a time. Delete the folder and run again, one run at a time."
            )
        return failed

    def _rows(self) -> Iterator[pa.RecordBatch]:
        files = self._files(self.path)
        if files:
            yield from self._dataset(files).to_batches(columns=["id", "error"])

    def _dataset(self, files: list[str]) -> Any:
        return needed("pyarrow.dataset").dataset(sorted(files), format="parquet", filesystem=self.filesystem)

    def _files(self, folder: str) -> list[str]:
        """Returns the files that lie in a folder itself; none where there is no folder."""
        return [entry.path for entry in self._entries(folder) if entry.is_file]

    def _entries(self, folder: str) -> list[Any]:
        fs = needed("pyarrow.fs")
        found: list[Any] = self.filesystem.get_file_info(fs.FileSelector(folder, allow_not_found=True))
        return found

    def _read_card(self) -> dict[str, Any] | None:
        try:
            with self.filesystem.open_input_stream(self._card) as file:
                card = json.loads(file.read())
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise DatasetError(f"{self.place}: {self._card} cannot be read ({error}); give another folder.") from error
        return card if isinstance(card, dict) else {}

    def _identity(self) -> dict[str, Any]:
        told = {key.decode().removeprefix("musgenre."): value.decode() for key, value in self.schema.metadata.items()}
        return {**told, "columns": self.schema.names}
