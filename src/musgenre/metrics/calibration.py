"""Probabilities that mean what they say."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from musgenre.core.errors import ParameterError
from musgenre.metrics.labels import Floats, Indices

_COLDEST, _HOTTEST = 0.02, 50.0
_STEPS = 80
_GOLDEN = (5**0.5 - 1) / 2


def fit_temperature(logits: Iterable[npt.ArrayLike], truth: Indices) -> float:
    """Returns the temperature at which tracks' probabilities fit the truth best.

    A track's probabilities are the mean over its windows of softmax(logits / temperature), as
    :meth:`musgenre.GenreClassifier.predict` gives them with the temperature in its configuration. The temperature with
    the lowest negative log-likelihood over the tracks is returned. For tracks of one window this is the temperature
    scaling of Guo et al., "On Calibration of Modern Neural Networks", 2017, arXiv:1706.04599; with more windows their
    mean is calibrated, and not each window.

    Fit it on tracks that the model has not learnt from, such as the held-back tracks of a cross-validation.

    Args:
        logits: Of each track, the logits of its windows. Logarithms of probabilities do as well: of windows predicted
            with a temperature of ``t``, the new one is then ``t`` times what is returned.
        truth: Index of each track's label.

    Shape:
        - logits: ``(windows, classes)`` for each track, or ``(classes,)`` for a track of one window

    Returns:
        The temperature: above 1 where the logits are too sure, below 1 where they are not sure enough.

    Raises:
        ParameterError: The lengths differ or are zero, a track has no window or other classes, a logit is not finite,
            a label is out of range; or no temperature from 0.02 to 50 is best (with no mistake at all, the colder
            the better).

    Example:
        >>> sure, torn = [[4.0, 0.0], [4.0, 0.0]], [[4.0, 0.0], [0.0, 4.0]]
        >>> round(fit_temperature([sure, sure, sure, sure, torn], [0, 0, 0, 1, 1]), 3)
        3.641
    """
    rows, starts, counts, right = _joined(logits, truth)

    def loss(log_temperature: float) -> float:
        scaled = rows * np.exp(-log_temperature)
        surprise = np.logaddexp.reduce(scaled, axis=1) - scaled[np.arange(len(rows)), right]
        return float(np.mean(np.log(counts) - np.logaddexp.reduceat(-surprise, starts)))

    # The mean over windows can make a second hollow, so the whole range is looked at before one is gone down.
    grid = np.linspace(np.log(_COLDEST), np.log(_HOTTEST), _STEPS)
    best = int(np.argmin([loss(float(place)) for place in grid]))
    if best in (0, _STEPS - 1):
        tells = "every track is right, or nearly" if best == 0 else "they tell nothing of the truth"
        raise ParameterError(f"No temperature from {_COLDEST} to {_HOTTEST} fits the logits best: {tells}.")
    low, high = float(grid[best - 1]), float(grid[best + 1])
    while high - low > 1e-9:
        lower, upper = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
        low, high = (low, upper) if loss(lower) < loss(upper) else (lower, high)
    return float(np.exp((low + high) / 2))


def _joined(
    logits: Iterable[npt.ArrayLike], truth: Indices
) -> tuple[Floats, npt.NDArray[np.intp], npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """All windows one below the other; where each track starts, its number of windows; each window's true label."""
    tracks = [np.atleast_2d(np.asarray(track, dtype=np.float64)) for track in logits]
    if len(tracks) != len(truth) or not tracks:
        raise ParameterError(f"Expected logits for each of {len(truth)} truths and at least one, got {len(tracks)}.")
    classes = tracks[0].shape[-1]
    wrong = [track.shape for track in tracks if track.ndim != 2 or track.shape[1] != classes or len(track) == 0]
    if wrong:
        raise ParameterError(f"Expected (windows, {classes}) with at least one window a track, got {wrong[0]}.")
    rows = np.concatenate(tracks)
    if not np.isfinite(rows).all():
        raise ParameterError("Expected finite logits; of probabilities that are 0 there is no logarithm.")
    if outside := sorted({int(index) for index in truth if not 0 <= index < classes}):
        raise ParameterError(f"Expected labels from 0 to {classes - 1}, got {outside}.")
    counts = np.array([len(track) for track in tracks])
    return rows, np.cumsum(counts) - counts, counts, np.repeat(np.asarray(truth), counts)
