"""Lists of songs from a folder, a pattern and a manifest, and repeated ids."""

import gc
import threading

import numpy as np
import pytest

from musgenre.core.errors import DatasetError, ParameterError
from musgenre.scale import sources
from musgenre.scale.filesystems import resolve
from musgenre.scale.sources import check_unique_ids, hash_ids, list_songs

pa = pytest.importorskip("pyarrow", reason="PyArrow (the extra 'scale') is not installed")


def rows(location, **options):
    songs = list_songs(location, **{"id_column": "path", **options})
    return [row for batch in songs.batches() for row in batch.to_pylist()]


def test_folder_is_searched_at_any_depth(many_songs):
    found = rows(many_songs)
    assert len(found) == 26
    assert found[0] == {"id": "a/00.wav", "path": str(many_songs / "a" / "00.wav")}
    assert not any(row["id"].endswith(".jpg") for row in found)


def test_hidden_files_are_ignored_and_batches_are_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "BATCH", 2)
    for name in ("a.wav", "b.MP3", "c.flac", ".hidden.wav", ".trash/d.wav"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    songs = list_songs(tmp_path, id_column="path")
    assert [batch["id"].to_pylist() for batch in songs.batches()] == [["a.wav", "b.MP3"], ["c.flac"]]
    assert len(list(songs.batches())) == 2  # a new iterator at each call


@pytest.mark.parametrize(("pattern", "count"), [("**/*.wav", 13), ("*/*.flac", 12), ("a/0*.wav", 5), ("?/04.wav", 1)])
def test_pattern(many_songs, pattern, count):
    found = rows(f"{many_songs}/{pattern}")
    assert len(found) == count
    assert sorted(row["path"] for row in found) == sorted(map(str, many_songs.glob(pattern)))


@pytest.mark.parametrize("kind", ["parquet", "csv"])
def test_manifest(tmp_path, kind):
    import pandas as pd

    table = pd.DataFrame({"track": [7, 8, 9], "path": ["x/one.wav", "/far/two.wav", "s3://bucket/three.wav"]})
    location = tmp_path / f"songs.{kind}"
    table.to_parquet(location) if kind == "parquet" else table.to_csv(location, index=False)
    expected = [str(tmp_path / "x/one.wav"), "/far/two.wav", "s3://bucket/three.wav"]
    found = rows(location, id_column="track")
    assert [row["id"] for row in found] == ["7", "8", "9"]
    assert [row["path"] for row in found] == expected
    assert [row["id"] for row in rows(location)] == ["x/one.wav", "/far/two.wav", "s3://bucket/three.wav"]


def test_invalid_locations(tmp_path, many_songs):
    (tmp_path / "bad.csv").write_text("track,file\n1,a.wav\n")
    (tmp_path / "gap.csv").write_text("track,path\n1,a.wav\n2,\n")
    (tmp_path / "torn.parquet").write_bytes(b"PAR1 torn")
    cases = [
        (tmp_path / "nowhere", {}, "no such folder"),
        (many_songs / "*.mid", {}, "no audio file"),
        (tmp_path / "nowhere.csv", {}, "cannot be read"),
        (tmp_path / "*.csv.parquet", {}, "no manifest"),
        (tmp_path / "bad.csv", {"id_column": "track"}, "needs the column path; it has track, file"),
        (tmp_path / "gap.csv", {"id_column": "track"}, "every song needs both"),
        (tmp_path / "torn.parquet", {}, "cannot be read as a manifest"),
        (many_songs, {"id_column": "track"}, "is not a manifest"),
    ]
    for location, options, message in cases:
        with pytest.raises(DatasetError, match=message):
            rows(location, **options)
    with pytest.raises(ParameterError, match="no file system"):
        resolve("gopher://songs")


def test_repeated_ids_are_found_among_equal_hashes(tmp_path, monkeypatch):
    location = tmp_path / "songs.csv"
    location.write_text("track,path\n" + "".join(f"{number % 8},song{number}.wav\n" for number in range(10)))
    songs = list_songs(location, id_column="track")
    hashes = [hash_ids(batch["id"].to_pylist()) for batch in songs.batches()]
    with pytest.raises(DatasetError, match=r"same id: 0, 1\. Each song"):
        check_unique_ids(songs, hashes)
    # Different ids may have equal hashes.
    songs = list_songs(location, id_column="path")
    monkeypatch.setattr(sources, "hash_ids", lambda ids: np.zeros(len(ids), np.uint64))
    check_unique_ids(songs, [np.zeros(10, np.uint64)])


def test_abandoned_batches_are_collected_without_waiting(tmp_path, monkeypatch):
    """The garbage collector closes an iterator in a reference cycle, and must not wait for PyArrow's threads."""
    import pandas as pd

    monkeypatch.setattr(sources, "BATCH", 2)
    pd.DataFrame({"path": [f"{number}.wav" for number in range(1_000)]}).to_parquet(tmp_path / "songs.parquet")
    songs = list_songs(tmp_path / "songs.parquet", id_column="path")
    for _ in range(20):
        cycle = {"batches": songs.batches()}
        cycle["itself"] = cycle
        assert len(next(cycle["batches"])) == 2
        del cycle
        collector = threading.Thread(target=gc.collect, daemon=True)
        collector.start()
        collector.join(timeout=10)
        assert not collector.is_alive()


def test_hashes_are_independent_of_the_batch():
    names = [f"song {number}" for number in range(1_000)]
    assert np.array_equal(hash_ids(names), np.concatenate([hash_ids(names[:3]), hash_ids(names[3:])]))
    assert np.unique(hash_ids(names)).size == 1_000
