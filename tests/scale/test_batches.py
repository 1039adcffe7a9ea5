"""``predict_batch`` and ``decode_batch`` without an engine, compared with ``GenreClassifier.predict``."""

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
def expected(paths, quick):
    """Return the predictions or errors of ``GenreClassifier.predict``."""
    return quick.predict(paths, on_error="return")


def assert_same(columns, expected, classifier):
    for number, prediction in enumerate(expected):
        row = {name: values[number] for name, values in columns.items()}
        if isinstance(prediction, MusgenreError):
            assert row["error"]["kind"] == type(prediction).__name__
            assert row["error"]["message"] == " ".join(str(prediction).split())
            assert row["label"] is row["probability"] is row["probabilities"] is row["duration_seconds"] is None
            continue
        assert row["error"] is None
        assert row["label"] == prediction.label
        assert list(row["probabilities"]) == list(classifier.labels)
        np.testing.assert_allclose(
            list(row["probabilities"].values()), list(prediction.probabilities.values()), atol=1e-5
        )
        assert row["probability"] == pytest.approx(prediction.probability, abs=1e-5)
        assert row["duration_seconds"] == pytest.approx(prediction.duration_seconds, abs=1e-9)
        assert row["seconds"] > 0


@pytest.mark.parametrize("batch_size", [1, 7, 64])
def test_results_equal_predict_for_any_batch_size(paths, expected, quick, batch_size):
    columns = predict_batch({"path": paths}, classifier=quick, batch_size=batch_size)
    assert columns["id"] == paths
    assert sum(error is not None for error in columns["error"]) == 2
    assert_same(columns, expected, quick)


