"""Where ``musgenre predict --output`` writes: a line of JSON a song, each song once, whatever happens in between."""

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


class Results:
    """The file of results, while it is written; :func:`results` gives it.

    Each line is what :meth:`~musgenre.core.config.Prediction.to_dict` gives for a song, or for a file that cannot be
    used its ``path``, ``error`` (the kind) and ``message``.

    Args:
        path: The file.
        labels: The genres of the model that predicts.

    Attributes:
        path: The file.
        done: The songs in it.
        failures: How many songs could not be used, by the kind of error.
        examples: Of each kind the first such song.
    """

    def __init__(self, path: Path, *, labels: Sequence[str]) -> None:
        self.path = path
        self.done: set[str] = set()
        self.failures: Counter[str] = Counter()
        self.examples: dict[str, str] = {}
        self._labels = list(labels)
        self._file: FileIO | None = None

    def add(self, result: Prediction | MusgenreError) -> None:
        """Writes a line, which a kill afterwards does not touch.

        Raises:
            ParameterError: It cannot be written, as where the disk is full; what was written before stays.
        """
        row = result.to_dict() if isinstance(result, Prediction) else _failure(result)
        line = json.dumps(row).encode() + b"\n"  # in ASCII, because a file's name need not be text
        file = self._file
        if file is None:
            raise ParameterError("Results are written in the block of results() only.")
        end = file.tell()
        try:
            while line:
                line = line[file.write(line) :]
        except OSError as error:
            with contextlib.suppress(OSError):  # a line cut short is also left out when the file is read
                file.truncate(end)
            raise _unwritable(self.path, error) from error
        self._count(row)

    def read(self) -> None:
        """Counts what is in the file; a last line that was cut short is removed.

        Raises:
            ParameterError: A line is no result, or one of another model.
        """
        whole = 0
        with self.path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if not line.endswith(b"\n"):
                    break
                try:
                    self._count(json.loads(line))
                except (ValueError, LookupError, TypeError, AttributeError) as error:
                    raise ParameterError(
                        f"'{self.path}' has a line {number} that is no result of this model ({error!r}): name another "
                        "file, or mend this one."
                    ) from error
                whole += len(line)
        if whole < self.path.stat().st_size:
            os.truncate(self.path, whole)

    def summary(self) -> str:
        """Returns how many songs there are, and how many failed of which kind."""
        failed = self.failures.total()
        lines = [f"{self.path}: {len(self.done)} songs, {len(self.done) - failed} predicted, {failed} failed"]
        lines += [f"  {kind}: {count}, such as {self.examples[kind]}" for kind, count in self.failures.most_common()]
        return "\n".join(lines)

    def _count(self, row: dict[str, Any]) -> None:
        kind = row.get("error")
        if kind is None and list(row["probabilities"]) != self._labels:
            raise ValueError("other genres")
        if row["path"] not in self.done and kind is not None:
            self.failures[kind] += 1
            self.examples.setdefault(kind, row["path"])
        self.done.add(row["path"])

    @contextlib.contextmanager
    def opened(self) -> Iterator[None]:
        """Opens the file for :meth:`add`."""
        with self.path.open("ab", buffering=0) as file:
            self._file = file
            try:
                yield
            finally:
                self._file = None


@contextlib.contextmanager
def results(path: Path, *, labels: Sequence[str], resume: bool) -> Iterator[Results]:
    """Opens a file of results, for one process at a time.

    Args:
        path: The file.
        labels: The genres of the model that predicts.
        resume: Whether the file may be there already, and is added to.

    Raises:
        ParameterError: The file is there and ``resume`` is false, holds something else, is written by another process,
            or cannot be written.
    """
    found, lock = Results(path, labels=labels), path.with_name(f".{path.name}.lock")
    try:
        with file_lock(lock, wait=False):
            if path.exists() and not resume:
                raise ParameterError(f"'{path}' is there already: go on with it by --resume, or name another file.")
            if path.exists():
                found.read()
            with found.opened():
                yield found
    except TimeoutError as error:
        raise ParameterError(f"'{path}' is being written by another process: wait, or name another file.") from error
    except OSError as error:
        if isinstance(error, MusgenreError):  # of a song
            raise
        raise _unwritable(path, error) from error


def _failure(error: MusgenreError) -> dict[str, Any]:
    return {"path": error.path, "error": type(error).__name__, "message": " ".join(str(error).split())}


def _unwritable(path: Path, error: OSError) -> ParameterError:
    return ParameterError(
        f"'{path}' cannot be written ({error.strerror or error}): make room or name another file; what is in it stays, "
        "and --resume goes on with it."
    )
