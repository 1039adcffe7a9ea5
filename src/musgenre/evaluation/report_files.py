"""Reports as JSON files."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from musgenre.core import config as specs
from musgenre.core.errors import ConfigError, ParameterError
from musgenre.core.files import atomic_write

if TYPE_CHECKING:
    from typing_extensions import Self


class Report:
    """A frozen dataclass, its sequences tuples, that can be written to JSON and read back."""

    def to_dict(self) -> dict[str, Any]:
        """Returns the report in JSON's types."""
        pairs: dict[str, Any] = sequences(specs.to_dict(self), kind=list)
        return pairs

    @classmethod
    def from_dict(cls, data: Any) -> Self:
        """Reads a report back from what :meth:`to_dict` gave.

        Raises:
            ConfigError: A key is unknown or missing, or a value has the wrong type or does not fit the others.
        """
        try:
            return specs.from_dict(cls, sequences(data, kind=tuple))
        except ConfigError:
            raise
        except (TypeError, ValueError) as error:
            # An object where a list should be.
            raise ConfigError(f"{cls.__name__}: {error}") from error

    def to_json(self) -> str:
        """Returns the report as a JSON text."""
        return json.dumps(self.to_dict(), indent=1, ensure_ascii=False, allow_nan=False) + "\n"

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the report as JSON; an older file is replaced at once or, where that fails, left as it was.

        Raises:
            ParameterError: No file can be written at ``path``.
        """
        write_text(Path(path), self.to_json())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Reads what :meth:`save` wrote.

        Raises:
            ConfigError: The file cannot be read or holds no such report.
        """
        try:
            return cls.from_dict(json.loads(Path(path).read_text(encoding="utf-8")))
        except (OSError, ValueError) as error:
            raise ConfigError(f"{os.fspath(path)!r} cannot be read as a report: {error}") from error


def sequences(value: Any, *, kind: type[list[Any]] | type[tuple[Any, ...]]) -> Any:
    """Returns nested dicts, lists and tuples with every list and tuple made one of ``kind``."""
    if isinstance(value, dict):
        return {key: sequences(item, kind=kind) for key, item in value.items()}
    return kind(sequences(item, kind=kind) for item in value) if isinstance(value, list | tuple) else value


def write_text(path: Path, text: str) -> None:
    """Writes a text beside its place and then moves it there.

    Raises:
        ParameterError: The directory is missing, full or read-only.
    """
    try:
        with atomic_write(path) as partial:
            partial.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ParameterError(f"The report cannot be written to {str(path)!r}: {error.strerror or error}.") from error