def test_recordings_share_batches_of_windows(paths, quick):
    sizes = []
    with quick.network.backbone.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0]))):
        columns = predict_batch({"path": paths}, classifier=quick, batch_size=16, windows=True)
    windows = sum(len(rows) for rows in columns["windows"] if rows is not None)
    assert sizes == [16] * (windows // 16) + [windows % 16] * bool(windows % 16)


def test_embeddings_and_windows_equal_the_classifier(paths, quick):
    good = [path for path in paths if not path.endswith(("broken.mp3", "empty.wav"))][:5]
    columns = predict_batch({"path": good}, classifier=quick, embedding=True, windows=True)
    np.testing.assert_allclose(np.stack(columns["embedding"]), quick.embed(good), atol=1e-5)
    for rows, prediction in zip(columns["windows"], quick.predict(good), strict=True):
        np.testing.assert_allclose([row["start_seconds"] for row in rows], prediction.windows.start_seconds)
        probabilities = np.stack([row["probabilities"] for row in rows])
        np.testing.assert_allclose(probabilities, prediction.windows.probabilities, atol=1e-5)


def test_bytes_samples_and_data_frames_give_equal_results(paths, expected, quick):
    import pandas as pd

    from_bytes = {"id": paths, "bytes": [Path(path).read_bytes() for path in paths]}
    columns = predict_batch(pd.DataFrame(from_bytes), classifier=quick)
    labels = [None if isinstance(prediction, MusgenreError) else prediction.label for prediction in expected]
    assert columns["label"] == labels
    rate = quick.config.audio.sample_rate
    samples = [load(path, sample_rate=rate) for path, label in zip(paths, labels, strict=True) if label is not None]
    columns = predict_batch({"id": range(len(samples)), "samples": samples}, classifier=quick)
    assert columns["label"] == [label for label in labels if label is not None]
    assert columns["id"] == [str(number) for number in range(len(samples))]


@pytest.mark.parametrize("limit_bytes", [10**9, 120_000, 1])
def test_separate_decoding_respects_the_memory_limit(paths, expected, quick, limit_bytes):
    rate = quick.config.audio.sample_rate
    decoded = decode_batch({"id": paths, "path": paths}, sample_rate=rate, limit_bytes=limit_bytes)
    sizes = [samples.nbytes for samples in decoded["samples"] if samples is not None]
    assert sum(sizes) <= limit_bytes
    assert (len(sizes) == 24) == (limit_bytes == 10**9)
    assert (len(sizes) > 0) == (limit_bytes > 1)
    assert_same(predict_batch(decoded, classifier=quick), expected, quick)


def test_samples_are_released(paths, monkeypatch):
    decoded = decode_batch({"id": paths[:4], "path": paths[:4]}, sample_rate=8_000, limit_bytes=10**9)
    references = [weakref.ref(samples) for samples in decoded["samples"]]
    content = [samples.tobytes() for samples in decoded["samples"]]
    decoded["samples"][1:1] = [None]
    decoded |= {name: [*decoded[name], decoded[name][0]] for name in ("id", "path", "error", "seconds")}
    monkeypatch.setattr(decoding, "decode_batch", lambda *_, **__: decoded)
    table = decoding.decode_table(pa.table({"id": paths[:5], "path": paths[:5]}), options={})
    table.validate(full=True)
    assert table["samples"].to_pylist() == [content[0], None, *content[1:]]
    decoded.clear()
    del table
    assert [reference() for reference in references] == [None] * 4


def test_pickling(paths, quick):
    function = pickle.loads(pickle.dumps(predict_batch))
    classifier = pickle.loads(pickle.dumps(quick))
    assert (
        function({"path": paths[:3]}, classifier=classifier)["label"]
        == predict_batch({"path": paths[:3]}, classifier=quick)["label"]
    )


def test_remote_files_are_read_through_a_buffer(paths, quick):
    fsspec = pytest.importorskip("fsspec")
    from musgenre.scale.filesystems import open_source

    song = Path(next(path for path in paths if path.endswith(".flac")))
    fsspec.filesystem("memory").pipe("/bucket/song.flac", song.read_bytes())
    columns = predict_batch({"path": ["memory://bucket/song.flac", "memory://bucket/missing.flac"]}, classifier=quick)
    assert columns["label"] == [quick.predict(song).label, None]
    assert columns["error"][1] == {
        "kind": "AudioFileError",
        "message": "/bucket/missing.flac: there is no such file; check the path.",
    }
    with open_source("memory://bucket/song.flac") as file:
        assert isinstance(file, io.BufferedReader)
        assert file.name == "/bucket/song.flac"


def test_internal_errors_are_raised(paths, quick, monkeypatch):
    monkeypatch.setattr("musgenre.scale.batches.AudioWindows", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        predict_batch({"path": paths[:1]}, classifier=quick)


def test_damaged_weights_give_the_same_error_as_predict(paths, quick):
    damaged = GenreClassifier(copy.deepcopy(quick.network), quick.config, device="cpu")
    torch.nn.init.constant_(damaged.network.head[-1].bias, float("nan"))
    files = [paths[0], "/nowhere.wav", paths[1]]
    expected = damaged.predict(files, on_error="return")
    rows = predict_batch({"path": files}, classifier=damaged)
    assert [type(error).__name__ for error in expected] == ["WeightsError", "AudioFileError", "WeightsError"]
    assert rows["error"] == [{"kind": type(error).__name__, "message": str(error)} for error in expected]
    assert rows["label"] == [None] * 3


def test_read_options_of_the_classifier_are_used(paths, expected, quick):
    isolated = GenreClassifier(quick.network, quick.config, device="cpu", reading=ReadOptions(decode="subprocess"))
    unpickled = pickle.loads(pickle.dumps(isolated))  # as on another machine
    assert_same(predict_batch({"path": paths[:6]}, classifier=unpickled), expected[:6], quick)
    rate = quick.config.audio.sample_rate
    batch = {"id": paths[:6], "path": paths[:6]}
    decoded = decode_batch(
        batch, sample_rate=rate, limit_bytes=10**9, reading=pickle.loads(pickle.dumps(isolated.reading))
    )
    assert_same(predict_batch(decoded, classifier=quick), expected[:6], quick)
    limited = GenreClassifier(quick.network, quick.config, device="cpu", reading=ReadOptions(max_duration_seconds=0.5))
    assert "the limit is 0.5" in predict_batch({"path": paths[:1]}, classifier=limited)["error"][0]["message"]
