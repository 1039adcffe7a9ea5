from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from musgenre.core.errors import DatasetError, ParameterError
from musgenre.datasets.base import Track, TrackDataset
from musgenre.datasets.gtzan import GTZAN
from musgenre.datasets.splits import check_split, group_folds, holdout

Make = Callable[..., TrackDataset]

GROUPS = st.one_of(st.none(), st.sampled_from("abcdefgh"))
PAIRS = st.lists(st.tuples(st.sampled_from(["jazz", "pop", "rock"]), GROUPS), min_size=4, max_size=40)
QUICK = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def check_sides(train: TrackDataset, test: TrackDataset, *, dataset: TrackDataset) -> None:
    check_split(train, test)
    assert Counter([*train, *test]) == Counter(dataset)
    assert train.labels == test.labels == dataset.labels
    groups = [{track.group for track in side} - {None} for side in (train, test)]
    assert not groups[0] & groups[1]


@QUICK
@given(pairs=PAIRS, seed=st.integers(0, 3), fraction=st.sampled_from([0.1, 0.2, 0.34, 0.5]))
def test_holdout_splits_by_group_or_raises(
    make_dataset: Make, pairs: list[tuple[str, str | None]], seed: int, fraction: float
):
    data = make_dataset(pairs)
    try:
        train, valid = holdout(data, fraction=fraction, seed=seed)
    except DatasetError:
        return
    check_sides(train, valid, dataset=data)
    assert all(train.counts().values())
    assert all(valid.counts().values())


@QUICK
@given(pairs=PAIRS, seed=st.integers(0, 3), folds=st.integers(2, 5))
def test_group_folds_split_by_group_and_test_each_track_once(
    make_dataset: Make, pairs: list[tuple[str, str | None]], seed: int, folds: int
):
    data = make_dataset(pairs)
    try:
        parts = group_folds(data, folds=folds, seed=seed)
    except DatasetError:
        return
    assert len(parts) == folds
    for train, test in parts:
        check_sides(train, test, dataset=data)
        assert all(train.counts().values())
    assert Counter(track.id for _, test in parts for track in test) == {track.id: 1 for track in data}


@QUICK
@given(pairs=PAIRS, seed=st.integers(0, 3), folds=st.integers(2, 5))
def test_group_folds_without_groups_split_tracks(
    make_dataset: Make, pairs: list[tuple[str, str | None]], seed: int, folds: int
):
    data, alone = make_dataset(pairs), make_dataset((label, None) for label, _ in pairs)
    try:
        parts = group_folds(data, folds=folds, seed=seed, groups=None)
    except DatasetError:
        with pytest.raises(DatasetError):
            group_folds(alone, folds=folds, seed=seed)
        return
    for (train, test), others in zip(parts, group_folds(alone, folds=folds, seed=seed), strict=True):
        assert [[track.id for track in side] for side in (train, test)] == [[t.id for t in side] for side in others]
        assert Counter([*train, *test]) == Counter(data)  # including their groups
        shared = {track.group for track in train} & {track.group for track in test} - {None}
        leak = check_split(train, test, allow_leakage=True)
        assert leak == (f"group {', '.join(sorted(shared))} on both sides" if shared else None) or len(shared) > 5


@given(labels=st.integers(2, 5), groups=st.integers(2, 6), size=st.integers(1, 3), seed=st.integers(0, 3))
@QUICK
def test_holdout_succeeds_with_two_artists_in_each_genre(
    make_dataset: Make, labels: int, groups: int, size: int, seed: int
):
    data = make_dataset(
        (f"genre {label}", f"{label}/{group}")
        for label in range(labels)
        for group in range(groups)
        for _ in range(size)
    )
    train, valid = holdout(data, seed=seed)
    check_sides(train, valid, dataset=data)
    assert len(valid) <= len(train)


def test_holdout_follows_fraction_and_seed(make_dataset: Make):
    data = make_dataset(("jazz" if number % 3 else "rock", f"artist {number // 2}") for number in range(300))
    valid = holdout(data, fraction=0.2, seed=1)[1]
    assert len(valid) == pytest.approx(60, abs=3)
    assert valid.counts()["rock"] == pytest.approx(20, abs=3)
    assert holdout(data, fraction=0.2, seed=1)[1].tracks == valid.tracks
    assert holdout(data, fraction=0.2, seed=2)[1].tracks != valid.tracks
    assert len(holdout(data, fraction=0.34, seed=1)[1]) == pytest.approx(100, abs=3)


