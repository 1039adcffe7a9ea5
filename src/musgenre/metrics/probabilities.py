"""From windows to tracks, and figures of probabilities."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from musgenre.core.errors import ParameterError
from musgenre.metrics.labels import Floats, Indices


def track_probabilities(windows: npt.ArrayLike) -> Floats:
    """Returns a track's probabilities: the mean over its windows.

    Args:
        windows: Probabilities, each row summing to 1.

    Shape:
        - Input: ``(windows, classes)``, at least one window
        - Output: ``(classes,)``, summing to 1

    Raises:
        ParameterError: There is no window.

    Example:
        >>> track_probabilities([[0.5, 0.5], [0.75, 0.25]])
        array([0.625, 0.375])
    """
    rows = np.asarray(windows, dtype=np.float64)
    if rows.ndim != 2 or len(rows) == 0:
        raise ParameterError(f"Expected (windows, classes) with at least one window, got the shape {rows.shape}.")
    mean: Floats = rows.mean(axis=0)
    mean /= mean.sum()
    return mean


def top_k_accuracy(truth: Indices, probabilities: npt.ArrayLike, *, k: int = 3) -> float:
    """Returns the share of tracks whose genre is among the ``k`` most probable.

    Of equally probable genres those that come first are taken, as in :meth:`musgenre.Prediction.top`.

    Args:
        truth: Index of each track's label.
        probabilities: What was predicted.
        k: How many genres count, at least 1.

    Shape:
        - probabilities: ``(tracks, classes)``

    Raises:
        ParameterError: The lengths differ or are zero, or ``k`` is below one.

    Example:
        >>> top_k_accuracy([0, 1], [[0.2, 0.5, 0.3], [0.2, 0.5, 0.3]], k=2)
        0.5
    """
    return float(in_top(truth, probabilities, k=k).mean())


def in_top(truth: Indices, probabilities: npt.ArrayLike, *, k: int) -> npt.NDArray[np.bool_]:
    """Says of each prediction whether the truth is among its ``k`` most probable; see :func:`top_k_accuracy`."""
    if k < 1:
        raise ParameterError(f"k must be at least 1, not {k!r}.")
    best = np.argsort(-_rows(truth, probabilities), axis=1, kind="stable")[:, :k]
    found: npt.NDArray[np.bool_] = (best == np.asarray(truth)[:, None]).any(axis=1)
    return found


def reliability(truth: Indices, probabilities: npt.ArrayLike, *, bins: int = 15) -> Floats:
    """Sorts predictions by their confidence, the probability of the predicted genre, into bins of equal width.

    The m-th of M bins holds the confidences in ((m - 1) / M, m / M] (Guo et al., "On Calibration of Modern
    Neural Networks", 2017, arXiv:1706.04599). Tables of several sets of predictions may be added up.

    Args:
        truth: Index of the label of each track or window.
        probabilities: What was predicted.
        bins: How many bins, at least 1.

    Shape:
        - probabilities: ``(predictions, classes)``
        - Output: ``(bins, 3)``; a bin's predictions, the sum of their confidences, and how many of them are right

    Raises:
        ParameterError: The lengths differ or are zero, or ``bins`` is below one.

    Example:
        >>> reliability([0, 0, 1], [[0.8, 0.2], [0.4, 0.6], [0.0, 1.0]], bins=4)
        array([[0. , 0. , 0. ],
               [0. , 0. , 0. ],
               [1. , 0.6, 0. ],
               [2. , 1.8, 2. ]])
    """
    if bins < 1:
        raise ParameterError(f"bins must be at least 1, not {bins!r}.")
    rows = _rows(truth, probabilities)
    confidence = rows.max(axis=1)
    right = rows.argmax(axis=1) == np.asarray(truth)
    # Edges as quotients: 3 / 15 and 0.2 are the same number, 3 * (1 / 15) and 0.2 are not.
    place = np.searchsorted(np.arange(1, bins) / bins, confidence, side="left")
    columns = [
        np.bincount(place, weights=weights, minlength=bins) for weights in (np.ones(len(rows)), confidence, right)
    ]
    return np.stack(columns, axis=1)


def expected_calibration_error(truth: Indices, probabilities: npt.ArrayLike, *, bins: int = 15) -> float:
    """Returns by how much confidence and accuracy differ on average, over bins of equal width.

    0 means that of the predictions made with 70 % confidence 70 % are right, and so on (Naeini et al. 2015; as
    in Guo et al. 2017, arXiv:1706.04599, equation 3).

    Args:
        truth: Index of the label of each track or window.
        probabilities: What was predicted.
        bins: How many bins, at least 1.

    Shape:
        - probabilities: ``(predictions, classes)``

    Returns:
        The error, in [0, 1].

    Raises:
        ParameterError: The lengths differ or are zero, or ``bins`` is below one.

    Example:
        >>> expected_calibration_error([0, 1], [[0.75, 0.25], [0.75, 0.25]])
        0.25
    """
    return calibration_error(reliability(truth, probabilities, bins=bins))


def calibration_error(table: npt.ArrayLike) -> float:
    """Returns the expected calibration error of a table that :func:`reliability` made."""
    counts, confidence, right = np.asarray(table, dtype=np.float64).T
    return float(np.abs(confidence - right).sum() / counts.sum())


def _rows(truth: Indices, probabilities: npt.ArrayLike) -> Floats:
    rows = np.asarray(probabilities, dtype=np.float64)
    if rows.ndim != 2 or len(rows) == 0 or len(rows) != len(truth):
        raise ParameterError(
            f"Expected (predictions, classes) with a row for each truth and at least one, got the shape {rows.shape} "
            f"and {len(truth)} truths."
        )
    return rows
