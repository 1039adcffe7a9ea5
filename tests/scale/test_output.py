"""The dataset: what it refuses, how it is claimed, and that missing and doubled rows are seen."""

import numpy as np
import pytest

from musgenre.core.errors import DatasetError
from musgenre.scale.batches import predict_batch
from musgenre.scale.output import Output
from musgenre.scale.schema import SCHEMA_VERSION, revision_of, schema_of, table_of
from musgenre.scale.sources import hashed, source_of

pa = pytest.importorskip("pyarrow", reason="PyArrow (the extra 'scale') is not installed")
pq = pytest.importorskip("pyarrow.parquet")


@pytest.fixture
def schema(quick):
    return schema_of(quick.config, revision=revision_of(quick))


@pytest.fixture
def table(many_songs, quick, schema):
    paths = [str(many_songs / "a" / name) for name in ("00.wav", "02.wav", "broken.mp3")]
    columns = predict_batch({"id": ["x", "y", "z"], "path": paths}, classifier=quick)
    return table_of(columns, schema)


def test_the_columns_and_their_version(table, schema, quick, tmp_path):
    pq.write_table(table, tmp_path / "rows.parquet")
    read = pq.read_table(tmp_path / "rows.parquet")
    assert read.schema.equals(schema, check_metadata=True)
    assert read.schema.metadata[b"musgenre.schema_version"] == str(SCHEMA_VERSION).encode() == b"1"
    assert read["model"].to_pylist() == ["quick"] * 3
    first, _, broken = read.to_pylist()
    assert first["probabilities"].keys() == set(quick.labels)
    assert first["probabilities"][first["label"]] == first["probability"] == max(first["probabilities"].values())
    assert first["error"] is None
    assert broken["error"]["kind"] == "AudioFileError"
    assert broken["probabilities"] is broken["label"] is None


def test_columns_on_request(quick, many_songs):
    whole = schema_of(quick.config, revision="r", embedding_size=quick.embedding_size, windows=True)
    columns = predict_batch(
        {"path": [str(many_songs / "a" / "00.wav")]}, classifier=quick, embedding=True, windows=True
    )
    row = table_of(columns, whole).to_pylist()[0]
    assert len(row["embedding"]) == quick.embedding_size
    assert [len(window["probabilities"]) for window in row["windows"]] == [3] * len(row["windows"])


def test_a_revision_is_the_weights_and_the_configuration(quick):
    import copy
    import dataclasses

    import torch

    from musgenre.models.classifier import GenreClassifier

    again = GenreClassifier(copy.deepcopy(quick.network), dataclasses.replace(quick.config, scores={"told": 0.5}))
    assert revision_of(again) == revision_of(quick)
    warmer = GenreClassifier(again.network, dataclasses.replace(quick.config, temperature=2.0))
    assert revision_of(warmer) != revision_of(quick)
    with torch.no_grad():
        next(again.network.parameters()).flatten()[0] += 1e-3
    assert revision_of(again) != revision_of(quick)


def test_it_refuses_what_is_not_its_own(tmp_path, many_songs, quick, schema):
    source = source_of(many_songs, id_column="path")
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").touch()
    with pytest.raises(DatasetError, match="holds something else"):
        Output(tmp_path / "photos", schema).check()
    mine = Output(tmp_path / "mine", schema)
    mine.check()
    mine.claim(source)
    mine.check()
    with pytest.raises(DatasetError, match=r"holds rows with revision .*, not 'other'"):
        Output(tmp_path / "mine", schema_of(quick.config, revision="other")).check()
    with pytest.raises(DatasetError, match="columns"):
        Output(tmp_path / "mine", schema_of(quick.config, revision=revision_of(quick), windows=True)).check()
    (tmp_path / "mine" / "_musgenre" / "collection.json").write_text("{torn")
    with pytest.raises(DatasetError, match="cannot be read"):
        Output(tmp_path / "mine", schema).check()


def test_the_songs_are_written_anew_and_nothing_is_taken_for_rows(tmp_path, many_songs, schema):
    mine = Output(tmp_path / "mine", schema)
    mine.claim(source_of(many_songs, id_column="path"))
    mine.claim(source_of(many_songs / "a", id_column="path"))
    listed = pq.read_table(tmp_path / "mine" / "_musgenre" / "songs")
    assert listed["id"].to_pylist()[0] == "00.wav"
    assert mine.present() == mine.verify(np.empty(0, np.uint64)) == 0


def test_a_row_that_is_missing_or_twice_is_seen(tmp_path, table, schema):
    mine = Output(tmp_path, schema)
    planned = hashed(["x", "y", "z"])
    pq.write_table(table, tmp_path / "1.parquet")
    assert mine.verify(planned) == 1
    with pytest.raises(DatasetError, match="1 songs have no row, and 0 rows"):
        mine.verify(hashed(["x", "y", "z", "w"]))
    pq.write_table(table.slice(1, 1), tmp_path / "2.parquet")
    with pytest.raises(DatasetError, match="0 songs have no row, and 1 rows"):
        mine.verify(planned)


def test_what_is_both_pending_and_done_is_pending(tmp_path, schema, many_songs):
    mine = Output(tmp_path, schema)
    mine.claim(source_of(many_songs, id_column="path"))
    done = tmp_path / "_musgenre" / "done"
    for name in ("1.parquet", "2.parquet", "2.pending.parquet", "3.pending.parquet"):
        pq.write_table(pa.table({"id": ["a", "b"]}), done / name)
    assert mine.present() == 4
    mine.settle()
    assert sorted(path.name for path in done.iterdir()) == ["1.parquet", "2.pending.parquet", "3.pending.parquet"]
    assert mine.present() == 2
