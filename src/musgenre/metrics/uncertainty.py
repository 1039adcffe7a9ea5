"""Confidence intervals and significance tests."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from musgenre.core.errors import ParameterError
from musgenre.metrics.labels import Indices, Integers, correct


def bootstrap_interval(
    statistic: Callable[[Integers], float], *, groups: Sequence[str], draws: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """Computes a 95 % confidence interval of any statistic by the percentile bootstrap over groups.

    Tracks by the same artist are not independent, so groups are resampled instead of tracks: the bootstrap for
    clustered data (Davison and Hinkley, "Bootstrap Methods and their Application", 1997, section 3.8).

    Args:
        statistic: Function of the indices of a sample of tracks, ``(sample size,)``. A track occurs as often as its
            group was drawn.
        groups: Group (artist) of each track.
        draws: Number of bootstrap samples, at least 1.
        seed: Seed of the random number generator.

    Returns:
        The 2.5th and 97.5th percentile of the statistic.

    Raises:
        ParameterError: There is no track, or ``draws`` is less than 1.

    Example:
        >>> seconds = np.array([10.0, 12.0, 30.0])
        >>> bootstrap_interval(lambda rows: seconds[rows].mean(), groups=["a", "a", "b"])
        (11.0, 30.0)
    """
    if draws < 1:
        raise ParameterError(f"draws must be at least 1, got {draws!r}.")
    if len(groups) == 0:
        raise ParameterError("Expected at least one track, got no groups.")
    names, members = np.unique(np.asarray(groups), return_inverse=True)
    drawn = np.random.default_rng(seed).integers(len(names), size=(draws, len(names)))
    indices = np.arange(len(members))
    counts = (np.bincount(draw, minlength=len(names))[members] for draw in drawn)
    low, high = np.percentile([statistic(np.repeat(indices, repeats)) for repeats in counts], [2.5, 97.5])
    return float(low), float(high)


def accuracy_interval(
    truth: Indices, predicted: Indices, *, groups: Sequence[str], draws: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """Computes a 95 % confidence interval of the accuracy by bootstrap over groups.

    Args:
        truth: Index of each track's true label.
        predicted: Index of each track's predicted label.
        groups: Group (artist) of each track.
        draws: Number of bootstrap samples, at least 1.
        seed: Seed of the random number generator.

    Returns:
        The 2.5th and 97.5th percentile, each in [0, 1].

    Raises:
        ParameterError: The lengths differ or are zero, or ``draws`` is less than 1.

    Example:
        >>> accuracy_interval([0, 1], [0, 1], groups=["a", "b"])
        (1.0, 1.0)

    See Also:
        :func:`~musgenre.metrics.bootstrap_interval` accepts any statistic.
    """
    hits = correct(truth, predicted)
    if len(groups) != len(hits):
        raise ParameterError(f"Expected a group for each of {len(hits)} tracks, got {len(groups)}.")
    return bootstrap_interval(lambda rows: float(hits[rows].mean()), groups=groups, draws=draws, seed=seed)


def mcnemar(only_first: int, only_second: int) -> float:
    """Computes the two-sided p-value of McNemar's exact test for the difference of two classifiers.

    The null hypothesis is that both classifiers are equally accurate. Then each track that only one of them predicts
    correctly is equally likely to be either's, and the counts follow a binomial distribution (McNemar, "Note on the
    sampling error of the difference between correlated proportions or percentages", 1947).

    Args:
        only_first: Number of tracks that only the first classifier predicts correctly.
        only_second: Number of tracks that only the second classifier predicts correctly.

    Returns:
        The p-value, in (0, 1].

    Raises:
        ParameterError: A count is negative.

    Example:
        >>> mcnemar(0, 5)
        0.0625
    """
    if min(only_first, only_second) < 0:
        raise ParameterError(f"Counts must not be negative, got {only_first!r} and {only_second!r}.")
    trials = only_first + only_second
    tail = sum(math.comb(trials, successes) for successes in range(min(only_first, only_second) + 1))
    return min(1.0, 2 * tail / (1 << trials))
