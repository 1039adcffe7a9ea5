"""Training of a head on a collection's embeddings, without decoding audio."""

import shutil

import numpy as np
import pytest
import torch

import musgenre
from musgenre.core.errors import DatasetError, ParameterError
from musgenre.datasets.base import Track
from musgenre.datasets.embeddings import TrackVectors
from musgenre.scale import read_embeddings
from musgenre.scale.batches import predict_batch
from musgenre.scale.schema import collection_schema, model_revision, to_table
from musgenre.training.config import Augmentation

pq = pytest.importorskip("pyarrow.parquet", reason="PyArrow (the extra 'scale') is not installed")


@pytest.fixture
def collection(genre_folder, tmp_path, quick):
    """Rows of songs in two genres whose files are deleted, of a song without a genre and of an unreadable file."""
    music = tmp_path / "music"
    shutil.copytree(genre_folder, music)
    ids = sorted(path.relative_to(music).as_posix() for path in music.glob("*/*.wav"))
    paths = [str(music / one) for one in ids]
    columns = predict_batch(
        {"id": [*ids, "other", "gone"], "path": [*paths, paths[0], "gone.wav"]}, classifier=quick, embedding=True
    )
    schema = collection_schema(quick.config, revision=model_revision(quick), embedding_size=quick.embedding_size)
    (tmp_path / "tags").mkdir()
    rows = to_table(columns, schema)
    pq.write_table(rows.slice(3), tmp_path / "tags" / "1.parquet")
    pq.write_table(rows.slice(0, 3), tmp_path / "tags" / "2.parquet")
    shutil.rmtree(music)
    return tmp_path / "tags", {one: one.partition("/")[0] for one in [*ids, "hiss/gone"]}


def test_head_is_trained_without_audio(collection, quick, tmp_path, monkeypatch):
    monkeypatch.setenv("MUSGENRE_CACHE", str(tmp_path / "cache"))
    path, labels = collection
    data = read_embeddings(path, labels, classifier=quick, groups={"drone/0.wav": "band"})
    assert [track.id for track in data] == sorted(set(labels) - {"hiss/gone"})
    assert data.labels == ("drone", "hiss")
    assert [one.id for one in data.missing] == ["hiss/gone"]
    assert data[0].group == "band"
    train, valid = musgenre.datasets.holdout(data, fraction=0.25)
    assert isinstance(train, TrackVectors)
    result = musgenre.finetune(train, valid=valid, head_epochs=40, head_learning_rate=0.05, dropout=0.0, progress=False)
    assert [stage.name for stage in result.plan] == ["head"]
    assert result.history[-1]["valid_accuracy"] == 1
    # The backbone is the one that computed the embeddings.
    for parameter, expected in zip(
        result.classifier.network.backbone.parameters(), quick.network.backbone.parameters(), strict=True
    ):
        torch.testing.assert_close(parameter, expected)
    assert result.classifier.config.audio == quick.config.audio
    head = result.classifier.network.head.eval()
    logits = head(torch.from_numpy(valid.vectors))
    assert [data.labels[index] for index in logits.argmax(dim=1)] == [track.label for track in valid]


def test_invalid_arguments(collection, quick):
    path, labels = collection
    other = musgenre.GenreClassifier.from_pretrained()
    with pytest.raises(DatasetError, match="give the classifier that predicted it"):
        read_embeddings(path, labels, classifier=other)
    with pytest.raises(DatasetError, match="cannot be read"):
        read_embeddings(path / "nowhere", labels, classifier=quick)
    with pytest.raises(DatasetError, match="but has none"):
        read_embeddings(path, {"unknown": "jazz", "x": "rock"}, classifier=quick)
    data = read_embeddings(path, labels, classifier=quick)
    with pytest.raises(ParameterError, match="remove backbone"):
        musgenre.finetune(data, backbone="vgg16-slim", progress=False)
    with pytest.raises(ParameterError, match="cannot be augmented"):
        musgenre.finetune(data, augmentation=Augmentation(time_mask=2), head_epochs=1, progress=False)
    track = Track("a", path, "jazz", None, 3.0)
    with pytest.raises(DatasetError, match="embeddings of shape"):
        TrackVectors([track], np.zeros((1, 3)), labels=["jazz", "rock"], classifier=quick, name="mine")
