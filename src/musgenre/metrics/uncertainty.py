"""How sure one can be of a figure, and of a difference."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from musgenre.core.errors import ParameterError
from musgenre.metrics.labels import Indices, Integers, hits


def bootstrap_interval(
    statistic: Callable[[Integers], float], *, groups: Sequence[str], draws: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """Returns the 95 % interval of any figure by bootstrap over groups.

    Tracks by one artist rise and fall together, so artists are drawn, not tracks: the percentile
    bootstrap over clusters (Davison and Hinkley, "Bootstrap Methods and their Application", 1997,
    section 3.8).

    Args:
        statistic: Gives the figure of some tracks. It is called with their places, ``(drawn tracks,)``, in which a
            track stands as often as its group was drawn.
        groups: The group (artist) of each track.
        draws: Number of bootstrap samples, at least 1.
        seed: Seed of the draws.

    Returns:
        The 2.5th and 97.5th percentile.

    Raises:
        ParameterError: There is no track, or ``draws`` is too small.

    Example:
        >>> seconds = np.array([10.0, 12.0, 30.0])
        >>> bootstrap_interval(lambda rows: seconds[rows].mean(), groups=["a", "a", "b"])
        (11.0, 30.0)
    """
    if draws < 1:
        raise ParameterError(f"draws must be at least 1, not {draws!r}.")
    if len(groups) == 0:
        raise ParameterError("Expected at least one track, got no groups.")
    names, member = np.unique(np.asarray(groups), return_inverse=True)
    drawn = np.random.default_rng(seed).integers(len(names), size=(draws, len(names)))
    places = np.arange(len(member))
    times = (np.bincount(draw, minlength=len(names))[member] for draw in drawn)
    low, high = np.percentile([statistic(np.repeat(places, repeats)) for repeats in times], [2.5, 97.5])
    return float(low), float(high)


def accuracy_interval(
    truth: Indices, predicted: Indices, *, groups: Sequence[str], draws: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """Returns the 95 % interval of the accuracy by bootstrap over groups; see :func:`bootstrap_interval`.

    Args:
        truth: Index of each track's label.
        predicted: Index of each track's predicted label.
        groups: The group (artist) of each track.
        draws: Number of bootstrap samples, at least 1.
        seed: Seed of the draws.

    Returns:
        The 2.5th and 97.5th percentile, each in [0, 1].

    Raises:
        ParameterError: The lengths differ or are zero, or ``draws`` is.

    Example:
        >>> accuracy_interval([0, 1], [0, 1], groups=["a", "b"])
        (1.0, 1.0)
    """
    right = hits(truth, predicted)
    if len(groups) != len(right):
        raise ParameterError(f"Expected a group for each of {len(right)} tracks, got {len(groups)}.")
    return bootstrap_interval(lambda rows: float(right[rows].mean()), groups=groups, draws=draws, seed=seed)


def mcnemar(first_alone: int, second_alone: int) -> float:
    """Returns the p value of McNemar's exact test: how likely so uneven counts are if two models are equally good.

    Only the tracks on which one of them is right and the other wrong say anything; if the models are equally good,
    each of these falls to either side like a coin (McNemar, "Note on the sampling error of the difference between
    correlated proportions or percentages", 1947; the two-sided binomial test).

    Args:
        first_alone: On how many tracks only the first is right.
        second_alone: On how many tracks only the second is right.

    Returns:
        The p value, in (0, 1].

    Raises:
        ParameterError: A count is negative.

    Example:
        >>> mcnemar(0, 5)
        0.0625
    """
    if min(first_alone, second_alone) < 0:
        raise ParameterError(f"Counts must not be negative, got {first_alone!r} and {second_alone!r}.")
    tosses = first_alone + second_alone
    tail = sum(math.comb(tosses, heads) for heads in range(min(first_alone, second_alone) + 1))
    return min(1.0, 2 * tail / (1 << tosses))
