from __future__ import annotations

import dataclasses
import hashlib
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from musgenre.core.errors import DatasetError, ParameterError
from musgenre.datasets import gtzan
from musgenre.datasets.base import DatasetWarning
from musgenre.datasets.gtzan import GTZAN
from musgenre.datasets.splits import check_split

GENRES = ("blues", "classical", "country", "disco", "hiphop", "jazz", "metal", "pop", "reggae", "rock")

Tree = Callable[..., Path]


@pytest.fixture
def whole(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A GTZAN of which every file is there, without making a thousand of them."""
    ids = [f"{genre}.{number:05d}" for genre in GENRES for number in range(100)]
    monkeypatch.setattr(gtzan, "_find_files", lambda root: {i: tmp_path / f"{i}.wav" for i in ids})
    monkeypatch.setattr(gtzan, "probe", lambda path: 30.0)
    return tmp_path


def ids(data: GTZAN) -> set[str]:
    return {track.id for track in data}


def test_the_published_counts(whole: Path):
    parts = {split: GTZAN(whole, split=split) for split in ("train", "valid", "test")}
    assert {split: len(data) for split, data in parts.items()} == {"train": 443, "valid": 197, "test": 290}
    union = GTZAN(whole, split="all")
    assert len(union) == 930
    assert set().union(*map(ids, parts.values())) == ids(union)
    assert not any(track.fault == "distorted" for track in union)


def test_all_is_a_hundred_a_genre(whole: Path):
    data = GTZAN(whole, scheme="all")
    assert data.labels == GENRES
    assert data.counts() == dict.fromkeys(GENRES, 100)
    assert Counter(track.fault for track in data) == {
        None: 947, "repeated": 50, "distorted": 2, "corrupt-in-kaggle-copy": 1,
    }  # fmt: skip


def test_artist_folds_keep_artists_apart_and_cover_every_track_once(whole: Path):
    tested: Counter[str] = Counter()
    for fold in (1, 2, 3):
        train = GTZAN(whole, scheme="artist-folds", split="train", fold=fold)
        test = GTZAN(whole, scheme="artist-folds", split="test", fold=fold)
        assert not {track.group for track in train} & {track.group for track in test}
        assert ids(train) | ids(test) == ids(GTZAN(whole, scheme="artist-folds", split="all"))
        check_split(train, test)
        tested.update(ids(test))
    assert len(tested) == 948
    assert set(tested.values()) == {1}
    assert all(track.group for track in train)


def test_one_artist_leaks_in_the_fault_filtered_split_as_published(whole: Path):
    train, valid, test = (GTZAN(whole, split=split) for split in ("train", "valid", "test"))
    check_split(train, valid)
    check_split(valid, test)
    with pytest.raises(DatasetError, match="group 138 on both sides"):
        check_split(train, test)
    assert sum(track.group is None for part in (train, valid, test) for track in part) == 43


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scheme": "random"}, "fault-filtered, artist-folds, all"),
        ({"split": "validation"}, "train, valid, test, all"),
        ({"scheme": "artist-folds", "split": "valid"}, "train, test, all"),
        ({"scheme": "all", "split": "train"}, "no split 'train', only all"),
        ({"scheme": "artist-folds", "fold": 0}, "1, 2 or 3"),
        ({"scheme": "artist-folds", "fold": 4}, "1, 2 or 3"),
        ({"fold": 2}, "outside the scheme"),
    ],
)
def test_what_does_not_go_together_names_what_does(tmp_path: Path, options: dict[str, object], message: str):
    with pytest.raises(ParameterError, match=message):
        GTZAN(tmp_path, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("layout", [".", "genres", "genres_original", "Data/genres_original"])
@pytest.mark.parametrize("suffix", [".wav", ".au", ".flac"])
@pytest.mark.filterwarnings("ignore::musgenre.datasets.base.DatasetWarning")
def test_every_layout_and_format(gtzan_tree: Tree, layout: str, suffix: str):
    root = gtzan_tree(["blues.00000", "rock.00099"], layout=layout, suffix=suffix)
    data = GTZAN(root, scheme="all")
    assert [track.id for track in data] == ["blues.00000", "rock.00099"]
    assert data.labels == GENRES
    assert data.label_indices() == [0, 9]
    assert data[0].path == root / layout / "blues" / f"blues.00000{suffix}"
    assert data[0].duration_seconds == pytest.approx(0.25)


@pytest.mark.filterwarnings("ignore::musgenre.datasets.base.DatasetWarning")
def test_of_two_formats_the_first_of_wav_au_flac(gtzan_tree: Tree):
    for suffix in (".flac", ".wav", ".au"):
        root = gtzan_tree(["pop.00001"], suffix=suffix)
    assert [track.path.suffix for track in GTZAN(root, scheme="all")] == [".wav"]
    (root / "genres/pop/pop.00001.wav").unlink()
    assert [track.path.suffix for track in GTZAN(root, scheme="all")] == [".au"]


def test_tracks_that_cannot_be_used_are_named_once_and_left_out(gtzan_tree: Tree, noise: Callable[..., Path]):
    root = gtzan_tree(["jazz.00053", "jazz.00054", "jazz.00055"])
    (root / "genres/jazz/jazz.00054.wav").write_bytes(b"\x00\x01corrupt" * 500)
    noise(root / "genres/jazz/jazz.00055.wav", seconds=0)
    (root / "genres/jazz/._jazz.00056.wav").write_bytes(b"\x00\x05\x16\x07 macOS")
    with pytest.warns(DatasetWarning) as caught:
        data = GTZAN(root, scheme="all")
    assert [track.id for track in data] == ["jazz.00053"]
    assert len(caught) == 1
    assert caught[0].filename == __file__
    text = str(caught[0].message)
    assert "999 of 1000 tracks" in text
    assert "blues.00000 (no file)" in text
    assert "994 more" in text
    assert "dataset.missing" in text
    assert len(text) < 500
    reasons = {track.id: track.reason for track in data.missing}
    assert len(reasons) == 999
    assert reasons["jazz.00056"] == "no file"
    assert "jazz.00054.wav" in reasons["jazz.00054"]
    assert "jazz.00055.wav" in reasons["jazz.00055"]


def test_only_what_the_split_asks_for_is_missing(whole: Path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert GTZAN(whole, split="valid").missing == ()


def test_the_split_and_the_facts_travel_with_the_tracks(whole: Path):
    data = GTZAN(whole)
    assert (data.name, data.split) == ("GTZAN", "train, fault-filtered")
    assert GTZAN(whole, scheme="artist-folds", fold=3).split == "train, artist-folds, fold 3"
    assert GTZAN(whole, scheme="all").split == "all"
    by_id = {track.id: track for track in data}
    assert by_id["disco.00049"].group == "138"
    assert by_id["jazz.00054"].fault == "corrupt-in-kaggle-copy"


@pytest.mark.parametrize("folder", ["missing", "."])
def test_no_track_at_all(tmp_path: Path, folder: str):
    with pytest.raises(DatasetError, match=r"not a folder|genres_original"):
        GTZAN(tmp_path / folder)


def test_tracks_but_none_of_the_split(gtzan_tree: Tree):
    with pytest.raises(DatasetError, match="none of the 290 tracks"):
        GTZAN(gtzan_tree(["disco.00049"]), split="test")  # a training track


def kaggle_copy(monkeypatch: pytest.MonkeyPatch, root: Path) -> None:
    """Makes the files below a folder the ones that the table knows."""
    facts = {fact.id: fact for fact in gtzan._read_facts()}
    for path in root.rglob("*.wav"):
        content = path.read_bytes()
        if facts[path.stem].wav_sha256:
            digest = hashlib.sha256(content).hexdigest()
            facts[path.stem] = dataclasses.replace(facts[path.stem], wav_bytes=len(content), wav_sha256=digest)
    monkeypatch.setattr(gtzan, "_read_facts", lambda: list(facts.values()))


@pytest.mark.filterwarnings("ignore::musgenre.datasets.base.DatasetWarning")
def test_verify_tells_the_states_apart(gtzan_tree: Tree, monkeypatch: pytest.MonkeyPatch):
    unknown = next(fact.id for fact in gtzan._read_facts() if not fact.wav_sha256)
    good = ["blues.00000", "blues.00001", "blues.00002"]
    root = gtzan_tree([*good, unknown])
    kaggle_copy(monkeypatch, root)
    gtzan_tree(["rock.00001"], suffix=".flac")
    report = GTZAN(root, scheme="all").verify()
    assert report.intact == tuple(good)
    assert report.missing
    assert not report.ok
    reasons = {track.id: track.reason for track in report.unchecked}
    assert reasons.keys() == {unknown, "rock.00001"}
    assert ".flac" in reasons["rock.00001"]
    assert "this track" in reasons[unknown]

    file = root / "genres/blues/blues.00000.wav"
    file.write_bytes(file.read_bytes() + b"\x00")
    file = root / "genres/blues/blues.00001.wav"
    file.write_bytes(file.read_bytes()[:-1] + b"\x55")
    report = GTZAN(root, scheme="all").verify()
    assert (report.wrong_size, report.wrong_checksum) == (("blues.00000",), ("blues.00001",))
    assert report.intact == ("blues.00002",)
    assert "wrong size: 1 (blues.00000)" in str(report)
    assert "unchecked: 2 (" in str(report)


def test_verify_of_a_whole_copy_is_ok(gtzan_tree: Tree, monkeypatch: pytest.MonkeyPatch):
    root = gtzan_tree(["blues.00000", "blues.00001"])
    kaggle_copy(monkeypatch, root)
    facts = [fact for fact in gtzan._read_facts() if fact.id in ("blues.00000", "blues.00001")]
    monkeypatch.setattr(gtzan, "_read_facts", lambda: facts)
    report = GTZAN(root, scheme="all").verify()
    assert report.ok
    assert len(report.intact) == 2


@pytest.mark.filterwarnings("ignore::musgenre.datasets.base.DatasetWarning")
def test_real_music(gtzan_folder: Path):
    data = GTZAN(gtzan_folder, scheme="all")
    assert len(data) == 348
    assert len(data.missing) == 652
    assert sum(data.counts().values()) == 348
    assert min(data.counts().values()) >= 24
    assert sum(track.duration_seconds for track in data) == pytest.approx(40 * 60, rel=0.05)
