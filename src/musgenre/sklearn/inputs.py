"""Input validation of estimators: songs as paths, or as the rows of an array."""

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

Waveforms: TypeAlias = npt.NDArray[np.float32]
Songs: TypeAlias = list[str | os.PathLike[str]] | Waveforms

_ARRAY_ATTRIBUTES = ("n_features_in_", "feature_names_in_")


def read_input(estimator: Any, X: Any, *, sample_rate: int, reset: bool) -> Songs:
    """Return the paths of songs, or an array of waveforms that scikit-learn has validated.

    Args:
        estimator: The estimator, whose number of features is set or compared.
        X: A sequence of paths, or an array ``(songs, samples)``.
        sample_rate: Sample rate of the array's rows, in hertz.
        reset: Whether the estimator is being fitted.

    Raises:
        ParameterError: ``X`` is a single path, or has paths and other items.
        ValueError, TypeError: scikit-learn's, if an array has no finite numbers, or another number of columns than
            the estimator was fitted with.
    """
    paths = _paths(X)
    if paths is None:
        return _check_duration(validate_data(estimator, X, reset=reset, dtype=np.float32), sample_rate=sample_rate)
    if reset:
        clear_array_attributes(estimator)
    return paths


def read_labelled(estimator: Any, X: Any, *, y: Any, sample_rate: int) -> tuple[Songs, npt.NDArray[Any]]:
    """Return the songs as :func:`read_input` does, and their labels, for an estimator that is being fitted.

    Args:
        estimator: As for :func:`read_input`.
        X: As for :func:`read_input`.
        y: The labels.
        sample_rate: As for :func:`read_input`.

    Raises:
        ParameterError, ValueError, TypeError: As :func:`read_input`; or ``y`` does not have one label for each song.
    """
    from sklearn.utils import check_consistent_length, column_or_1d
    from sklearn.utils.multiclass import check_classification_targets

    paths = _paths(X)
    if paths is None:
        X, y = validate_data(estimator, X, y, dtype=np.float32)
        songs: Any = _check_duration(X, sample_rate=sample_rate)
    else:
        clear_array_attributes(estimator)
        songs, y = paths, column_or_1d(y, warn=True)
        check_consistent_length(songs, y)
    check_classification_targets(y)
    return songs, np.asarray(y)


def as_sources(songs: Songs, *, sample_rate: int) -> list[AudioSource]:
    """Return songs as the sources that :mod:`musgenre.audio` accepts.

    Args:
        songs: Paths or an array.
        sample_rate: Sample rate of the array's rows, in hertz.
    """
    if isinstance(songs, list):
        return list(songs)
    return [(row, sample_rate) for row in repeat_short(songs, sample_rate=sample_rate)]


def repeat_short(waveforms: Waveforms, *, sample_rate: int) -> Iterator[npt.NDArray[np.float32]]:
    """Yield the rows of an array; rows that are too short for audio are repeated up to the shortest length.

    Args:
        waveforms: The rows.
        sample_rate: Their sample rate, in hertz.
    """
    samples = max(waveforms.shape[1], math.ceil(SHORTEST_SECONDS * sample_rate))
    yield from (tile(row, samples) for row in waveforms)


def clear_array_attributes(estimator: Any) -> None:
    """Remove the attributes of an earlier fit on an array from an estimator that is fitted on paths."""
    for name in _ARRAY_ATTRIBUTES:
        vars(estimator).pop(name, None)


def check_names(estimator: Any, input_features: Any) -> None:
    """Check the argument of ``get_feature_names_out`` by scikit-learn's rules, with its messages.

    Raises:
        ParameterError: The names, or their number, differ from those that the estimator was fitted with.
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
    """Return the paths in ``X``, or ``None`` if it has no paths."""
    if isinstance(X, str | os.PathLike):
        raise ParameterError(f"Expected a sequence of paths, got the path {os.fspath(X)!r}: put it in a list.")
    is_list = isinstance(X, Sequence) or getattr(X, "ndim", None) == 1  # an array or a series
    items: list[Any] = list(X) if is_list else []
    is_path = [isinstance(item, str | os.PathLike) for item in items]
    if not any(is_path):
        return None
    if not all(is_path):
        other = items[is_path.index(False)]
        raise ParameterError(f"Expected paths only, or an array of waveforms; one item is {other!r:.80}.")
    return items


def _check_duration(waveforms: Waveforms, *, sample_rate: int) -> Waveforms:
    """Warn about rows that are too short for audio."""
    samples = waveforms.shape[1]
    seconds = samples / sample_rate
    if seconds < SHORTEST_SECONDS:
        warnings.warn(
            f"Each row is a song of {samples} samples, which are {seconds:.4f} s at {sample_rate} Hz: is this an array "
            "of waveforms (songs, samples)?",
            stacklevel=5,
        )
    return waveforms
