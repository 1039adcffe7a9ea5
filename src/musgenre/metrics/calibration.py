"""Calibration of classifiers by temperature scaling."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from musgenre.core.errors import ParameterError
from musgenre.metrics.labels import Floats, Indices

_MIN_TEMPERATURE, _MAX_TEMPERATURE = 0.02, 50.0
_GRID_POINTS = 80
_GOLDEN_RATIO = (5**0.5 - 1) / 2


def fit_temperature(logits: Iterable[npt.ArrayLike], truth: Indices) -> float:
    """Fits the temperature that minimises the negative log-likelihood of the tracks' true labels.

    The probabilities of a track are the mean over its windows of softmax(logits / temperature), as in
    :meth:`musgenre.GenreClassifier.predict`. For tracks of a single window this is the temperature scaling of Guo et
    al., "On Calibration of Modern Neural Networks", 2017, arXiv:1706.04599. For tracks of several windows the mean is
    calibrated, not the single windows.

    Use tracks that were not used for training, such as the held-out tracks of a cross-validation.

    Args:
        logits: For each track, the logits of its windows. Logarithms of probabilities are equivalent: if they were
            predicted with a temperature of ``t``, multiply the result by ``t``.
        truth: Index of each track's true label.

    Shape:
        - logits: ``(windows, classes)`` for each track, or ``(classes,)`` for a track of one window

    Returns:
        The temperature: greater than 1 if the classifier is overconfident, less than 1 if it is underconfident.

    Raises:
        ParameterError: The lengths differ or are zero, a track has no window or a different number of classes, a logit
            is not finite, a label is out of range, or the likelihood has no maximum between temperatures of 0.02 and
            50 (if all predictions are correct, it increases as the temperature approaches 0).

    Example:
        >>> agreeing, contradicting = [[4.0, 0.0], [4.0, 0.0]], [[4.0, 0.0], [0.0, 4.0]]
        >>> round(fit_temperature([agreeing] * 4 + [contradicting], [0, 0, 0, 1, 1]), 3)
        3.641

    See Also:
        :func:`~musgenre.metrics.expected_calibration_error` measures the calibration.
    """
    rows, starts, counts, labels = _concatenate(logits, truth)

    def loss(log_temperature: float) -> float:
        scaled = rows * np.exp(-log_temperature)
        window_losses = np.logaddexp.reduce(scaled, axis=1) - scaled[np.arange(len(rows)), labels]
        return float(np.mean(np.log(counts) - np.logaddexp.reduceat(-window_losses, starts)))

    # The mean over windows can cause a second local minimum, so a grid search precedes the golden-section search.
    grid = np.linspace(np.log(_MIN_TEMPERATURE), np.log(_MAX_TEMPERATURE), _GRID_POINTS)
    best = int(np.argmin([loss(float(point)) for point in grid]))
    if best in (0, _GRID_POINTS - 1):
        reason = "(nearly) all tracks are predicted correctly" if best == 0 else "the logits do not predict the labels"
        raise ParameterError(
            f"No temperature between {_MIN_TEMPERATURE} and {_MAX_TEMPERATURE} maximises the likelihood: {reason}."
        )
    low, high = float(grid[best - 1]), float(grid[best + 1])
    while high - low > 1e-9:
        lower, upper = high - _GOLDEN_RATIO * (high - low), low + _GOLDEN_RATIO * (high - low)
        low, high = (low, upper) if loss(lower) < loss(upper) else (lower, high)
    return float(np.exp((low + high) / 2))


def _concatenate(
    logits: Iterable[npt.ArrayLike], truth: Indices
) -> tuple[Floats, npt.NDArray[np.intp], npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Returns all windows as rows, the first row and the number of rows of each track, and the label of each row."""
    tracks = [np.atleast_2d(np.asarray(track, dtype=np.float64)) for track in logits]
    if len(tracks) != len(truth) or not tracks:
        raise ParameterError(f"Expected logits for each of {len(truth)} labels and at least one, got {len(tracks)}.")
    classes = tracks[0].shape[-1]
    wrong = [track.shape for track in tracks if track.ndim != 2 or track.shape[1] != classes or len(track) == 0]
    if wrong:
        raise ParameterError(f"Expected the shape (windows, {classes}) with at least one window, got {wrong[0]}.")
    rows = np.concatenate(tracks)
    if not np.isfinite(rows).all():
        raise ParameterError("Expected finite logits. The logarithm of a probability of 0 is not finite.")
    if outside := sorted({int(index) for index in truth if not 0 <= index < classes}):
        raise ParameterError(f"Expected labels from 0 to {classes - 1}, got {outside}.")
    counts = np.array([len(track) for track in tracks])
    return rows, np.cumsum(counts) - counts, counts, np.repeat(np.asarray(truth), counts)
