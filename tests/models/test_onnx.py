"""ONNX export: values, dynamic dimensions and metadata."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import musgenre
from musgenre.core.config import AudioSpec, Component, ModelConfig
from musgenre.core.errors import WeightsError
from musgenre.models.onnx import Probabilities

RATE = 8_000
pytestmark = pytest.mark.slow  # exporting takes seconds


@pytest.fixture(scope="module")
def classifier():
    feature = Component("logmel", {"n_fft": 256, "hop_length": 128, "n_mels": 32})
    backbone = Component("vgg16-slim", {"width": 0.05, "dense_units": 8})
    config = ModelConfig("tiny", ("a", "b", "c"), AudioSpec(RATE), feature, backbone, temperature=0.5)
    torch.manual_seed(0)
    return musgenre.GenreClassifier(musgenre.GenreNetwork.from_config(config), config, device="cpu")


@pytest.fixture(scope="module")
def session(classifier, tmp_path_factory):
    onnxruntime = pytest.importorskip("onnxruntime", reason="needs the extra 'onnx'")
    path = tmp_path_factory.mktemp("graph") / "model.onnx"
    classifier.export_onnx(path)
    assert [file.name for file in path.parent.iterdir()] == ["model.onnx"]
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


@pytest.mark.parametrize(("batch", "samples"), [(1, 24_000), (7, 24_000), (2, 20_123), (1, 100_000)])
def test_equals_the_network_at_any_batch_and_length(classifier, session, batch, samples):
    windows = 0.1 * torch.randn(batch, samples)
    with torch.no_grad():
        expected = (classifier.network(windows).double() / 0.5).softmax(dim=1).numpy()
    (found,) = session.run(None, {"samples": windows.numpy()})
    import onnxruntime

    # Measured: at most 2e-7 apart with ONNX Runtime 1.32, and 1.4e-4 with 1.23.2, the last version for Python 3.10.
    recent = tuple(map(int, onnxruntime.__version__.split(".")[:2])) >= (1, 24)
    np.testing.assert_allclose(found, expected, atol=1e-5 if recent else 3e-4)
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-5)


def test_names_shapes_and_metadata(session):
    (input_,), (output,) = session.get_inputs(), session.get_outputs()
    assert (input_.name, input_.shape) == ("samples", ["batch", "samples"])
    assert (output.name, output.shape) == ("probabilities", ["batch", 3])
    metadata = session.get_modelmeta().custom_metadata_map
    assert metadata == {"labels": "a\nb\nc", "sample_rate": "8000", "window_samples": "24000"}


def test_windows_of_a_track_equal_the_classifier(classifier, session):
    song = np.random.default_rng(0).normal(scale=0.1, size=RATE * 9).astype(np.float32)
    (found,) = session.run(None, {"samples": song.reshape(3, -1)})
    np.testing.assert_allclose(found, classifier.predict((song, RATE)).windows.probabilities, atol=1e-4)


def test_default_model():
    pytest.importorskip("onnxruntime", reason="needs the extra 'onnx'")
    song = (np.random.default_rng(0).normal(scale=0.1, size=22_050 * 20), 22_050)
    default, fast = (musgenre.GenreClassifier.from_pretrained(device="cpu") for _ in range(2))
    fast.runtime = "onnx"
    np.testing.assert_allclose(fast.predict_proba([song]), default.predict_proba([song]), atol=1e-3)


@pytest.mark.slow
def test_unwritable_path(classifier, tmp_path):
    pytest.importorskip("onnxscript", reason="needs the extra 'onnx'")
    with pytest.raises(WeightsError, match="cannot be written"):
        classifier.export_onnx(tmp_path / "no-such-directory" / "model.onnx")


@pytest.mark.slow
def test_the_compiler_traces_one_graph(classifier):
    module, windows = Probabilities(classifier.network, temperature=0.5).eval(), torch.randn(2, 24_000)
    with torch.no_grad():
        compiled = torch.compile(module, fullgraph=True, backend="eager")
        torch.testing.assert_close(compiled(windows), module(windows))
