"""``predict_batch`` and ``decode_batch`` without an engine, held against ``GenreClassifier.predict``."""

import copy
import io
import pickle
import weakref
from pathlib import Path

import numpy as np
import pytest
import torch

from musgenre.audio import load
from musgenre.audio.options import ReadOptions
from musgenre.core.errors import MusgenreError
from musgenre.models.classifier import GenreClassifier
from musgenre.scale import decoding
from musgenre.scale.batches import predict_batch
from musgenre.scale.decoding import decode_batch

pa = pytest.importorskip("pyarrow", reason="PyArrow (the extra 'scale') is not installed")


@pytest.fixture(scope="module")
def paths(many_songs):
    return [str(path) for path in sorted(many_songs.glob("*/*.*")) if path.suffix != ".jpg"]


@pytest.fixture(scope="module")
def alone(paths, quick):
    """What predict says of each song by itself."""
    return quick.predict(paths, on_error="return")


def assert_same(columns, alone, classifier):
    for number, said in enumerate(alone):
        row = {name: values[number] for name, values in columns.items()}
        if isinstance(said, MusgenreError):
            assert row["error"]["kind"] == type(said).__name__
            assert row["error"]["message"] == " ".join(str(said).split())
            assert row["label"] is row["probability"] is row["probabilities"] is row["duration_seconds"] is None
            continue
        assert row["error"] is None
        assert row["label"] == said.label
        assert list(row["probabilities"]) == list(classifier.labels)
        np.testing.assert_allclose(list(row["probabilities"].values()), list(said.probabilities.values()), atol=1e-5)
        assert row["probability"] == pytest.approx(said.probability, abs=1e-5)
        assert row["duration_seconds"] == pytest.approx(said.duration_seconds, abs=1e-9)
        assert row["seconds"] > 0


@pytest.mark.parametrize("batch_size", [1, 7, 64])
def test_songs_together_are_what_each_is_alone(paths, alone, quick, batch_size):
    columns = predict_batch({"path": paths}, classifier=quick, batch_size=batch_size)
    assert columns["id"] == paths
    assert sum(error is not None for error in columns["error"]) == 2
    assert_same(columns, alone, quick)


