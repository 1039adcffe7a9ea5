"""From windows to tracks, and from tracks to figures."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from musgenre.errors import ParameterError

Floats = npt.NDArray[np.float64]


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


def accuracy(truth: Sequence[int], predicted: Sequence[int]) -> float:
    """Returns the share of tracks that are right.

    Args:
        truth: Index of each track's label.
        predicted: Index of each track's predicted label.

    Raises:
        ParameterError: The lengths differ or are zero.

    Example:
        >>> accuracy([0, 1, 1, 2], [0, 1, 2, 2])
        0.75
    """
    return float(_right(truth, predicted).mean())


def accuracy_interval(
    truth: Sequence[int], predicted: Sequence[int], *, groups: Sequence[str], draws: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """Returns the 95 % interval of the accuracy by bootstrap over groups.

    Tracks by one artist rise and fall together, so artists are drawn, not tracks: the percentile
    bootstrap over clusters (Davison and Hinkley, "Bootstrap Methods and their Application", 1997,
    section 3.8).

    Args:
        truth: Index of each track's label.
        predicted: Index of each track's predicted label.
        groups: The group (artist) of each track.
        draws: Number of bootstrap samples.
        seed: Seed of the draws.

    Returns:
        The 2.5th and 97.5th percentile, each in [0, 1].

    Raises:
        ParameterError: The lengths differ or are zero, or ``draws`` is.

    Example:
        >>> accuracy_interval([0, 1], [0, 1], groups=["a", "b"])
        (1.0, 1.0)
    """
    right = _right(truth, predicted)
    if len(groups) != len(right):
        raise ParameterError(f"Expected a group for each of {len(right)} tracks, got {len(groups)}.")
    if draws < 1:
        raise ParameterError(f"draws must be at least 1, not {draws!r}.")
    _, member = np.unique(np.asarray(groups), return_inverse=True)
    sizes = np.bincount(member).astype(np.float64)
    hits = np.bincount(member, weights=right)
    drawn = np.random.default_rng(seed).integers(len(sizes), size=(draws, len(sizes)))
    shares = hits[drawn].sum(axis=1) / sizes[drawn].sum(axis=1)
    low, high = np.percentile(shares, [2.5, 97.5])
    return float(low), float(high)


def macro_f1(truth: Sequence[int], predicted: Sequence[int]) -> float:
    """Returns the mean over the genres of F1, the harmonic mean of precision and recall.

    Args:
        truth: Index of each track's label.
        predicted: Index of each track's predicted label.

    Raises:
        ParameterError: The lengths differ or are zero.

    Example:
        >>> macro_f1([0, 0, 1, 1], [0, 1, 1, 1]) == (2 / 3 + 4 / 5) / 2
        True
    """
    from sklearn.metrics import f1_score

    _right(truth, predicted)
    return float(f1_score(truth, predicted, average="macro", zero_division=0.0))


def confusion(truth: Sequence[int], predicted: Sequence[int], *, classes: int) -> npt.NDArray[np.int64]:
    """Returns how often each genre was taken for each.

    Args:
        truth: Index of each track's label.
        predicted: Index of each track's predicted label.
        classes: Number of genres.

    Shape:
        - Output: ``(classes, classes)``; a row is the truth, a column the prediction

    Raises:
        ParameterError: The lengths differ or are zero, or an index is not below ``classes``.

    Example:
        >>> confusion([0, 0, 1], [0, 1, 1], classes=2)
        array([[1, 1],
               [0, 1]])
    """
    from sklearn.metrics import confusion_matrix

    _right(truth, predicted)
    outside = sorted({int(index) for index in (*truth, *predicted) if not 0 <= index < classes})
    if outside:
        raise ParameterError(f"Expected indices from 0 to {classes - 1}, got {outside}.")
    matrix: npt.NDArray[np.int64] = confusion_matrix(truth, predicted, labels=range(classes))
    return matrix


def _right(truth: Sequence[int], predicted: Sequence[int]) -> Floats:
    if len(truth) != len(predicted) or len(truth) == 0:
        raise ParameterError(
            f"Expected as many predictions as truths and at least one, got {len(truth)} and {len(predicted)}."
        )
    right: Floats = np.equal(truth, predicted).astype(np.float64)
    return right
