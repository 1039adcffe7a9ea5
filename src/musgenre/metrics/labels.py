"""Figures of predicted labels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from musgenre.core.errors import ParameterError

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Indices = Sequence[int] | Integers


def accuracy(truth: Indices, predicted: Indices) -> float:
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
    return float(hits(truth, predicted).mean())


def macro_f1(truth: Indices, predicted: Indices) -> float:
    """Returns the mean over the genres of F1, the harmonic mean of precision and recall.

    A genre that is neither true nor predicted of any track does not count.

    Args:
        truth: Index of each track's label.
        predicted: Index of each track's predicted label.

    Raises:
        ParameterError: The lengths differ or are zero.

    Example:
        >>> macro_f1([0, 0, 1, 1], [0, 1, 1, 1]) == (2 / 3 + 4 / 5) / 2
        True
    """
    tracks = len(hits(truth, predicted))
    found, places = np.unique(np.concatenate([truth, predicted]), return_inverse=True)
    return mean_f1(_count(places[:tracks], places[tracks:], classes=len(found)))


def confusion(truth: Indices, predicted: Indices, *, classes: int) -> Integers:
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
    hits(truth, predicted)
    outside = sorted({int(index) for index in (*truth, *predicted) if not 0 <= index < classes})
    if outside:
        raise ParameterError(f"Expected indices from 0 to {classes - 1}, got {outside}.")
    return _count(np.asarray(truth), np.asarray(predicted), classes=classes)


def genre_scores(matrix: npt.ArrayLike) -> tuple[Floats, Floats, Floats]:
    """Returns precision, recall and F1 of each genre, from a confusion matrix.

    A figure that would be 0 / 0 is 0: the precision of a genre that is never predicted, the recall of one
    that no track has.

    Args:
        matrix: A row is the truth, a column the prediction; counts of at least 0.

    Shape:
        - Input: ``(classes, classes)``
        - Output: ``(classes,)`` each, in [0, 1]

    Example:
        >>> [scores.tolist() for scores in genre_scores([[3, 1], [0, 0]])]
        [[1.0, 0.0], [0.75, 0.0], [0.8571428571428571, 0.0]]
    """
    counts = np.asarray(matrix, dtype=np.float64)
    right, true, predicted = counts.diagonal(), counts.sum(axis=1), counts.sum(axis=0)
    return _ratio(right, predicted), _ratio(right, true), _ratio(2 * right, true + predicted)


def mean_f1(matrix: npt.ArrayLike) -> float:
    """Returns the macro F1 of a confusion matrix: the mean over the genres that are true or predicted of any track."""
    counts = np.asarray(matrix)
    return float(genre_scores(counts)[2][(counts.sum(axis=0) + counts.sum(axis=1)) > 0].mean())


def hits(truth: Indices, predicted: Indices) -> Floats:
    """Returns 1 for each track that is right and 0 for each that is wrong.

    Raises:
        ParameterError: The lengths differ or are zero.
    """
    if len(truth) != len(predicted) or len(truth) == 0:
        raise ParameterError(
            f"Expected as many predictions as truths and at least one, got {len(truth)} and {len(predicted)}."
        )
    right: Floats = np.equal(truth, predicted).astype(np.float64)
    return right


def _count(truth: Integers, predicted: Integers, *, classes: int) -> Integers:
    return np.bincount(truth * classes + predicted, minlength=classes * classes).reshape(classes, classes)


def _ratio(part: Floats, whole: Floats) -> Floats:
    return np.divide(part, whole, out=np.zeros_like(whole), where=whole > 0)
