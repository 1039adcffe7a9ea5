"""Aggregation of window probabilities, and metrics of predicted probabilities."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from musgenre.core.errors import ParameterError
from musgenre.metrics.labels import Floats, Indices


def track_probabilities(windows: npt.ArrayLike) -> Floats:
    """Computes the probabilities of a track as the mean over its windows.

    Args:
        windows: Probabilities of the windows; each row sums to 1.

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
        raise ParameterError(f"Expected the shape (windows, classes) with at least one window, got {rows.shape}.")
    mean: Floats = rows.mean(axis=0)
    mean /= mean.sum()  # single-precision rows sum to 1 up to rounding errors only
    return mean


def top_k_accuracy(truth: Indices, probabilities: npt.ArrayLike, *, k: int = 3) -> float:
    """Computes the top-k accuracy: the share of tracks whose true genre is among the ``k`` most probable.

    Ties are resolved in the order of the genres, as in :meth:`musgenre.Prediction.top`.

    Args:
        truth: Index of each track's true label.
        probabilities: Predicted probabilities.
        k: Number of most probable genres, at least 1.

    Shape:
        - probabilities: ``(tracks, classes)``

    Returns:
        The top-k accuracy, in [0, 1].

    Raises:
        ParameterError: The lengths differ or are zero, or ``k`` is less than 1.

    Example:
        >>> top_k_accuracy([0, 1], [[0.2, 0.5, 0.3], [0.2, 0.5, 0.3]], k=2)
        0.5
    """
    return float(in_top(truth, probabilities, k=k).mean())


def in_top(truth: Indices, probabilities: npt.ArrayLike, *, k: int) -> npt.NDArray[np.bool_]:
    """Computes for each prediction whether the true label is among the ``k`` most probable.

    Raises:
        ParameterError: As for :func:`~musgenre.metrics.top_k_accuracy`.
    """
    if k < 1:
        raise ParameterError(f"k must be at least 1, got {k!r}.")
    top = np.argsort(-_checked(truth, probabilities), axis=1, kind="stable")[:, :k]
    found: npt.NDArray[np.bool_] = (top == np.asarray(truth)[:, None]).any(axis=1)
    return found


def reliability(truth: Indices, probabilities: npt.ArrayLike, *, bins: int = 15) -> Floats:
    """Computes the reliability table: counts, confidence and accuracy of predictions, binned by confidence.

    The confidence is the probability of the predicted genre. Bins have equal width: the m-th of M bins contains the
    confidences in ((m - 1) / M, m / M], as in Guo et al., "On Calibration of Modern Neural Networks", 2017,
    arXiv:1706.04599. The tables of several sets of predictions can be added.

    Args:
        truth: Index of the true label of each track or window.
        probabilities: Predicted probabilities.
        bins: Number of bins, at least 1.

    Shape:
        - probabilities: ``(predictions, classes)``
        - Output: ``(bins, 3)``; number of predictions, sum of their confidences, and number of correct predictions

    Raises:
        ParameterError: The lengths differ or are zero, or ``bins`` is less than 1.

    Example:
        >>> reliability([0, 0, 1], [[0.8, 0.2], [0.4, 0.6], [0.0, 1.0]], bins=4)
        array([[0. , 0. , 0. ],
               [0. , 0. , 0. ],
               [1. , 0.6, 0. ],
               [2. , 1.8, 2. ]])

    See Also:
        :func:`~musgenre.plotting.plot_reliability` plots the table.
    """
    if bins < 1:
        raise ParameterError(f"bins must be at least 1, got {bins!r}.")
    rows = _checked(truth, probabilities)
    confidence = rows.max(axis=1)
    correct = rows.argmax(axis=1) == np.asarray(truth)
    # Edges are computed as quotients: 3 / 15 equals 0.2 in floating point, 3 * (1 / 15) does not.
    indices = np.searchsorted(np.arange(1, bins) / bins, confidence, side="left")
    columns = [
        np.bincount(indices, weights=weights, minlength=bins) for weights in (np.ones(len(rows)), confidence, correct)
    ]
    return np.stack(columns, axis=1)


def expected_calibration_error(truth: Indices, probabilities: npt.ArrayLike, *, bins: int = 15) -> float:
    """Computes the expected calibration error (ECE) with bins of equal width.

    The ECE is the mean absolute difference of confidence and accuracy over the bins, weighted by their number of
    predictions (Naeini et al., "Obtaining Well Calibrated Probabilities Using Bayesian Binning", 2015; equation 3 of
    Guo et al., 2017, arXiv:1706.04599). It is 0 if, for instance, 70 % of the predictions with a confidence of 70 % are
    correct.

    Args:
        truth: Index of the true label of each track or window.
        probabilities: Predicted probabilities.
        bins: Number of bins, at least 1.

    Shape:
        - probabilities: ``(predictions, classes)``

    Returns:
        The error, in [0, 1].

    Raises:
        ParameterError: The lengths differ or are zero, or ``bins`` is less than 1.

    Example:
        >>> expected_calibration_error([0, 1], [[0.75, 0.25], [0.75, 0.25]])
        0.25

    See Also:
        :func:`~musgenre.metrics.fit_temperature` calibrates a classifier.
    """
    return calibration_error(reliability(truth, probabilities, bins=bins))


def calibration_error(table: npt.ArrayLike) -> float:
    """Computes the expected calibration error from a table of :func:`~musgenre.metrics.reliability`."""
    counts, confidence, correct = np.asarray(table, dtype=np.float64).T
    return float(np.abs(confidence - correct).sum() / counts.sum())


def _checked(truth: Indices, probabilities: npt.ArrayLike) -> Floats:
    rows = np.asarray(probabilities, dtype=np.float64)
    if rows.ndim != 2 or len(rows) == 0 or len(rows) != len(truth):
        raise ParameterError(
            "Expected the shape (predictions, classes) with one row for each true label and at least one, got "
            f"{rows.shape} for {len(truth)} labels."
        )
    return rows
