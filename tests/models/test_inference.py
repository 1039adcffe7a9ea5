"""Fused networks and ONNX Runtime: equal predictions, also after changes of the network and in several threads."""

from __future__ import annotations

import copy
import threading

import numpy as np
import pytest
import soundfile
import torch
from torch import nn

import musgenre
from musgenre.core.config import AudioSpec, Component, ModelConfig
from musgenre.core.errors import ParameterError
from musgenre.models.inference import CompiledNetwork, batch_size_for, fused

RATE = 8_000
FEATURE = Component("logmel", {"n_fft": 256, "hop_length": 128, "n_mels": 32, "f_min_hz": 50.0, "f_max_hz": 3900.0})


def make(runtime="torch"):
    backbone = Component("vgg16-slim", {"width": 0.05, "dense_units": 8})
    config = ModelConfig("tiny", ("a", "b", "c"), AudioSpec(RATE), FEATURE, backbone, temperature=1.7)
    torch.manual_seed(0)
    network = musgenre.GenreNetwork.from_config(config)
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean.normal_(0, 0.3)
            layer.running_var.uniform_(0.5, 2)
    return musgenre.GenreClassifier(network, config, device="cpu", runtime=runtime)


def with_scaled_weights(network):
    return copy.deepcopy(network).apply(lambda layer: layer.weight.mul_(2) if isinstance(layer, nn.Linear) else None)


@pytest.fixture(scope="module")
def classifier():
    return make()


@pytest.fixture(scope="module")
def song():
    return np.random.default_rng(0).normal(scale=0.1, size=RATE * 40).astype(np.float32), RATE


@pytest.mark.parametrize("window_seconds", [0.5, 3.0, 7.55, 10.0, 100.0])
@pytest.mark.parametrize(("is_shared", "least"), [(True, 15.0), (False, 30.0)])
def test_default_batch_on_a_cpu_is_a_duration(window_seconds, is_shared, least):
    size = batch_size_for(torch.device("cpu"), window_seconds=window_seconds, is_shared=is_shared)
    assert size * window_seconds >= least
    assert size == 1 or (size - 1) * window_seconds < least


class TestFused:
    def test_output_is_equal_without_batch_norm(self, classifier):
        network, windows = fused(classifier.network), torch.randn(3, 3 * RATE)
        assert not [layer for layer in network.modules() if isinstance(layer, nn.BatchNorm2d)]
        torch.testing.assert_close(network(windows), classifier.network(windows), rtol=1e-4, atol=1e-5)

    def test_original_network_is_unchanged(self, classifier):
        before = copy.deepcopy(classifier.network.state_dict())
        fused(classifier.network)(torch.randn(1, 3 * RATE))
        after = classifier.network.state_dict()
        assert list(before) == list(after)
        assert all(torch.equal(before[name], after[name]) for name in before)
        assert [layer for layer in classifier.network.modules() if isinstance(layer, nn.BatchNorm2d)]

    def test_other_weights_are_shared(self, classifier):
        dense, fused_dense = classifier.network.backbone.dense, fused(classifier.network).backbone.dense
        assert dense[1].weight is fused_dense[1].weight

    @pytest.mark.parametrize(
        "layers",
        [
            nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.BatchNorm2d(2)),
            nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2, track_running_stats=False)),
            nn.ModuleList([nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)]),
        ],
    )
    def test_layers_that_cannot_be_fused_are_unchanged(self, layers):
        assert fused(layers.eval()) is layers

    def test_layers_in_training_or_with_hooks_are_unchanged(self):
        layers = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))
        assert fused(layers) is layers
        layers.eval()[0].register_forward_hook(lambda *_: None)
        assert fused(layers) is layers


