"""The songs of a folder, a pattern and a manifest, and ids that occur twice."""

import numpy as np
import pytest

from musgenre.core.errors import DatasetError, ParameterError
from musgenre.scale import sources
from musgenre.scale.filesystems import resolve
from musgenre.scale.sources import hashed, refuse_repeats, source_of

pa = pytest.importorskip("pyarrow", reason="PyArrow (the extra 'scale') is not installed")


def rows(place, **options):
    songs = source_of(place, **{"id_column": "path", **options})
    return [row for batch in songs.batches() for row in batch.to_pylist()]


def test_a_folder_is_searched_at_any_depth(many_songs):
    found = rows(many_songs)
    assert len(found) == 26
    assert found[0] == {"id": "a/00.wav", "path": str(many_songs / "a" / "00.wav")}
    assert not any(row["id"].endswith(".jpg") for row in found)


def test_hidden_files_are_left_out_and_batches_are_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "BATCH", 2)
    for name in ("a.wav", "b.MP3", "c.flac", ".hidden.wav", ".trash/d.wav"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    songs = source_of(tmp_path, id_column="path")
    assert [batch["id"].to_pylist() for batch in songs.batches()] == [["a.wav", "b.MP3"], ["c.flac"]]
    assert len(list(songs.batches())) == 2  # anew at each call


@pytest.mark.parametrize(("pattern", "count"), [("**/*.wav", 13), ("*/*.flac", 12), ("a/0*.wav", 5), ("?/04.wav", 1)])
def test_a_pattern(many_songs, pattern, count):
    found = rows(f"{many_songs}/{pattern}")
    assert len(found) == count
    assert sorted(row["path"] for row in found) == sorted(map(str, many_songs.glob(pattern)))


@pytest.mark.parametrize("kind", ["parquet", "csv"])
def test_a_manifest(tmp_path, kind):
    import pandas as pd

    table = pd.DataFrame({"track": [7, 8, 9], "path": ["x/one.wav", "/far/two.wav", "s3://bucket/three.wav"]})
    place = tmp_path / f"songs.{kind}"
    table.to_parquet(place) if kind == "parquet" else table.to_csv(place, index=False)
    expected = [str(tmp_path / "x/one.wav"), "/far/two.wav", "s3://bucket/three.wav"]
    found = rows(place, id_column="track")
    assert [row["id"] for row in found] == ["7", "8", "9"]
    assert [row["path"] for row in found] == expected
    assert [row["id"] for row in rows(place)] == ["x/one.wav", "/far/two.wav", "s3://bucket/three.wav"]


def test_what_is_wrong_with_a_place_is_said(tmp_path, many_songs):
    (tmp_path / "bad.csv").write_text("track,file\n1,a.wav\n")
    (tmp_path / "gap.csv").write_text("track,path\n1,a.wav\n2,\n")
    (tmp_path / "torn.parquet").write_bytes(b"PAR1 torn")
    cases = [
        (tmp_path / "nowhere", {}, "no such folder"),
        (many_songs / "*.mid", {}, "no audio"),
        (tmp_path / "nowhere.csv", {}, "cannot be read"),
        (tmp_path / "*.csv.parquet", {}, "no manifest"),
        (tmp_path / "bad.csv", {"id_column": "track"}, "needs the column path; it has track, file"),
        (tmp_path / "gap.csv", {"id_column": "track"}, "every song needs both"),
        (tmp_path / "torn.parquet", {}, "cannot be read as a manifest"),
        (many_songs, {"id_column": "track"}, "is no manifest"),
    ]
    for place, options, told in cases:
        with pytest.raises(DatasetError, match=told):
            rows(place, **options)
    with pytest.raises(ParameterError, match="no file system"):
        resolve("gopher://songs")


def test_ids_that_occur_twice_are_found_among_equal_hashes(tmp_path, monkeypatch):
    place = tmp_path / "songs.csv"
    place.write_text("track,path\n" + "".join(f"{number % 8},song{number}.wav\n" for number in range(10)))
    songs = source_of(place, id_column="track")
    hashes = [hashed(batch["id"].to_pylist()) for batch in songs.batches()]
    with pytest.raises(DatasetError, match=r"same id: 0, 1\. Each song"):
        refuse_repeats(songs, hashes)
    # Ids whose hashes are equal by chance are no repeats.
    songs = source_of(place, id_column="path")
    monkeypatch.setattr(sources, "hashed", lambda ids: np.zeros(len(ids), np.uint64))
    refuse_repeats(songs, [np.zeros(10, np.uint64)])


def test_hashes_do_not_depend_on_the_batch():
    names = [f"song {number}" for number in range(1_000)]
    assert np.array_equal(hashed(names), np.concatenate([hashed(names[:3]), hashed(names[3:])]))
    assert np.unique(hashed(names)).size == 1_000