def test_genre_with_one_artist(make_dataset: Make):
    data = make_dataset([*[("rock", f"artist {n}") for n in range(9)], *[("polka", "Štern")] * 9])
    for split in (holdout, group_folds):
        with pytest.raises(DatasetError, match=r"polka \(1\)"):
            split(data)


def test_artists_of_several_genres_may_prevent_a_split(make_dataset: Make):
    data = make_dataset(
        [("jazz", "a"), ("pop", "a"), ("jazz", "b"), ("rock", "b"), ("pop", "c"), ("rock", "c")] * 3
    )  # a side with a single artist always lacks a genre
    with pytest.raises(DatasetError, match="found no split"):
        holdout(data)
    with pytest.raises(DatasetError, match="absent from a training set"):
        group_folds(data, folds=2)


def test_genre_without_tracks(make_dataset: Make):
    data = make_dataset([("rock", None), ("rock", None)])
    extended = TrackDataset(data.tracks, labels=["polka", "rock"], name="made")
    with pytest.raises(DatasetError, match=r"polka \(0\)"):
        holdout(extended)


def test_too_many_folds(make_dataset: Make):
    with pytest.raises(DatasetError, match="at most 3 folds, not for 5"):
        group_folds(make_dataset([(label, None) for label in ("jazz", "rock") for _ in range(3)]))
    data = make_dataset([(label, group) for label in ("jazz", "rock") for group in "ab" for _ in range(9)])
    with pytest.raises(DatasetError, match="at most 2 folds, not for 5"):
        group_folds(data)


@pytest.mark.parametrize("fraction", [0.0, -0.1, 0.6, float("nan")])
def test_fractions_out_of_range(make_dataset: Make, fraction: float):
    with pytest.raises(ParameterError, match="fraction"):
        holdout(make_dataset([("rock", None)]), fraction=fraction)


def test_too_few_folds(make_dataset: Make):
    with pytest.raises(ParameterError, match="folds"):
        group_folds(make_dataset([("rock", None)]), folds=1)


def test_unknown_groups(make_dataset: Make):
    with pytest.raises(ParameterError, match="groups must be 'artist' or None, not 'album'"):
        group_folds(make_dataset([("rock", None)]), groups="album")  # type: ignore[arg-type]


def test_empty_dataset(make_dataset: Make):
    with pytest.raises(DatasetError, match="made: a dataset needs at least one track"):
        make_dataset([("rock", None)]).select([])
    with pytest.raises(DatasetError, match=r"mine \(test\): a dataset needs"):
        TrackDataset([], labels=["rock"], name="mine", split="test")


def make_track(name: str, *, path: Path | None = None, group: str | None = None) -> Track:
    return Track(name, path or Path(f"{name}.wav"), "rock", group, duration_seconds=1.0)


def single(track: Track, *, name: str = "mine") -> TrackDataset:
    return TrackDataset([track], labels=["jazz", "rock"], name=name)


def test_check_split_names_the_overlap(tmp_path: Path):
    check_split(single(make_track("a")), single(make_track("b")))
    with pytest.raises(DatasetError, match="track a on both"):
        check_split(single(make_track("a")), single(make_track("a", path=Path("copy.wav"))))
    with pytest.raises(DatasetError, match="group Ella on both"):
        check_split(single(make_track("a", group="Ella")), single(make_track("b", group="Ella")))
    (tmp_path / "a.wav").touch()
    (tmp_path / "b.wav").symlink_to(tmp_path / "a.wav")
    with pytest.raises(DatasetError, match=r"file .*a\.wav on both"):
        check_split(single(make_track("a", path=tmp_path / "a.wav")), single(make_track("b", path=tmp_path / "b.wav")))


def test_equal_ids_in_two_datasets_are_no_overlap():
    check_split(
        single(make_track("rock/1", path=Path("x/1.wav")), name="x"),
        single(make_track("rock/1", path=Path("y/1.wav")), name="y"),
    )


def test_check_split_requires_equal_labels():
    other = TrackDataset([replace(make_track("b"), label="rock")], labels=["rock", "jazz"], name="mine")
    with pytest.raises(DatasetError, match="differ: jazz, rock and rock, jazz"):
        check_split(single(make_track("a")), other)


@pytest.mark.filterwarnings("ignore::musgenre.datasets.base.DatasetWarning")
def test_real_artists(gtzan_folder: Path):
    data = GTZAN(gtzan_folder, scheme="all")
    train, valid = holdout(data)  # blues has three artists only
    check_sides(train, valid, dataset=data)
    for train, test in group_folds(data):
        check_sides(train, test, dataset=data)
