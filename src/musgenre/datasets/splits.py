"""Splits of tracks that keep every group on one side.

Where an artist is known, all of the artist's tracks go to one side; a track without a group moves alone.
Windows are cut afterwards, so no track is on both sides either.
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
    """Divides a dataset in two, with every genre on both sides.

    The second side is the most evenly mixed of n stratified folds, with n nearest to ``1 / fraction``. Where a
    genre has so few groups that no fold holds every genre, n falls until one does, and the second side is larger.

    Args:
        dataset: The tracks.
        fraction: Wished share of the second side, in (0, 0.5].
        seed: Seed of the folds' shuffle.

    Returns:
        The larger side, to train on, and the smaller one, to validate on.

    Raises:
        ParameterError: ``fraction`` is out of range.
        DatasetError: A genre has too few tracks or groups to be on both sides; it is named.
    """
    if not 0 < fraction <= 0.5:
        raise ParameterError(f"fraction must lie in (0, 0.5], not {fraction!r}.")
    for folds in range(min(round(1 / fraction), _most_folds(dataset)), 1, -1):
        pairs = _fold_indices(dataset, folds=folds, seed=seed)
        whole = [pair for pair in pairs if not _absent(dataset, pair[0]) and not _absent(dataset, pair[1])]
        if whole:
            train, valid = min(whole, key=lambda pair: _imbalance(dataset, pair[1], share=1 / folds))
            return _take(dataset, train), _take(dataset, valid)
    raise DatasetError(f"{dataset.name}: found no split with every genre on both sides and no group on both.")


def group_folds(
    dataset: TrackDataset, *, folds: int = 5, seed: int = 0, groups: Literal["artist"] | None = "artist"
) -> list[tuple[TrackDataset, TrackDataset]]:
    """Divides a dataset for cross-validation: each track is in the test set of exactly one fold.

    The folds are those of scikit-learn's ``StratifiedGroupKFold``, shuffled. A genre with fewer groups than
    there are folds is absent from some test sets, never from a training set.

    Args:
        dataset: The tracks.
        folds: How many, at least 2.
        seed: Seed of the shuffle.
        groups: ``"artist"`` keeps every group on one side. ``None`` divides tracks whatever their group, to see
            how much that flatters; :func:`check_split` refuses what comes of it.

    Returns:
        A pair of training and test set a fold.

    Raises:
        ParameterError: ``folds`` is below 2, or ``groups`` is none of these.
        DatasetError: There are fewer groups than folds, or a genre would be absent from a training set; it is named.
    """
    if folds < 2:
        raise ParameterError(f"folds must be at least 2, not {folds!r}.")
    if groups not in ("artist", None):
        raise ParameterError(f"groups must be 'artist' or None, not {groups!r}.")
    divided = dataset if groups else _without_groups(dataset)
    most = _most_folds(divided)
    if folds > most:
        raise DatasetError(f"{dataset.name} has tracks or groups for at most {most} folds, not for {folds}.")
    pairs = _fold_indices(divided, folds=folds, seed=seed)
    absent = sorted(set().union(*(_absent(dataset, train) for train, _ in pairs)))
    if absent:
        raise DatasetError(
            f"{dataset.name}: {abbreviated(absent)} would be absent from a training set: too few groups."
        )
    return [(_take(dataset, train), _take(dataset, test)) for train, test in pairs]


def check_split(train: TrackDataset, test: TrackDataset, *, allow_leakage: bool = False) -> str | None:
    """Makes sure that what a model is measured on has nothing of what it was trained on.

    Looked for are, in this order, the same track, the same file, the same group (artist), and the same recording in
    two files: of equal bytes, or of other bytes (WAV and FLAC, other tags) that decode to equal samples. The MP3 of a
    WAV is not found. A file that cannot be read is passed over; what reads it next says so.

    Args:
        train: What the model was trained on.
        test: What it is measured on.
        allow_leakage: Whether what is on both sides is returned instead of raised.

    Returns:
        ``None`` for a clean split, else what is on both sides; of several kinds, the first.

    Raises:
        DatasetError: Something is on both sides, and is named; or the labels differ.

    Example:
        >>> from pathlib import Path
        >>> song = Track("song", Path("song.wav"), "rock", group=None, duration_seconds=30.0)
        >>> data = TrackDataset([song], labels=["jazz", "rock"], name="mine")
        >>> check_split(data, data)  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ...
        musgenre.core.errors.DatasetError: <mine: 1 track, 2 labels> and <mine: 1 track, 2 labels> are no clean ...
    """
    if train.labels != test.labels:
        raise DatasetError(
            f"The labels of {train!r} and {test!r} differ: {', '.join(train.labels)} and {', '.join(test.labels)}."
        )
    keys: dict[str, Callable[[Track], str | None]] = {
        "file": lambda track: str(track.path.resolve()),
        "group": lambda track: track.group,
    }
    if train.name == test.name:  # an id means something within one dataset only
        keys = {"track": lambda track: track.id, **keys}
    for what, key in keys.items():
        shared = sorted({name for name in map(key, train) if name is not None} & set(map(key, test)))
        if shared:
            return _leak(f"{what} {abbreviated(shared)}", train, test=test, allowed=allow_leakage)
    if copies := [f"{one} (also {other})" for one, other in same_recordings(train, test)]:
        return _leak(f"recording {abbreviated(copies)}", train, test=test, allowed=allow_leakage)
    return None


def _leak(what: str, train: TrackDataset, *, test: TrackDataset, allowed: bool) -> str:
    told = f"{what} on both sides"
    if not allowed:
        raise DatasetError(
            f"{train!r} and {test!r} are no clean split: {told}. Leave it out of one side, or go on with "
            "allow_leakage=True, which marks what is measured as leaky."
        )
    return told


def _fold_indices(dataset: TrackDataset, *, folds: int, seed: int) -> list[tuple[list[int], list[int]]]:
    from sklearn.model_selection import StratifiedGroupKFold

    # Groups are renumbered in a random order here, by scikit-learn's own rule for shuffle=True, because its shuffle
    # took one group's tracks for another's before version 1.8. So the folds are the same with every version.
    _, codes = np.unique(_groups(dataset), return_inverse=True)
    order = np.arange(codes.max() + 1)
    np.random.RandomState(seed).shuffle(order)
    splitter = StratifiedGroupKFold(folds)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # on a genre with fewer tracks than folds: judged by the caller
        pairs = list(splitter.split(dataset.tracks, dataset.label_indices(), np.argsort(order)[codes]))
    return [(train.tolist(), test.tolist()) for train, test in pairs]


def _without_groups(dataset: TrackDataset) -> TrackDataset:
    return TrackDataset([replace(track, group=None) for track in dataset], labels=dataset.labels, name=dataset.name)


def _take(dataset: TrackDataset, indices: list[int]) -> TrackDataset:
    return dataset.select(dataset[index].id for index in indices)


def _groups(dataset: TrackDataset) -> list[str]:
    # The prefixes keep a group apart from a track of the same name.
    return [f"track {track.id}" if track.group is None else f"group {track.group}" for track in dataset]


def _absent(dataset: TrackDataset, indices: list[int]) -> set[str]:
    return set(dataset.labels) - {dataset[index].label for index in indices}


def _imbalance(dataset: TrackDataset, indices: list[int], *, share: float) -> float:
    taken = Counter(dataset[index].label for index in indices)
    return sum(abs(taken[label] / count - share) for label, count in dataset.counts().items())


def _most_folds(dataset: TrackDataset) -> int:
    """The most folds that can be made; at least two, or an error that names the genres in the way."""
    groups = _groups(dataset)
    held = {label: {groups[i] for i, track in enumerate(dataset) if track.label == label} for label in dataset.labels}
    few = [f"{label} ({len(names)})" for label, names in held.items() if len(names) < 2]
    if few:
        raise DatasetError(
            f"{dataset.name}: every genre needs tracks of at least two groups to be split; too few groups: "
            f"{abbreviated(few)}. A track without a group counts as one of its own."
        )
    return min(len(set(groups)), max(dataset.counts().values()))
