"""Output file of ``musgenre predict --output``: JSON Lines with exactly one line per song, also after interruptions."""

from __future__ import annotations

import contextlib
import json
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from io import FileIO
from pathlib import Path
from typing import Any

from musgenre.core.config import Prediction
from musgenre.core.errors import MusgenreError, ParameterError
from musgenre.core.files import file_lock


class ResultsFile:
    """JSON Lines file of results; :func:`open_results` opens it.

    A line holds :meth:`~musgenre.core.config.Prediction.to_dict` of a prediction. If the file could not be processed,
    it holds its ``path``, the ``error`` class and a ``message``.

    Args:
        path: Path of the file.
        file: The file, opened for appending without a buffer.
        labels: Genres of the model.

    Attributes:
        path: Path of the file.
        done: Paths of the songs in the file.
        failures: Number of failed songs by error class.
        examples: Path of the first failed song by error class.
    """

    def __init__(self, path: Path, file: FileIO, *, labels: Sequence[str]) -> None:
        self.path = path
        self.done: set[str] = set()
        self.failures: Counter[str] = Counter()
        self.examples: dict[str, str] = {}
        self._file = file
        self._labels = list(labels)

    def add(self, result: Prediction | MusgenreError) -> None:
        """Append a line. It is complete when the call returns, so that a killed process loses none.

        Raises:
            ParameterError: The line cannot be written, for instance because the disk is full. Earlier lines remain.
        """
        row = result.to_dict() if isinstance(result, Prediction) else _failure(result)
        line = json.dumps(row).encode() + b"\n"  # in ASCII, because file names need not be valid text
        end = self._file.tell()
        try:
            while line:
                line = line[self._file.write(line) :]
        except OSError as error:
            with contextlib.suppress(OSError):  # read() removes an incomplete line as well
                self._file.truncate(end)
            raise _write_error(self.path, error) from error
        self._count(row)

    def read(self) -> None:
        """Read the existing lines, and remove an incomplete last line.

        Raises:
            ParameterError: A line is not a result of this model.
        """
        valid_bytes = 0
        with self.path.open("rb") as lines:
            for number, line in enumerate(lines, start=1):
                if not line.endswith(b"\n"):
                    break
                try:
                    self._count(json.loads(line))
                except (ValueError, LookupError, TypeError, AttributeError) as error:
                    raise ParameterError(
                        f"line {number} of '{self.path}' is not a result of this model ({error!r}): choose another "
                        "file, or repair this one."
                    ) from error
                valid_bytes += len(line)
        if valid_bytes < self._file.seek(0, os.SEEK_END):
            self._file.truncate(valid_bytes)
            self._file.seek(valid_bytes)

    def summary(self) -> str:
        """Return the number of predicted songs, and of failed songs by error class."""
        failed = self.failures.total()
        lines = [f"{self.path}: {len(self.done)} songs, {len(self.done) - failed} predicted, {failed} failed"]
        lines += [f"  {kind}: {count}, such as {self.examples[kind]}" for kind, count in self.failures.most_common()]
        return "\n".join(lines)

    def _count(self, row: dict[str, Any]) -> None:
        error = row.get("error")
        if error is None and list(row["probabilities"]) != self._labels:
            raise ValueError("different genres")
        if row["path"] not in self.done and error is not None:
            self.failures[error] += 1
            self.examples.setdefault(error, row["path"])
        self.done.add(row["path"])


@contextlib.contextmanager
def open_results(path: Path, *, labels: Sequence[str], resume: bool) -> Iterator[ResultsFile]:
    """Open a file of results, which one process at a time can write.

    Args:
        path: Path of the file.
        labels: Genres of the model.
        resume: Whether to append to an existing file.

    Raises:
        ParameterError: The file exists and ``resume`` is false, is not a file of results of this model, is open in
            another process, or cannot be written.
    """
    try:
        with file_lock(path.with_name(f".{path.name}.lock"), wait=False):
            if path.exists() and not resume:
                raise ParameterError(f"'{path}' already exists: add --resume to continue it, or choose another file.")
            with path.open("ab", buffering=0) as file:
                results = ResultsFile(path, file, labels=labels)
                results.read()
                yield results
    except TimeoutError as error:
        raise ParameterError(f"'{path}' is in use by another process: wait for it, or choose another file.") from error
    except OSError as error:
        if isinstance(error, MusgenreError):  # the error of a song, raised in the block
            raise
        raise _write_error(path, error) from error


def _failure(error: MusgenreError) -> dict[str, Any]:
    return {"path": error.path, "error": type(error).__name__, "message": " ".join(str(error).split())}


def _write_error(path: Path, error: OSError) -> ParameterError:
    return ParameterError(
        f"cannot write '{path}' ({error.strerror or error}): free disk space or choose another file. Existing lines "
        "are unchanged; --resume continues after them."
    )