def test_the_windows_of_many_songs_go_through_the_network_together(paths, quick):
    sizes = []
    with quick.network.backbone.register_forward_pre_hook(lambda _, given: sizes.append(len(given[0]))):
        columns = predict_batch({"path": paths}, classifier=quick, batch_size=16, windows=True)
    windows = sum(len(rows) for rows in columns["windows"] if rows is not None)
    assert sizes == [16] * (windows // 16) + [windows % 16] * bool(windows % 16)


def test_embeddings_and_windows_are_the_classifiers(paths, quick):
    good = [path for path in paths if not path.endswith(("broken.mp3", "empty.wav"))][:5]
    columns = predict_batch({"path": good}, classifier=quick, embedding=True, windows=True)
    np.testing.assert_allclose(np.stack(columns["embedding"]), quick.embed(good), atol=1e-5)
    for rows, said in zip(columns["windows"], quick.predict(good), strict=True):
        np.testing.assert_allclose([row["start_seconds"] for row in rows], said.windows.start_seconds)
        told = np.stack([row["probabilities"] for row in rows])
        np.testing.assert_allclose(told, said.windows.probabilities, atol=1e-5)


def test_bytes_samples_and_a_data_frame_give_the_same(paths, alone, quick):
    import pandas as pd

    from_bytes = {"id": paths, "bytes": [Path(path).read_bytes() for path in paths]}
    columns = predict_batch(pd.DataFrame(from_bytes), classifier=quick)
    labels = [None if isinstance(said, MusgenreError) else said.label for said in alone]
    assert columns["label"] == labels
    rate = quick.config.audio.sample_rate
    samples = [load(path, sample_rate=rate) for path, label in zip(paths, labels, strict=True) if label is not None]
    told = predict_batch({"id": range(len(samples)), "samples": samples}, classifier=quick)
    assert told["label"] == [label for label in labels if label is not None]
    assert told["id"] == [str(number) for number in range(len(samples))]


@pytest.mark.parametrize("limit_bytes", [10**9, 120_000, 1])
def test_decoding_apart_gives_the_same_within_its_bound(paths, alone, quick, limit_bytes):
    rate = quick.config.audio.sample_rate
    decoded = decode_batch({"id": paths, "path": paths}, sample_rate=rate, limit_bytes=limit_bytes)
    held = [samples.nbytes for samples in decoded["samples"] if samples is not None]
    assert sum(held) <= limit_bytes
    assert (len(held) == 24) == (limit_bytes == 10**9)
    assert (len(held) > 0) == (limit_bytes > 1)
    assert_same(predict_batch(decoded, classifier=quick), alone, quick)


def test_a_block_lets_go_of_the_samples(paths, monkeypatch):
    decoded = decode_batch({"id": paths[:4], "path": paths[:4]}, sample_rate=8_000, limit_bytes=10**9)
    held = [weakref.ref(samples) for samples in decoded["samples"]]
    content = [samples.tobytes() for samples in decoded["samples"]]
    decoded["samples"][1:1] = [None]
    decoded |= {name: [*decoded[name], decoded[name][0]] for name in ("id", "path", "error", "seconds")}
    monkeypatch.setattr(decoding, "decode_batch", lambda *_, **__: decoded)
    table = decoding.decode_table(pa.table({"id": paths[:5], "path": paths[:5]}), options={})
    table.validate(full=True)
    assert table["samples"].to_pylist() == [content[0], None, *content[1:]]
    decoded.clear()
    del table
    assert [samples() for samples in held] == [None] * 4


def test_it_travels(paths, quick):
    again = pickle.loads(pickle.dumps(predict_batch))
    other = pickle.loads(pickle.dumps(quick))
    assert (
        again({"path": paths[:3]}, classifier=other)["label"]
        == predict_batch({"path": paths[:3]}, classifier=quick)["label"]
    )


def test_a_file_elsewhere_is_fetched_piece_by_piece(paths, quick):
    fsspec = pytest.importorskip("fsspec")
    from musgenre.scale.filesystems import open_source

    song = Path(next(path for path in paths if path.endswith(".flac")))
    fsspec.filesystem("memory").pipe("/bucket/song.flac", song.read_bytes())
    columns = predict_batch({"path": ["memory://bucket/song.flac", "memory://bucket/gone.flac"]}, classifier=quick)
    assert columns["label"] == [quick.predict(song).label, None]
    assert columns["error"][1] == {
        "kind": "AudioFileError",
        "message": "/bucket/gone.flac: there is no such file; check the path.",
    }
    with open_source("memory://bucket/song.flac") as file:
        assert isinstance(file, io.BufferedReader)
        assert file.name == "/bucket/song.flac"


def test_a_bug_is_no_row(paths, quick, monkeypatch):
    monkeypatch.setattr("musgenre.scale.batches.AudioWindows", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        predict_batch({"path": paths[:1]}, classifier=quick)


def test_damaged_weights_give_the_error_of_predict(paths, quick):
    damaged = GenreClassifier(copy.deepcopy(quick.network), quick.config, device="cpu")
    torch.nn.init.constant_(damaged.network.head[-1].bias, float("nan"))
    files = [paths[0], "/nowhere.wav", paths[1]]
    expected = damaged.predict(files, on_error="return")
    rows = predict_batch({"path": files}, classifier=damaged)
    assert [type(error).__name__ for error in expected] == ["WeightsError", "AudioFileError", "WeightsError"]
    assert rows["error"] == [{"kind": type(error).__name__, "message": str(error)} for error in expected]
    assert rows["label"] == [None] * 3


def test_the_classifier_says_how_far_files_are_trusted(paths, alone, quick):
    careful = GenreClassifier(quick.network, quick.config, device="cpu", reading=ReadOptions(decode="subprocess"))
    there = pickle.loads(pickle.dumps(careful))  # as it travels to another machine
    assert_same(predict_batch({"path": paths[:6]}, classifier=there), alone[:6], quick)
    rate = quick.config.audio.sample_rate
    few = {"id": paths[:6], "path": paths[:6]}
    decoded = decode_batch(
        few, sample_rate=rate, limit_bytes=10**9, reading=pickle.loads(pickle.dumps(careful.reading))
    )
    assert_same(predict_batch(decoded, classifier=quick), alone[:6], quick)
    short = GenreClassifier(quick.network, quick.config, device="cpu", reading=ReadOptions(max_duration_seconds=0.5))
    assert "the limit is 0.5" in predict_batch({"path": paths[:1]}, classifier=short)["error"][0]["message"]
