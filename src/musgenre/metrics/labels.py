"""Metrics of predicted labels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from musgenre.core.errors import ParameterError

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Indices = Sequence[int] | Integers


def accuracy(truth: Indices, predicted: Indices) -> float:
    """Computes the accuracy: the share of tracks whose predicted label is the true one.

    Args:
        truth: Index of each track's true label.
        predicted: Index of each track's predicted label.

    Returns:
        The accuracy, in [0, 1].

    Raises:
        ParameterError: The lengths differ or are zero.

    Example:
        >>> accuracy([0, 1, 1, 2], [0, 1, 2, 2])
        0.75

    See Also:
        :func:`~musgenre.metrics.accuracy_interval` computes a confidence interval.
    """
    return float(correct(truth, predicted).mean())


def macro_f1(truth: Indices, predicted: Indices) -> float:
    """Computes the macro F1: the unweighted mean of the F1 scores of the genres.

    F1 is the harmonic mean of precision and recall. Genres that occur neither in the true nor in the predicted labels
    are ignored, as in ``sklearn.metrics.f1_score`` without ``labels``.

    Args:
        truth: Index of each track's true label.
        predicted: Index of each track's predicted label.

    Returns:
        The macro F1, in [0, 1].

    Raises:
        ParameterError: The lengths differ or are zero.

    Example:
        >>> macro_f1([0, 0, 1, 1], [0, 1, 1, 1]) == (2 / 3 + 4 / 5) / 2
        True

    See Also:
        :func:`~musgenre.metrics.genre_scores` computes precision, recall and F1 of each genre.
    """
    tracks = len(correct(truth, predicted))
    present, indices = np.unique(np.concatenate([truth, predicted]), return_inverse=True)
    return mean_f1(_count(indices[:tracks], indices[tracks:], classes=len(present)))


def confusion(truth: Indices, predicted: Indices, *, classes: int) -> Integers:
    """Computes the confusion matrix.

    Args:
        truth: Index of each track's true label.
        predicted: Index of each track's predicted label.
        classes: Number of genres.

    Shape:
        - Output: ``(classes, classes)``; rows are true labels, columns are predicted labels

    Raises:
        ParameterError: The lengths differ or are zero, or an index is not in [0, ``classes``).

    Example:
        >>> confusion([0, 0, 1], [0, 1, 1], classes=2)
        array([[1, 1],
               [0, 1]])

    See Also:
        :func:`~musgenre.plotting.plot_confusion` plots the matrix.
    """
    correct(truth, predicted)
    outside = sorted({int(index) for index in (*truth, *predicted) if not 0 <= index < classes})
    if outside:
        raise ParameterError(f"Expected indices from 0 to {classes - 1}, got {outside}.")
    return _count(np.asarray(truth), np.asarray(predicted), classes=classes)


def genre_scores(matrix: npt.ArrayLike) -> tuple[Floats, Floats, Floats]:
    """Computes precision, recall and F1 of each genre from a confusion matrix.

    A score with a denominator of 0 is 0: the precision of a genre that is never predicted, and the recall of a genre
    without tracks.

    Args:
        matrix: Confusion matrix of non-negative counts; rows are true labels, columns are predicted labels.

    Shape:
        - Input: ``(classes, classes)``
        - Output: ``(classes,)`` each, in [0, 1]

    Example:
        >>> [scores.tolist() for scores in genre_scores([[3, 1], [0, 0]])]
        [[1.0, 0.0], [0.75, 0.0], [0.8571428571428571, 0.0]]
    """
    counts = np.asarray(matrix, dtype=np.float64)
    true_positives, support, predicted = counts.diagonal(), counts.sum(axis=1), counts.sum(axis=0)
    precision, recall = _divide(true_positives, predicted), _divide(true_positives, support)
    return precision, recall, _divide(2 * true_positives, support + predicted)


def mean_f1(matrix: npt.ArrayLike) -> float:
    """Computes the macro F1 from a confusion matrix; see :func:`~musgenre.metrics.macro_f1`."""
    counts = np.asarray(matrix)
    return float(genre_scores(counts)[2][(counts.sum(axis=0) + counts.sum(axis=1)) > 0].mean())


def correct(truth: Indices, predicted: Indices) -> Floats:
    """Returns 1 for each correct and 0 for each wrong prediction.

    Raises:
        ParameterError: The lengths differ or are zero.
    """
    if len(truth) != len(predicted) or len(truth) == 0:
        raise ParameterError(
            f"Expected the same non-zero number of true and predicted labels, got {len(truth)} and {len(predicted)}."
        )
    return np.equal(truth, predicted).astype(np.float64)


def _count(truth: Integers, predicted: Integers, *, classes: int) -> Integers:
    return np.bincount(truth * classes + predicted, minlength=classes * classes).reshape(classes, classes)


def _divide(numerator: Floats, denominator: Floats) -> Floats:
    return np.divide(numerator, denominator, out=np.zeros_like(denominator), where=denominator > 0)
