"""Splits of tracks by group, and detection of leakage between two sides of a split.

All tracks of a group, such as an artist, are on the same side; a track without a group is a group by itself. Windows
are cut after the split, so no track is on both sides either.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Literal

import numpy as np

from musgenre.core.errors import DatasetError, ParameterError
from musgenre.datasets.base import Track, TrackDataset, abbreviated
from musgenre.datasets.duplicates import same_recordings


def holdout(dataset: TrackDataset, *, fraction: float = 0.2, seed: int = 0) -> tuple[TrackDataset, TrackDataset]:
    """Splits a dataset into a training set and a held-out set, with every genre in both.

    The held-out set is the best balanced of n stratified folds, where n is ``1 / fraction`` rounded. If some genre has
    too few groups for any fold to hold every genre, n is reduced, and the held-out set is larger.

    Args:
        dataset: The tracks.
        fraction: Approximate fraction of held-out tracks, in (0, 0.5].
        seed: Seed for shuffling the groups.

    Returns:
        The training set and the held-out set.

    Raises:
        ParameterError: ``fraction`` is out of range.
        DatasetError: A genre, which is named, has too few tracks or groups to be in both sets.
    """
    if not 0 < fraction <= 0.5:
        raise ParameterError(f"fraction must lie in (0, 0.5], not {fraction!r}.")
    for folds in range(min(round(1 / fraction), _max_folds(dataset)), 1, -1):
        pairs = _fold_indices(dataset, folds=folds, seed=seed)
        complete = [pair for pair in pairs if not any(_absent_labels(dataset, indices) for indices in pair)]
        if complete:
            train, valid = min(complete, key=lambda pair: _imbalance(dataset, pair[1], fraction=1 / folds))
            return _subset(dataset, train), _subset(dataset, valid)
    raise DatasetError(f"{dataset.name}: found no split with every genre on both sides and no group on both sides.")


def group_folds(
    dataset: TrackDataset, *, folds: int = 5, seed: int = 0, groups: Literal["artist"] | None = "artist"
) -> list[tuple[TrackDataset, TrackDataset]]:
    """Splits a dataset for cross-validation. Each track is in the test set of exactly one fold.

    The folds are those of scikit-learn's ``StratifiedGroupKFold``, shuffled. A genre with fewer groups than folds is
    absent from some test sets, but never from a training set.

    Args:
        dataset: The tracks.
        folds: Number of folds, at least 2.
        seed: Seed for shuffling the groups.
        groups: ``"artist"`` keeps the tracks of every group together. ``None`` ignores groups, for measuring how much
            that overestimates accuracy; :func:`check_split` raises an error for such folds.

    Returns:
        A training set and a test set for each fold.

    Raises:
        ParameterError: ``folds`` is below 2, or ``groups`` is invalid.
        DatasetError: There are fewer groups than folds, or a genre, which is named, would be absent from a training
            set.
    """
    if folds < 2:
        raise ParameterError(f"folds must be at least 2, not {folds!r}.")
    if groups not in ("artist", None):
        raise ParameterError(f"groups must be 'artist' or None, not {groups!r}.")
    grouped = dataset if groups else _without_groups(dataset)
    max_folds = _max_folds(grouped)
    if folds > max_folds:
        raise DatasetError(f"{dataset.name} has tracks or groups for at most {max_folds} folds, not for {folds}.")
    pairs = _fold_indices(grouped, folds=folds, seed=seed)
    absent = sorted(set().union(*(_absent_labels(dataset, train) for train, _ in pairs)))
    if absent:
        raise DatasetError(
            f"{dataset.name}: {abbreviated(absent)} would be absent from a training set: too few groups."
        )
    return [(_subset(dataset, train), _subset(dataset, test)) for train, test in pairs]


def check_split(train: TrackDataset, test: TrackDataset, *, allow_leakage: bool = False) -> str | None:
    """Checks that a training set and a test set have no track, file, group or recording in common.

    They are checked in this order. Recordings are the same if their files have equal bytes, or decode to equal samples
    (WAV and FLAC, or other tags). The MP3 of a WAV is not detected. Files that cannot be read are skipped. Stored
    spectrograms are the same recording if they are equal.

    Args:
        train: The training set.
        test: The test set.
        allow_leakage: Whether to return a description of the overlap instead of raising an error.

    Returns:
        ``None`` if there is no overlap; otherwise a description of the first kind of overlap found.

    Raises:
        DatasetError: The sets overlap and ``allow_leakage`` is false, or their labels differ.

    Example:
        >>> from pathlib import Path
        >>> track = Track("song", Path("song.wav"), "rock", group=None, duration_seconds=30.0)
        >>> data = TrackDataset([track], labels=["jazz", "rock"], name="mine")
        >>> check_split(data, data)  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ...
        musgenre.core.errors.DatasetError: <mine: 1 track, 2 labels> and <mine: 1 track, 2 labels> overlap: ...
    """
    if train.labels != test.labels:
        raise DatasetError(
            f"The labels of {train!r} and {test!r} differ: {', '.join(train.labels)} and {', '.join(test.labels)}."
        )
    keys: dict[str, Callable[[Track], str | None]] = {
        "file": lambda track: None if track.path is None else str(track.path.resolve()),
        "group": lambda track: track.group,
    }
    if train.name == test.name:  # ids are unique within a dataset only
        keys = {"track": lambda track: track.id, **keys}
    leak = None
    for kind, key in keys.items():
        shared = sorted({name for name in map(key, train) if name is not None} & set(map(key, test)))
        if shared:
            leak = f"{kind} {abbreviated(shared)} on both sides"
            break
    else:
        if copies := [f"{one} (also {other})" for one, other in same_recordings(train, test)]:
            leak = f"recording {abbreviated(copies)} on both sides"
    if leak is not None and not allow_leakage:
        raise DatasetError(
            f"{train!r} and {test!r} overlap: {leak}. Remove it from one side, or pass allow_leakage=True, which marks "
            "the results as leaky."
        )
    return leak


def _fold_indices(dataset: TrackDataset, *, folds: int, seed: int) -> list[tuple[list[int], list[int]]]:
    from sklearn.model_selection import StratifiedGroupKFold

    # Groups are renumbered in random order here, in the same way as by scikit-learn's shuffle=True, which mixed up
    # groups before version 1.8. The folds are therefore the same with every version.
    _, codes = np.unique(_groups(dataset), return_inverse=True)
    order = np.arange(codes.max() + 1)
    np.random.RandomState(seed).shuffle(order)
    splitter = StratifiedGroupKFold(folds)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # on a genre with fewer tracks than folds, which the callers check
        pairs = list(splitter.split(dataset.tracks, dataset.label_indices(), np.argsort(order)[codes]))
    return [(train.tolist(), test.tolist()) for train, test in pairs]


def _without_groups(dataset: TrackDataset) -> TrackDataset:
    return TrackDataset([replace(track, group=None) for track in dataset], labels=dataset.labels, name=dataset.name)


def _subset(dataset: TrackDataset, indices: list[int]) -> TrackDataset:
    return dataset.select(dataset[index].id for index in indices)


def _groups(dataset: TrackDataset) -> list[str]:
    # The prefixes distinguish a group from a track of the same name.
    return [f"track {track.id}" if track.group is None else f"group {track.group}" for track in dataset]


def _absent_labels(dataset: TrackDataset, indices: list[int]) -> set[str]:
    return set(dataset.labels) - {dataset[index].label for index in indices}


def _imbalance(dataset: TrackDataset, indices: list[int], *, fraction: float) -> float:
    selected = Counter(dataset[index].label for index in indices)
    return sum(abs(selected[label] / count - fraction) for label, count in dataset.counts().items())


def _max_folds(dataset: TrackDataset) -> int:
    """Returns the largest possible number of folds, at least 2; raises an error that names genres with one group."""
    groups = _groups(dataset)
    by_label: dict[str, set[str]] = {label: set() for label in dataset.labels}
    for group, track in zip(groups, dataset, strict=True):
        by_label[track.label].add(group)
    few = [f"{label} ({len(names)})" for label, names in by_label.items() if len(names) < 2]
    if few:
        raise DatasetError(
            f"{dataset.name}: a split needs tracks of at least two groups in every genre; too few groups: "
            f"{abbreviated(few)}. A track without a group counts as one group."
        )
    return min(len(set(groups)), max(dataset.counts().values()))