class TestChangedNetwork:
    @pytest.mark.parametrize(
        "change",
        [
            lambda c: c.network.load_state_dict({k: v * 1.5 for k, v in c.network.state_dict().items()}),
            lambda c: c.network.backbone.groups[0][0].weight.mul_(3),
            lambda c: c.network.backbone.groups[1][1].running_mean.add_(5),
            lambda c: c.network.backbone.groups[0].__setitem__(2, nn.Tanh()),
            lambda c: setattr(c, "network", with_scaled_weights(c.network)),
            lambda c: setattr(c.network.backbone.groups[0][1], "running_var", torch.full((3,), 4.0)),
        ],
        ids=["weights", "weight", "buffer", "layer", "network", "replaced buffer"],
    )
    def test_changed_weights_are_used(self, song, change):
        classifier = make()
        classifier.predict(song)
        windows = torch.from_numpy(song[0][: 3 * RATE])[None]
        with torch.no_grad():
            change(classifier)
            expected = (classifier.network(windows).double() / 1.7).softmax(1)[0].numpy()
        found = classifier.predict(song).windows.probabilities[0]
        np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.usefixtures("two_threads")
class TestThreads:
    def test_equals_the_original_network(self, classifier, song):
        prediction = classifier.predict(song)
        windows = torch.from_numpy(np.resize(song[0], (13, 3 * RATE)))
        with torch.no_grad():
            expected = (classifier.network(windows).double() / 1.7).softmax(dim=1).numpy()
        np.testing.assert_allclose(prediction.windows.probabilities[:13], expected, atol=1e-5)
        assert len(prediction.windows.start_seconds) == 14

    def test_eight_concurrent_callers_get_equal_predictions(self, classifier, song):
        expected = classifier.predict(song).windows.probabilities
        found = [None] * 8

        def work(index):
            found[index] = classifier.predict(song).windows.probabilities

        threads = [threading.Thread(target=work, args=(index,)) for index in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for probabilities in found:
            np.testing.assert_array_equal(probabilities, expected)

    def test_several_sources_equal_single_predictions(self, classifier, song, tmp_path):
        paths = [tmp_path / f"{number}.wav" for number in range(5)]
        for number, path in enumerate(paths):
            soundfile.write(path, song[0][: RATE * (4 + number)], RATE)
        songs = [*paths[:3], song, *paths[3:], tmp_path / "missing.wav", paths[0]]
        together = classifier.predict(songs, on_error="return")
        for source, found in zip(songs, together, strict=True):
            single = classifier.predict(source, on_error="return")
            if isinstance(single, Exception):
                assert str(found) == str(single)
            else:
                np.testing.assert_array_equal(found.windows.probabilities, single.windows.probabilities)
                assert found.path == single.path

    def test_input_buffer_may_be_reused_for_the_next_source(self, classifier, song):
        buffer = np.empty(4 * RATE, np.float32)

        def songs():
            for start in range(3):
                buffer[:] = song[0][start * RATE :][: buffer.size]
                yield buffer, RATE

        for start, prediction in enumerate(classifier.predict(songs())):
            expected = classifier.predict((song[0][start * RATE :][: buffer.size], RATE))
            assert prediction.probabilities == expected.probabilities


class TestOnnx:
    @pytest.mark.slow
    def test_equals_pytorch_and_is_exported_once(self, classifier, song):
        pytest.importorskip("onnxruntime", reason="needs the extra 'onnx'")
        onnx_classifier = make(runtime="onnx")
        assert onnx_classifier.runtime == "onnx"
        found, expected = onnx_classifier.predict(song), classifier.predict(song)
        np.testing.assert_allclose(found.windows.probabilities, expected.windows.probabilities, atol=1e-4)
        compiled = onnx_classifier._compiled.compiled(onnx_classifier.network)
        assert onnx_classifier._compiled.compiled(onnx_classifier.network) is compiled
        onnx_classifier.runtime = "torch"
        assert onnx_classifier.predict(song).probabilities == expected.probabilities

    @pytest.mark.parametrize("runtime", ["tensorrt", None, ""])
    def test_unknown_runtime_raises(self, classifier, runtime):
        with pytest.raises(ParameterError, match="'torch' or 'onnx'"):
            CompiledNetwork(window_samples=100, runtime=runtime)
        with pytest.raises(ParameterError, match="'torch' or 'onnx'"):
            classifier.runtime = runtime
