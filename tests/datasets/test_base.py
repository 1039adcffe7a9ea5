from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from musgenre.core.errors import DatasetError
from musgenre.datasets.base import DATASETS, Track, TrackDataset, register_dataset
from musgenre.datasets.folder import AudioFolder
from musgenre.datasets.gtzan import GTZAN


def make_track(name: str, label: str = "rock") -> Track:
    return Track(name, Path(f"{name}.wav"), label, group=None, duration_seconds=1.0)


def test_sequence_of_tracks():
    data = TrackDataset(
        [make_track("b"), make_track("a", "jazz")], labels=["jazz", "rock", "zouk"], name="mine", split="train"
    )
    assert [track.id for track in data] == ["b", "a"]
    assert (len(data), data[1].id, data[-1].id) == (2, "a", "a")
    assert data.label_indices() == [1, 0]
    assert data.counts() == {"jazz": 1, "rock": 1, "zouk": 0}
    assert repr(data) == "<mine, train: 2 tracks, 3 labels>"


def test_select_returns_given_order_with_same_labels():
    data = TrackDataset(
        [make_track("a"), make_track("b", "jazz"), make_track("c")], labels=["jazz", "rock"], name="mine", split="train"
    )
    picked = data.select(["c", "a"])
    assert [track.id for track in picked] == ["c", "a"]
    assert (picked.labels, picked.name, picked.split) == (data.labels, data.name, data.split)


@pytest.mark.parametrize(
    ("ids", "message"),
    [(["a", "x", "y"], "no track x, y"), (["a", "a"], "a occurs more than once"), ([], "at least one track")],
)
def test_select_with_invalid_ids(ids: list[str], message: str):
    data = TrackDataset([make_track("a")], labels=["rock"], name="mine")
    with pytest.raises(DatasetError, match=message):
        data.select(ids)


@pytest.mark.parametrize(
    ("tracks", "labels", "message"),
    [
        ([], ["rock"], "at least one track"),
        ([make_track("a"), make_track("a")], ["rock"], "the track a occurs more than once"),
        ([make_track("a")], ["rock", "rock"], "the label rock occurs more than once"),
        ([make_track("a", "polka")], ["jazz", "rock"], "'polka', not one of jazz, rock"),
    ],
)
def test_invalid_tracks_and_labels(tracks: list[Track], labels: list[str], message: str):
    with pytest.raises(DatasetError, match=message):
        TrackDataset(tracks, labels=labels, name="mine")


def test_builtin_names_in_the_registry():
    assert DATASETS.get("gtzan") is GTZAN
    assert DATASETS.get("folder") is AudioFolder
    assert {"gtzan", "folder"} <= set(DATASETS.names())


def test_registered_dataset(request: pytest.FixtureRequest):
    @register_dataset("one-song")
    def one_song(root: str, *, label: str = "rock") -> TrackDataset:
        return TrackDataset([make_track(root, label)], labels=[label], name="one-song")

    request.addfinalizer(lambda: DATASETS.unregister("one-song"))
    assert DATASETS.build("one-song", {"root": "a", "label": "jazz"})[0].label == "jazz"


def test_package_does_not_import_torch():
    code = (
        "import sys, musgenre.datasets as d; d.GTZAN; d.AudioFolder; d.holdout; d.check_split; d.Track;"
        "print(sorted({'torch', 'sklearn', 'lightning'} & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
