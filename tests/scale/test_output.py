"""The output of a collection: metadata, checkpoint, and detection of missing and repeated rows."""

import numpy as np
import pytest

from musgenre.core.errors import DatasetError
from musgenre.scale.batches import predict_batch
from musgenre.scale.output import Output
from musgenre.scale.schema import SCHEMA_VERSION, collection_schema, model_revision, to_table
from musgenre.scale.sources import hash_ids, list_songs

pa = pytest.importorskip("pyarrow", reason="PyArrow (the extra 'scale') is not installed")
pq = pytest.importorskip("pyarrow.parquet")


@pytest.fixture
def schema(quick):
    return collection_schema(quick.config, revision=model_revision(quick))


@pytest.fixture
def table(many_songs, quick, schema):
    paths = [str(many_songs / "a" / name) for name in ("00.wav", "02.wav", "broken.mp3")]
    columns = predict_batch({"id": ["x", "y", "z"], "path": paths}, classifier=quick)
    return to_table(columns, schema)


def test_schema_and_version(table, schema, quick, tmp_path):
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


def test_optional_columns(quick, many_songs):
    schema = collection_schema(quick.config, revision="r", embedding_size=quick.embedding_size, windows=True)
    columns = predict_batch(
        {"path": [str(many_songs / "a" / "00.wav")]}, classifier=quick, embedding=True, windows=True
    )
    row = to_table(columns, schema).to_pylist()[0]
    assert len(row["embedding"]) == quick.embedding_size
    assert [len(window["probabilities"]) for window in row["windows"]] == [3] * len(row["windows"])


def test_revision_depends_on_weights_and_configuration(quick):
    import copy
    import dataclasses

    import torch

    from musgenre.models.classifier import GenreClassifier

    copied = GenreClassifier(copy.deepcopy(quick.network), dataclasses.replace(quick.config, scores={"accuracy": 0.5}))
    assert model_revision(copied) == model_revision(quick)
    other = GenreClassifier(copied.network, dataclasses.replace(quick.config, temperature=2.0))
    assert model_revision(other) != model_revision(quick)
    with torch.no_grad():
        next(copied.network.parameters()).flatten()[0] += 1e-3
    assert model_revision(copied) != model_revision(quick)


def test_folders_with_other_content_are_rejected(tmp_path, many_songs, quick, schema):
    source = list_songs(many_songs, id_column="path")
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").touch()
    with pytest.raises(DatasetError, match="holds something else"):
        Output(tmp_path / "photos", schema).check()
    output = Output(tmp_path / "mine", schema)
    output.check()
    output.prepare(source)
    output.check()
    with pytest.raises(DatasetError, match=r"holds rows with revision .*, not 'other'"):
        Output(tmp_path / "mine", collection_schema(quick.config, revision="other")).check()
    with pytest.raises(DatasetError, match="columns"):
        Output(tmp_path / "mine", collection_schema(quick.config, revision=model_revision(quick), windows=True)).check()
    (tmp_path / "mine" / "_musgenre" / "collection.json").write_text("{torn")
    with pytest.raises(DatasetError, match="cannot be read"):
        Output(tmp_path / "mine", schema).check()


def test_list_of_songs_is_replaced_and_not_counted_as_rows(tmp_path, many_songs, schema):
    output = Output(tmp_path / "mine", schema)
    output.prepare(list_songs(many_songs, id_column="path"))
    output.prepare(list_songs(many_songs / "a", id_column="path"))
    listed = pq.read_table(tmp_path / "mine" / "_musgenre" / "songs")
    assert listed["id"].to_pylist()[0] == "00.wav"
    assert output.count_done() == output.verify(np.empty(0, np.uint64)) == 0


def test_missing_and_repeated_rows(tmp_path, table, schema):
    output = Output(tmp_path, schema)
    planned = hash_ids(["x", "y", "z"])
    pq.write_table(table, tmp_path / "1.parquet")
    assert output.verify(planned) == 1
    with pytest.raises(DatasetError, match="1 songs have no row, and 0 rows"):
        output.verify(hash_ids(["x", "y", "z", "w"]))
    pq.write_table(table.slice(1, 1), tmp_path / "2.parquet")
    with pytest.raises(DatasetError, match="0 songs have no row, and 1 rows"):
        output.verify(planned)


def test_checkpoint_both_pending_and_done_is_repaired(tmp_path, schema, many_songs):
    output = Output(tmp_path, schema)
    output.prepare(list_songs(many_songs, id_column="path"))
    done = tmp_path / "_musgenre" / "done"
    for name in ("1.parquet", "2.parquet", "2.pending.parquet", "3.pending.parquet"):
        pq.write_table(pa.table({"id": ["a", "b"]}), done / name)
    assert output.count_done() == 4
    output.repair_checkpoint()
    assert sorted(path.name for path in done.iterdir()) == ["1.parquet", "2.pending.parquet", "3.pending.parquet"]
    assert output.count_done() == 2
