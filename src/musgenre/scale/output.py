"""The Parquet dataset of a collection: its metadata, checkpoint and verification."""

from __future__ import annotations

import json
import os
import posixpath
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from musgenre.core.errors import DatasetError
from musgenre.datasets.base import abbreviated
from musgenre.scale.dependencies import require
from musgenre.scale.filesystems import resolve
from musgenre.scale.sources import Source, hash_ids

if TYPE_CHECKING:
    import pyarrow as pa

_PENDING = ".pending.parquet"  # suffix of Ray's checkpoints whose rows are not all written


class Output:
    """A Parquet dataset with a folder ``_musgenre``, which readers of Parquet ignore.

    The folder holds ``collection.json`` (the model and the columns), ``songs`` (the list of songs to predict) and
    ``done`` (Ray's checkpoint).

    Args:
        location: Folder or URI of the dataset.
        schema: Schema of the rows, with the model in its metadata.
        filesystem: See :func:`~musgenre.scale.filesystems.resolve`.
    """

    def __init__(self, location: str | os.PathLike[str], schema: pa.Schema, *, filesystem: Any = None) -> None:
        self.location = os.fspath(location)
        self.schema = schema
        self.filesystem, self.path = resolve(location, filesystem=filesystem)
        self.path = self.path.rstrip("/")
        directory = posixpath.join(self.path, "_musgenre")
        self.songs = posixpath.join(directory, "songs")
        self.done = posixpath.join(directory, "done")
        self._metadata_path = posixpath.join(directory, "collection.json")

    def check(self) -> None:
        """Checks that the folder is new, empty, or holds rows of the same model with the same columns.

        Raises:
            DatasetError: The folder holds something else.
        """
        found = self._read_metadata()
        if found is None:
            if self._entries(self.path):
                raise DatasetError(f"{self.location}: holds something else; give a new or empty folder.")
            return
        expected = self._metadata()
        differences = [
            f"{name} {found.get(name)!r}, not {value!r}" for name, value in expected.items() if found.get(name) != value
        ]
        if differences:
            raise DatasetError(
                f"{self.location}: holds rows with {abbreviated(differences)}; give another folder, or the same model "
                "and columns."
            )

    def prepare(self, source: Source) -> None:
        """Writes the metadata and the list of songs, which replaces the list of an earlier run."""
        pq = require("pyarrow.parquet")
        self.filesystem.create_dir(self.done, recursive=True)
        partial = f"{self._metadata_path}.partial"
        with self.filesystem.open_output_stream(partial) as file:
            file.write(json.dumps(self._metadata(), indent=2, ensure_ascii=False).encode())
        self.filesystem.move(partial, self._metadata_path)
        if self._files(self.songs):
            self.filesystem.delete_dir_contents(self.songs)
        self.filesystem.create_dir(self.songs, recursive=True)
        for number, batch in enumerate(source.batches()):
            pq.write_table(batch, posixpath.join(self.songs, f"{number:06}.parquet"), filesystem=self.filesystem)

    def repair_checkpoint(self) -> None:
        """Removes checkpoints that are both pending and done, so that their songs are predicted again.

        Ray renames a checkpoint from pending to done. In an object store, an interruption may leave both names. Ray
        would then remove the rows, because of the pending checkpoint, and not predict them again, because of the other.
        """
        names = set(self._files(self.done))
        for name in names:
            if name.endswith(_PENDING) and (done := f"{name.removesuffix(_PENDING)}.parquet") in names:
                self.filesystem.delete_file(done)

    def count_done(self) -> int:
        """Returns the number of rows that the checkpoint marks as done."""
        files = [name for name in self._files(self.done) if not name.endswith(_PENDING)]
        return self._dataset(files).count_rows() if files else 0

    def verify(self, planned: npt.NDArray[np.uint64]) -> int:
        """Checks that every song has exactly one row.

        Args:
            planned: Hashes of the ids of all songs.

        Returns:
            The number of rows with an error.

        Raises:
            DatasetError: A song has no row, or a row is repeated.
        """
        hashes, failed = [np.empty(0, np.uint64)], 0
        if files := self._files(self.path):
            for batch in self._dataset(files).to_batches(columns=["id", "error"]):
                hashes.append(hash_ids(batch["id"].to_pylist()))
                failed += len(batch) - batch["error"].null_count
        written = np.sort(np.concatenate(hashes))
        missing = np.setdiff1d(planned, written).size
        repeated = int((written[1:] == written[:-1]).sum())
        if missing or repeated:
            raise DatasetError(
                f"{self.location}: {missing} songs have no row, and {repeated} rows are repeated, which happens if two "
                "runs write to the same folder at a time. Delete the folder and run again, one run at a time."
            )
        return failed

    def _dataset(self, files: list[str]) -> Any:
        return require("pyarrow.dataset").dataset(sorted(files), format="parquet", filesystem=self.filesystem)

    def _files(self, folder: str) -> list[str]:
        """Returns the files directly in a folder; none if there is no such folder."""
        return [entry.path for entry in self._entries(folder) if entry.is_file]

    def _entries(self, folder: str) -> list[Any]:
        fs = require("pyarrow.fs")
        found: list[Any] = self.filesystem.get_file_info(fs.FileSelector(folder, allow_not_found=True))
        return found

    def _read_metadata(self) -> dict[str, Any] | None:
        try:
            with self.filesystem.open_input_stream(self._metadata_path) as file:
                metadata = json.loads(file.read())
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise DatasetError(
                f"{self.location}: {self._metadata_path} cannot be read ({error}); give another folder."
            ) from error
        return metadata if isinstance(metadata, dict) else {}

    def _metadata(self) -> dict[str, Any]:
        model = {key.decode().removeprefix("musgenre."): value.decode() for key, value in self.schema.metadata.items()}
        return {**model, "columns": self.schema.names}
