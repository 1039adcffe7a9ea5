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
from musgenre.datasets.gtzan import GENRES, GTZAN
from musgenre.datasets.splits import check_split

Tree = Callable[..., Path]


@pytest.fixture
def complete(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Simulates a complete copy of GTZAN without writing its files."""
    ids = [f"{genre}.{number:05d}" for genre in GENRES for number in range(100)]
    monkeypatch.setattr(gtzan, "_find_files", lambda root: {i: tmp_path / f"{i}.wav" for i in ids})
    monkeypatch.setattr(gtzan, "probe", lambda path: 30.0)
    return tmp_path


def ids(data: GTZAN) -> set[str]:
    return {track.id for track in data}


def test_published_numbers_of_tracks(complete: Path):
    parts = {split: GTZAN(complete, split=split) for split in ("train", "valid", "test")}
    assert {split: len(data) for split, data in parts.items()} == {"train": 443, "valid": 197, "test": 290}
    union = GTZAN(complete, split="all")
    assert len(union) == 930
    assert set().union(*map(ids, parts.values())) == ids(union)
    assert not any(track.fault == "distorted" for track in union)


def test_all_has_100_tracks_per_genre(complete: Path):
    data = GTZAN(complete, scheme="all")
    assert data.labels == GENRES
    assert data.counts() == dict.fromkeys(GENRES, 100)
    assert Counter(track.fault for track in data) == {
        None: 947, "repeated": 50, "distorted": 2, "corrupt-in-kaggle-copy": 1,
    }  # fmt: skip


def test_artist_folds_have_no_common_artist_and_test_every_track_once(complete: Path):
    tested: Counter[str] = Counter()
    for fold in (1, 2, 3):
        train = GTZAN(complete, scheme="artist-folds", split="train", fold=fold)
        test = GTZAN(complete, scheme="artist-folds", split="test", fold=fold)
        assert not {track.group for track in train} & {track.group for track in test}
        assert ids(train) | ids(test) == ids(GTZAN(complete, scheme="artist-folds", split="all"))
        check_split(train, test)
        tested.update(ids(test))
    assert len(tested) == 948
    assert set(tested.values()) == {1}
    assert all(track.group for track in train)


def test_published_fault_filtered_split_has_one_common_artist(complete: Path):
    train, valid, test = (GTZAN(complete, split=split) for split in ("train", "valid", "test"))
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
def test_invalid_combinations(tmp_path: Path, options: dict[str, object], message: str):
    with pytest.raises(ParameterError, match=message):
        GTZAN(tmp_path, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("layout", [".", "genres", "genres_original", "Data/genres_original"])
@pytest.mark.parametrize("suffix", [".wav", ".au", ".flac"])
@pytest.mark.filterwarnings("ignore::musgenre.datasets.base.DatasetWarning")
def test_layouts_and_formats(gtzan_tree: Tree, layout: str, suffix: str):
    root = gtzan_tree(["blues.00000", "rock.00099"], layout=layout, suffix=suffix)
    data = GTZAN(root, scheme="all")
    assert [track.id for track in data] == ["blues.00000", "rock.00099"]
    assert data.labels == GENRES
    assert data.label_indices() == [0, 9]
    assert data[0].path == root / layout / "blues" / f"blues.00000{suffix}"
    assert data[0].duration_seconds == pytest.approx(0.25)


@pytest.mark.filterwarnings("ignore::musgenre.datasets.base.DatasetWarning")
def test_preferred_format(gtzan_tree: Tree):
    for suffix in (".flac", ".wav", ".au"):
        root = gtzan_tree(["pop.00001"], suffix=suffix)
    assert [track.path.suffix for track in GTZAN(root, scheme="all")] == [".wav"]
    (root / "genres/pop/pop.00001.wav").unlink()
    assert [track.path.suffix for track in GTZAN(root, scheme="all")] == [".au"]


def test_unusable_tracks_are_left_out_with_one_warning(gtzan_tree: Tree, noise: Callable[..., Path]):
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


def test_missing_lists_tracks_of_the_split_only(complete: Path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert GTZAN(complete, split="valid").missing == ()


def test_split_group_and_fault(complete: Path):
    data = GTZAN(complete)
    assert (data.name, data.split) == ("GTZAN", "train, fault-filtered")
    assert GTZAN(complete, scheme="artist-folds", fold=3).split == "train, artist-folds, fold 3"
    assert GTZAN(complete, scheme="all").split == "all"
    by_id = {track.id: track for track in data}
    assert by_id["disco.00049"].group == "138"
    assert by_id["jazz.00054"].fault == "corrupt-in-kaggle-copy"


@pytest.mark.parametrize("folder", ["missing", "."])
def test_folder_without_tracks(tmp_path: Path, folder: str):
    with pytest.raises(DatasetError, match=r"not a folder|genres_original"):
        GTZAN(tmp_path / folder)


def test_folder_without_tracks_of_the_split(gtzan_tree: Tree):
    with pytest.raises(DatasetError, match="none of the 290 tracks"):
        GTZAN(gtzan_tree(["disco.00049"]), split="test")  # a training track


def set_checksums(monkeypatch: pytest.MonkeyPatch, root: Path) -> None:
    """Sets the sizes and checksums in the table to those of the files in a folder."""
    rows = {row.id: row for row in gtzan._read_table()}
    for path in root.rglob("*.wav"):
        content = path.read_bytes()
        if rows[path.stem].wav_sha256:
            digest = hashlib.sha256(content).hexdigest()
            rows[path.stem] = dataclasses.replace(rows[path.stem], wav_bytes=len(content), wav_sha256=digest)
    monkeypatch.setattr(gtzan, "_read_table", lambda: list(rows.values()))


@pytest.mark.filterwarnings("ignore::musgenre.datasets.base.DatasetWarning")
def test_verify_distinguishes_the_states(gtzan_tree: Tree, monkeypatch: pytest.MonkeyPatch):
    unknown = next(row.id for row in gtzan._read_table() if not row.wav_sha256)
    good = ["blues.00000", "blues.00001", "blues.00002"]
    root = gtzan_tree([*good, unknown])
    set_checksums(monkeypatch, root)
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


def test_verify_of_intact_copy(gtzan_tree: Tree, monkeypatch: pytest.MonkeyPatch):
    root = gtzan_tree(["blues.00000", "blues.00001"])
    set_checksums(monkeypatch, root)
    rows = [row for row in gtzan._read_table() if row.id in ("blues.00000", "blues.00001")]
    monkeypatch.setattr(gtzan, "_read_table", lambda: rows)
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
