"""What an estimator is given: songs as paths, or as the rows of a table."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from sklearn.utils.validation import validate_data

from musgenre.audio import SHORTEST_SECONDS, AudioSource, tile
from musgenre.core.errors import ParameterError

Table: TypeAlias = npt.NDArray[np.float32]

_OF_TABLES = ("n_features_in_", "feature_names_in_")


def read_input(estimator: Any, X: Any, *, sample_rate: int, reset: bool) -> list[str | os.PathLike[str]] | Table:
    """Returns the paths of songs, or a table of waveforms, checked as scikit-learn checks a table.

    Args:
        estimator: Whose input it is; it learns the width of a table, or compares it.
        X: A sequence of paths, or ``(songs, samples)``.
        sample_rate: Rate of the table's rows, in hertz.
        reset: Whether the estimator is being fitted.

    Raises:
        ParameterError: ``X`` is one path, or paths mixed with other things.
        ValueError, TypeError: scikit-learn's, where a table is no table of finite numbers, or of another width than
            the estimator was fitted with.
    """
    paths = _paths(X)
    if paths is None:
        return _table(validate_data(estimator, X, reset=reset, dtype=np.float32), sample_rate=sample_rate)
    if reset:
        forget_table(estimator)
    return paths


def read_labelled(
    estimator: Any, X: Any, *, y: Any, sample_rate: int
) -> tuple[list[str | os.PathLike[str]] | Table, npt.NDArray[Any]]:
    """Returns what :func:`read_input` does for an estimator that is being fitted, with a label for each song.

    Args:
        estimator: As for :func:`read_input`.
        X: As for :func:`read_input`.
        y: The labels.
        sample_rate: As for :func:`read_input`.

    Raises:
        ParameterError, ValueError, TypeError: As :func:`read_input`; or ``y`` is not one label a song.
    """
    from sklearn.utils import check_consistent_length, column_or_1d
    from sklearn.utils.multiclass import check_classification_targets

    paths = _paths(X)
    if paths is None:
        X, y = validate_data(estimator, X, y, dtype=np.float32)
        songs: Any = _table(X, sample_rate=sample_rate)
    else:
        forget_table(estimator)
        songs, y = paths, column_or_1d(y, warn=True)
        check_consistent_length(songs, y)
    check_classification_targets(y)
    return songs, np.asarray(y)


def as_sources(songs: list[str | os.PathLike[str]] | Table, *, sample_rate: int) -> list[AudioSource]:
    """Returns songs as :mod:`musgenre.audio` takes them.

    Args:
        songs: Paths or a table.
        sample_rate: Rate of the table's rows, in hertz.
    """
    if isinstance(songs, list):
        return list(songs)
    return [(row, sample_rate) for row in lengthened(songs, sample_rate=sample_rate)]


def lengthened(table: Table, *, sample_rate: int) -> Iterator[npt.NDArray[np.float32]]:
    """Yields the rows of a table; those too short to be audio are repeated until they are long enough.

    Args:
        table: The rows.
        sample_rate: Their rate, in hertz.
    """
    samples = max(table.shape[1], math.ceil(SHORTEST_SECONDS * sample_rate))
    yield from (tile(row, samples) for row in table)


def forget_table(estimator: Any) -> None:
    """Takes from an estimator what it learnt of a table, before it is fitted on paths."""
    for name in _OF_TABLES:
        vars(estimator).pop(name, None)


def check_names(estimator: Any, input_features: Any) -> None:
    """Checks what ``get_feature_names_out`` is given, by scikit-learn's rules and in its words.

    Raises:
        ParameterError: They are not the names, or not as many as the columns, that the estimator was fitted with.
    """
    if input_features is None:
        return
    names, count = getattr(estimator, "feature_names_in_", None), getattr(estimator, "n_features_in_", None)
    if names is not None and list(names) != list(input_features):
        raise ParameterError("input_features is not equal to feature_names_in_.")
    if count is not None and len(input_features) != count:
        raise ParameterError(
            f"input_features should have length equal to number of features ({count}), got {len(input_features)}."
        )


def _paths(X: Any) -> list[str | os.PathLike[str]] | None:
    """Returns the paths that ``X`` consists of, or ``None`` where it holds none."""
    if isinstance(X, str | os.PathLike):
        raise ParameterError(f"Expected several songs, got the one path {os.fspath(X)!r}: put it in a list.")
    listed = isinstance(X, Sequence) or getattr(X, "ndim", None) == 1  # an array or a series
    items: list[Any] = list(X) if listed else []
    found = [isinstance(item, str | os.PathLike) for item in items]
    if not any(found):
        return None
    if not all(found):
        other = items[found.index(False)]
        raise ParameterError(f"Expected paths alone, or a table of waveforms; among the paths is {other!r:.80}.")
    return items


def _table(table: Table, *, sample_rate: int) -> Table:
    seconds = table.shape[1] / sample_rate
    if seconds < SHORTEST_SECONDS:
        warnings.warn(
            f"Each row is one song of {table.shape[1]} samples, which are {seconds:.4f} s at {sample_rate} Hz: is this "
            "a table of waveforms (songs, samples)?",
            stacklevel=5,
        )
    return table
