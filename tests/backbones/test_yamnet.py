from __future__ import annotations

import http.server
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import musgenre
from musgenre.backbones import yamnet_weights
from musgenre.backbones.base import BACKBONES
from musgenre.backbones.yamnet import AudioSetScores, YAMNet
from musgenre.core.config import AudioSpec, Component, ModelConfig
from musgenre.core.errors import ConfigError, WeightsError
from musgenre.models import serialization as weights
from musgenre.models.network import GenreNetwork

# From the table in the model garden's yamnet.py: stride and output channels of its 14 layers.
STRIDES = (2, 1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1)
CHANNELS = (32, 64, 128, 128, 256, 256, 512, 512, 512, 512, 512, 512, 1024, 1024)
Weights = dict[str, np.ndarray]


def _layers() -> Iterator[tuple[str, int, tuple[int, int, int, int]]]:
    """Yields name, stride and shape of the kernel (in Keras) of each of the 27 convolutions."""
    yield "layer1/conv", 2, (3, 3, 1, 32)
    for index in range(1, 14):
        name, before = f"layer{index + 1}", CHANNELS[index - 1]
        yield f"{name}/depthwise_conv", STRIDES[index], (3, 3, before, 1)
        yield f"{name}/pointwise_conv", 1, (1, 1, before, CHANNELS[index])


def _key(layer: str, variable: str) -> str:
    """Returns the key of a variable in a file written by Keras's ``save_weights``."""
    return f"{layer}/{layer}/{variable}:0"


def _kernel_key(layer: str) -> str:
    return _key(layer, "depthwise_kernel" if "depthwise" in layer else "kernel")


@pytest.fixture(scope="module")
def keras_weights() -> Weights:
    """Random weights under the names of the official file."""
    rng = np.random.default_rng(0)
    made = {}
    for layer, _, shape in _layers():
        channels = shape[2] if "depthwise" in layer else shape[3]
        fan_in = 9 if "depthwise" in layer else shape[0] * shape[1] * shape[2]
        made[_kernel_key(layer)] = rng.normal(scale=np.sqrt(2 / fan_in), size=shape)
        made[_key(f"{layer}/bn", "beta")] = rng.normal(scale=0.3, size=channels)
        made[_key(f"{layer}/bn", "moving_mean")] = rng.normal(scale=0.3, size=channels)
        made[_key(f"{layer}/bn", "moving_variance")] = rng.uniform(0.5, 1.5, size=channels)
    made[_key("logits", "kernel")] = rng.normal(scale=0.03, size=(1024, 521))
    made[_key("logits", "bias")] = rng.normal(size=521)
    return {name: values.astype(np.float32) for name, values in made.items()}


@pytest.fixture
def write_h5(tmp_path: Path) -> Callable[[Weights], str]:
    h5py = pytest.importorskip("h5py", reason="the extra musgenre[yamnet] is not installed")

    def write(made: Weights) -> str:
        with h5py.File(tmp_path / "yamnet.h5", "w") as file:
            for name, values in made.items():
                file[name] = values
        return str(tmp_path / "yamnet.h5")

    return write


def _pad_same(images: np.ndarray, *, kernel: int, stride: int) -> np.ndarray:
    """Pads ``(batch, height, width, channels)`` according to the documentation of TensorFlow's "SAME"."""
    pads = [(0, 0)]
    for size in images.shape[1:3]:
        total = max(kernel - stride, 0) if size % stride == 0 else max(kernel - size % stride, 0)
        pads.append((total // 2, total - total // 2))
    return np.pad(images, [*pads, (0, 0)])


def _convolve(images: np.ndarray, kernel: np.ndarray, *, stride: int, depthwise: bool) -> np.ndarray:
    padded = _pad_same(images, kernel=kernel.shape[0], stride=stride)
    views = np.lib.stride_tricks.sliding_window_view(padded, kernel.shape[:2], axis=(1, 2))[:, ::stride, ::stride]
    if depthwise:
        return np.einsum("nyxcij,ijc->nyxc", views, kernel[..., 0])
    return np.tensordot(views, kernel, axes=([4, 5, 3], [0, 1, 2]))


def _embed(patches: np.ndarray, made: Weights) -> np.ndarray:
    """Computes YAMNet in NumPy, from ``(batch, 96, 64)`` to ``(batch, 1024)``."""
    values = patches[..., None].astype(np.float64)
    for layer, stride, _ in _layers():
        values = _convolve(values, made[_kernel_key(layer)], stride=stride, depthwise="depthwise" in layer)
        mean, variance = (made[_key(f"{layer}/bn", f"moving_{part}")] for part in ("mean", "variance"))
        values = np.maximum((values - mean) / np.sqrt(variance + 1e-4) + made[_key(f"{layer}/bn", "beta")], 0)
    return values.mean(axis=(1, 2))


@pytest.fixture(scope="module")
def patches() -> np.ndarray:
    return np.random.default_rng(1).normal(-3, 2, size=(2, 96, 64)).astype(np.float32)


def _feature(patches: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(patches).transpose(1, 2)[:, None]


class TestArchitecture:
    def test_parameters(self):
        backbone = YAMNet(weights=None)
        convolutions = [layer for layer in backbone.modules() if isinstance(layer, nn.Conv2d)]
        shapes = [(*layer.weight.shape[2:], layer.weight.shape[1], layer.out_channels) for layer in convolutions]
        expected = [
            (3, 3, 1, shape[2]) if "depthwise" in layer else (*shape[:3], shape[3]) for layer, _, shape in _layers()
        ]
        assert shapes == expected
        # Keras counts 3,751,369, with the logits and three values of normalisation per channel, here folded to a bias.
        channels = sum(layer.out_channels for layer in convolutions)
        logits = sum(p.numel() for p in AudioSetScores(weights=None).parameters())
        assert logits == 521 * 1025
        assert sum(p.numel() for p in backbone.parameters()) == 3_751_369 - logits - 2 * channels == 3_195_456

    def test_shapes_layer_by_layer(self):
        backbone, sizes = YAMNet(weights=None), []
        for layer in backbone.modules():
            if isinstance(layer, nn.Conv2d):
                layer.register_forward_hook(lambda _, __, output: sizes.append(tuple(output.shape[1:])))
        backbone(torch.randn(1, 1, 64, 96))
        sizes = [sizes[0], *sizes[2::2]]  # after each of the 14 layers
        halvings = np.cumsum([stride == 2 for stride in STRIDES])
        assert sizes == [(c, 96 >> by, 64 >> by) for c, by in zip(CHANNELS, halvings, strict=True)]
        assert sizes[-1] == (1024, 3, 2)

    def test_stages(self):
        stages = YAMNet(weights=None).stages()
        assert [sum(isinstance(m, nn.Conv2d) for m in stage.modules()) for stage in stages] == [1, 2, 4, 4, 12, 4]

    def test_stride_2_pads_at_the_end_only(self):
        """With stride 2, TensorFlow pads 96 x 64 with one row below and one column to the right."""
        stem = YAMNet(weights=None).stem
        layer = stem[0]
        nn.init.ones_(layer.weight)
        output = stem(torch.ones(1, 1, 96, 64))[0, 0]
        assert output.shape == (48, 32)
        assert output[0, 0] == 9
        assert output[-1, 0] == output[0, -1] == 6
        assert output[-1, -1] == 4

    def test_stride_1_pads_on_all_sides(self):
        block = YAMNet(weights=None).stages()[1][0]
        nn.init.ones_(block[0].weight)
        output = block[:1](torch.ones(1, 32, 48, 32))[0, 0]
        assert output[0, 0] == output[-1, -1] == 4
        assert output[0, 5] == output[5, 0] == 6
        assert output[5, 5] == 9

    def test_training_mode_equals_evaluation_mode(self):
        backbone, feature = YAMNet(weights=None), torch.randn(2, 1, 64, 96)
        assert torch.equal(backbone.train()(feature), backbone.eval()(feature))

    def test_random_weights_give_distinct_embeddings(self):
        backbone = YAMNet(weights=None)
        assert not backbone.pretrained
        low, high = backbone(torch.randn(2, 1, 64, 96) - 3)
        assert 0.01 < low.std() < 100
        assert not torch.allclose(low, high, rtol=0.01)


class TestLayersAndPooling:
    @pytest.mark.parametrize(("layers", "stages"), [(1, 1), (2, 2), (9, 5), (11, 5), (14, 6)])
    def test_vector_is_the_mean_of_the_last_of_the_layers(self, layers, stages):
        complete, feature = YAMNet(weights=None), torch.randn(2, 1, 64, 96)
        backbone = YAMNet(weights=None, layers=layers)
        missing, _ = backbone.load_state_dict(complete.state_dict(), strict=False)
        assert not missing
        outputs = []
        for block in [complete.stem, *(block for group in complete.groups for block in group)]:
            block.register_forward_hook(lambda _, __, output: outputs.append(output.clone()))
        with torch.inference_mode():
            complete(feature)
            assert backbone(feature).shape == (2, CHANNELS[layers - 1]) == (2, backbone.out_features)
            torch.testing.assert_close(backbone(feature), outputs[layers - 1].mean(dim=(2, 3)))
        assert len(backbone.stages()) == stages

    @pytest.mark.parametrize("patches", [True, False])
    def test_mean_and_standard_deviation(self, patches):
        backbone = YAMNet(weights=None, layers=5, patches=patches, pooling="mean-std")
        feature = torch.randn(3, 1, 64, 96)
        maps = feature.transpose(2, 3)
        with torch.inference_mode():
            for stage in backbone.stages():
                maps = stage(maps)
            mean, deviation = maps.flatten(2).mean(dim=2), maps.flatten(2).numpy().std(axis=2)
            assert backbone.out_features == 512
            torch.testing.assert_close(backbone(feature)[:, :256], mean)
            np.testing.assert_allclose(backbone(feature)[:, 256:], deviation, rtol=1e-3, atol=2e-4)

    def test_gradient_of_constant_maps_is_finite(self):
        backbone = YAMNet(weights=None, layers=1, pooling="mean-std")
        (layer,) = (module for module in backbone.modules() if isinstance(module, nn.Conv2d))
        nn.init.zeros_(layer.weight)
        nn.init.ones_(layer.bias)  # above 0, where the gradient passes the ReLU
        backbone(torch.zeros(1, 1, 64, 96)).sum().backward()
        assert all(parameter.grad.isfinite().all() for parameter in backbone.parameters())

    def test_weights_of_fewer_layers(self, keras_weights, write_h5):
        path = str(write_h5(keras_weights))
        complete, backbone = YAMNet(weights=path).state_dict(), YAMNet(weights=path, layers=9)
        for name, tensor in backbone.state_dict().items():
            assert (tensor == complete[name]).all(), name

    @pytest.mark.parametrize("pooling", ["mean", "mean-std"])
    def test_several_layers_are_concatenated(self, pooling):
        several, feature = YAMNet(weights=None, layers=[9, 5, 7], pooling=pooling), torch.randn(2, 1, 64, 96)
        parts = []
        for layers in (5, 7, 9):
            single = YAMNet(weights=None, layers=layers, pooling=pooling)
            single.load_state_dict({name: several.state_dict()[name] for name in single.state_dict()})
            parts.append(single(feature))
        assert several(feature).shape == (2, several.out_features)
        torch.testing.assert_close(several(feature), torch.cat(parts, dim=1))

    @pytest.mark.parametrize("patches", [True, False])
    def test_time_scales_are_the_network_on_interpolated_frames(self, patches):
        options = {"patches": patches, "layers": (3, 5), "weights": None}
        scaled, feature = YAMNet(time_scales=(1, 3), **options), torch.randn(2, 1, 64, 96)
        simple = YAMNet(**{**options, "patches": False})
        simple.load_state_dict(scaled.state_dict())
        # Linear interpolation in NumPy: frame n of the result is at (n + 0.5) / 3 - 0.5 of the original.
        times = (np.arange(3 * 96) + 0.5) / 3 - 0.5
        longer = np.stack(
            [[np.interp(times, np.arange(96), row) for row in window] for window in feature[:, 0].numpy()]
        )
        expected = torch.cat([simple(feature), simple(torch.from_numpy(longer[:, None]).float())], dim=1)
        assert scaled.out_features == 2 * (128 + 256)
        torch.testing.assert_close(scaled(feature), expected, rtol=1e-3, atol=1e-4)

    def test_options_from_json(self):
        backbone = BACKBONES.build("yamnet", {"layers": [1, 2], "time_scales": [1, 2], "weights": None})
        assert backbone(torch.randn(1, 1, 64, 96)).shape == (1, 2 * (32 + 64))

    @pytest.mark.parametrize(
        "options",
        [{"pooling": "max"}, *({"layers": layers} for layers in (0, 15, 9.0, "9", [], [9, 9], [True]))],
    )
    def test_invalid_options(self, options):
        with pytest.raises(ConfigError, match="layers from 1 to 14 and pooling 'mean' or 'mean-std'"):
            YAMNet(weights=None, **options)

    @pytest.mark.parametrize("scales", [(), (0,), (9,), (1, 1), (1.5,), 2, "12"])
    def test_invalid_time_scales(self, scales):
        with pytest.raises(ConfigError, match="one or more different time_scales from 1 to 8"):
            YAMNet(weights=None, time_scales=scales)


class TestPatches:
    @pytest.mark.parametrize(("frames", "patches"), [(96, 1), (143, 1), (144, 2), (298, 5)])
    def test_patches_of_96_frames_every_48(self, frames, patches):
        backbone, feature = YAMNet(weights=None), torch.randn(2, 1, 64, frames)
        with torch.inference_mode():
            together = backbone.embed_patches(feature)
            alone = [backbone(feature[..., 48 * n : 48 * n + 96]) for n in range(patches)]
        assert together.shape == (2, patches, 1024)
        torch.testing.assert_close(together, torch.stack(alone, dim=1), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(backbone(feature), together.mean(dim=1))

    def test_batch_equals_single_inputs(self):
        backbone, features = YAMNet(weights=None), torch.randn(3, 1, 64, 150)
        with torch.inference_mode():
            alone = torch.cat([backbone(feature[None]) for feature in features])
            torch.testing.assert_close(backbone(features), alone, rtol=1e-4, atol=1e-5)

    @pytest.mark.parametrize("frames", [32, 96, 130, 131])
    def test_without_patches_a_window_is_one_patch(self, frames):
        backbone, feature = YAMNet(patches=False, weights=None), torch.randn(2, 1, 64, frames)
        with torch.inference_mode():
            maps = feature.transpose(2, 3)
            for stage in backbone.stages():
                maps = stage(maps)
            assert maps.shape[2:] == (frames // 32, 2)
            torch.testing.assert_close(backbone(feature), maps.mean(dim=(2, 3)))
            if frames == 96:
                same = YAMNet(weights=None)
                same.load_state_dict(backbone.state_dict())
                torch.testing.assert_close(backbone(feature), same(feature))

    def test_window_that_is_too_short_without_patches(self):
        with pytest.raises(ConfigError, match="at least 32"):
            YAMNet(patches=False, weights=None)(torch.zeros(1, 1, 64, 31))

    @pytest.mark.parametrize("shape", [(1, 1, 64, 95), (1, 1, 128, 96), (1, 3, 64, 96)])
    def test_wrong_shape(self, shape):
        with pytest.raises(ConfigError, match="yamnet-logmel"):
            YAMNet(weights=None)(torch.zeros(shape))

    def test_number_of_channels_must_be_1(self):
        with pytest.raises(ConfigError, match="expects 1 channel, got 3"):
            YAMNet(in_channels=3, weights=None)


class TestKerasFile:
    def test_equals_numpy(self, keras_weights, write_h5, patches):
        path = write_h5(keras_weights)
        backbone, scores = YAMNet(weights=path), AudioSetScores(weights=path)
        expected = _embed(patches, keras_weights)
        with torch.inference_mode():
            embedding = backbone(_feature(patches))
            output = scores(embedding)
        np.testing.assert_allclose(embedding.numpy(), expected, rtol=1e-3, atol=1e-4 * expected.max())
        logits = expected @ keras_weights[_key("logits", "kernel")] + keras_weights[_key("logits", "bias")]
        np.testing.assert_allclose(output.numpy(), 1 / (1 + np.exp(-logits)), atol=1e-3)
        assert backbone.pretrained
        assert embedding.std() > 0.01

    def test_missing_tensors_are_named(self, keras_weights, write_h5):
        gone = _key("layer7/pointwise_conv/bn", "moving_mean")
        path = write_h5({name: values for name, values in keras_weights.items() if name != gone})
        with pytest.raises(WeightsError, match="missing layer7/pointwise_conv/bn/moving_mean; wrong shape nothing"):
            YAMNet(weights=path)
        AudioSetScores(weights=path)

    def test_tensors_of_wrong_shape_are_named(self, keras_weights, write_h5):
        kernel, beta = _kernel_key("layer3/depthwise_conv"), _key("layer9/pointwise_conv/bn", "beta")
        path = write_h5(keras_weights | {kernel: np.zeros((5, 5, 64, 1)), beta: np.zeros(1)})
        with pytest.raises(
            WeightsError, match="wrong shape layer3/depthwise_conv/kernel, layer9/pointwise_conv/bn/beta"
        ):
            YAMNet(weights=path)

    def test_file_of_another_network(self, write_h5):
        path = write_h5({"model_weights/dense/kernel:0": np.zeros((3, 3)), "layer1/conv/layer1/conv/kernel:0/x": [1.0]})
        with pytest.raises(WeightsError, match=r"missing layer1/conv/kernel, .* and 104 more.*storage\.googleapis"):
            YAMNet(weights=path)

    def test_damaged_file(self, keras_weights, write_h5):
        path = Path(write_h5(keras_weights))
        path.write_bytes(path.read_bytes()[:100_000])
        with pytest.raises(WeightsError, match="damaged"):
            YAMNet(weights=str(path))

    def test_without_the_extra(self, keras_weights, write_h5, monkeypatch):
        path = write_h5(keras_weights)
        monkeypatch.setitem(sys.modules, "h5py", None)
        with pytest.raises(WeightsError, match=r"requires h5py: pip install 'musgenre\[yamnet\]'"):
            YAMNet(weights=path)


def _table(builder: Any, kind: str, **fields: Any) -> int:
    tflite = pytest.importorskip("tflite")
    getattr(tflite, f"{kind}Start")(builder)
    for name, value in fields.items():
        getattr(tflite, f"{kind}Add{name}")(builder, value)
    return int(getattr(tflite, f"{kind}End")(builder))


def _vector(builder: Any, tables: list[int]) -> int:
    builder.StartVector(4, len(tables), 4)
    for table in reversed(tables):
        builder.PrependUOffsetTRelative(table)
    return int(builder.EndVector())


def _tflite(tensors: list[tuple[str, np.ndarray, tuple[np.ndarray, np.ndarray, int] | None]]) -> bytes:
    """Builds a TFLite file of constants: name, values, and (scale, zero point, axis) if quantised."""
    flatbuffers, tflite = pytest.importorskip("flatbuffers"), pytest.importorskip("tflite")
    kinds = {"float32": 0, "float16": 1, "int32": 2, "uint8": 3, "int8": 9}
    builder = flatbuffers.Builder(1 << 20)
    made, buffers = [], [_table(builder, "Buffer")]
    for name, values, quantisation in tensors:
        data = builder.CreateNumpyVector(np.frombuffer(values.tobytes(), np.uint8))
        buffers.append(_table(builder, "Buffer", Data=data))
        fields = {
            "Name": builder.CreateString(name),
            "Shape": builder.CreateNumpyVector(np.array(values.shape, np.int32)),
        }
        if quantisation is not None:
            scale = builder.CreateNumpyVector(quantisation[0].astype(np.float32))
            zero = builder.CreateNumpyVector(quantisation[1].astype(np.int64))
            fields["Quantization"] = _table(
                builder, "QuantizationParameters", Scale=scale, ZeroPoint=zero, QuantizedDimension=quantisation[2]
            )
        made.append(_table(builder, "Tensor", Buffer=len(buffers) - 1, Type=kinds[values.dtype.name], **fields))
    # A computed tensor has no data.
    name = builder.CreateString("yamnet/layer1/conv/Relu")
    made.append(_table(builder, "Tensor", Name=name, Buffer=0))
    graphs = _vector(builder, [_table(builder, "SubGraph", Tensors=_vector(builder, made))])
    model = _table(builder, "Model", Version=3, Subgraphs=graphs, Buffers=_vector(builder, buffers))
    builder.Finish(model, b"TFL3")
    assert tflite.Model.GetRootAsModel(bytes(builder.Output()), 0).BuffersLength() == len(buffers)
    return bytes(builder.Output())


def _quantised(made: Weights) -> tuple[list[Any], Weights]:
    """Returns quantised constants with folded normalisation, and the equivalent weights in Keras's layout."""
    constants, equivalent = [], {}
    for layer, _, _ in _layers():
        beta, mean, variance = (made[_key(f"{layer}/bn", p)] for p in ("beta", "moving_mean", "moving_variance"))
        scale = 1 / np.sqrt(variance + 1e-4)
        kernel = made[_kernel_key(layer)] * (scale[:, None] if "depthwise" in layer else scale)
        kernel = kernel.transpose((3, 0, 1, 2))  # (1, 3, 3, channels), or (out, height, width, in)
        name = f"yamnet/{layer}/Conv2D"
        if "pointwise" in layer:  # one scale per channel
            step = np.abs(kernel).max(axis=(1, 2, 3)) / 127
            numbers = np.round(kernel / step[:, None, None, None]).astype(np.int8)
            constants.append((name, numbers, (step, np.zeros_like(step), 0)))
            kernel = numbers * step.astype(np.float32)[:, None, None, None]
        elif "depthwise" in layer:  # one scale and zero point for all channels
            low, high = kernel.min(), kernel.max()
            step, zero = (high - low) / 255, np.round(-low / (high - low) * 255)
            numbers = np.clip(np.round(kernel / step + zero), 0, 255).astype(np.uint8)
            merged = f"yamnet/{layer}/bn/FusedBatchNormV3;{name};yamnet/layer13/depthwise_conv/depthwise"
            constants.append((merged, numbers, (np.array([step]), np.array([zero]), 0)))
            kernel = (numbers - zero) * np.float32(step)
        else:
            constants.append((name, kernel.astype(np.float16), None))
            kernel = kernel.astype(np.float16)
        constants.append((f"yamnet/{layer}/bn/FusedBatchNormV3", (beta - mean * scale).astype(np.float32), None))
        equivalent[_kernel_key(layer)] = kernel.transpose((1, 2, 3, 0))
        equivalent[_key(f"{layer}/bn", "beta")] = constants[-1][1]
        equivalent[_key(f"{layer}/bn", "moving_mean")] = np.zeros_like(beta)
        equivalent[_key(f"{layer}/bn", "moving_variance")] = np.full_like(beta, 1 - 1e-4)
    constants.append(("yamnet/dense/MatMul", made[_key("logits", "kernel")].T.copy(), None))
    constants.append(("yamnet/dense/BiasAdd/ReadVariableOp/resource", made[_key("logits", "bias")], None))
    return constants, equivalent


class TestTFLiteFile:
    @pytest.fixture(autouse=True)
    def _extra(self):
        pytest.importorskip("tflite", reason="the extra musgenre[yamnet] is not installed")

    def test_equals_numpy(self, keras_weights, tmp_path, patches):
        constants, equivalent = _quantised(keras_weights)
        path = tmp_path / "yamnet.tflite"
        path.write_bytes(_tflite(constants))
        expected = _embed(patches, equivalent)
        with torch.inference_mode():
            embedding = YAMNet(weights=str(path))(_feature(patches))
        np.testing.assert_allclose(embedding.numpy(), expected, rtol=1e-3, atol=1e-4 * expected.max())
        dense = AudioSetScores(weights=str(path)).dense
        np.testing.assert_array_equal(dense.weight.detach().numpy(), keras_weights[_key("logits", "kernel")].T)
        np.testing.assert_array_equal(dense.bias.detach().numpy(), keras_weights[_key("logits", "bias")])

    def test_missing_tensors_and_wrong_shapes_are_named(self, tmp_path, keras_weights):
        constants, _ = _quantised(keras_weights)
        constants = [c for c in constants if c[0] != "yamnet/layer4/pointwise_conv/Conv2D"]
        constants[0] = (constants[0][0], np.zeros((32, 5, 5, 1), np.float32), None)
        (tmp_path / "yamnet.tflite").write_bytes(_tflite(constants))
        with pytest.raises(WeightsError, match="missing layer4/pointwise_conv/kernel; wrong shape layer1/conv/kernel"):
            YAMNet(weights=str(tmp_path / "yamnet.tflite"))

    @pytest.mark.parametrize("damage", ["cut", "garbled"])
    def test_damaged_file(self, damage, tmp_path, keras_weights):
        data = bytearray(_tflite(_quantised(keras_weights)[0][:8]))
        data = data[:40] if damage == "cut" else data[:8] + bytes(255 - byte for byte in data[8:])
        (tmp_path / "yamnet.tflite").write_bytes(data)
        with pytest.raises(WeightsError, match=r"yamnet\.tflite' is damaged"):
            YAMNet(weights=str(tmp_path / "yamnet.tflite"))


class TestInvalidFile:
    @pytest.mark.parametrize("make", [YAMNet, AudioSetScores])
    @pytest.mark.parametrize("name", ["yamnet.h5", "AudioSet", "."])
    def test_missing_file(self, make, name, tmp_path):
        with pytest.raises(WeightsError, match=r"'audioset' .*storage\.googleapis\.com/audioset/yamnet\.h5.* or None"):
            make(weights=str(tmp_path / name))

    @pytest.mark.parametrize("content", [b"", b"RIFF", b"PK\x03\x04 some other format"])
    def test_file_of_another_format(self, content, tmp_path):
        (tmp_path / "yamnet.h5").write_bytes(content)
        with pytest.raises(WeightsError, match="neither a Keras file"):
            YAMNet(weights=str(tmp_path / "yamnet.h5"))


@pytest.fixture
def cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Sets an empty cache and an unreachable URL of the official file, and returns its path in the cache."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/yamnet.h5"
    monkeypatch.setenv("MUSGENRE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(yamnet_weights, "OFFICIAL_WEIGHTS", url)
    return tmp_path / "cache" / "yamnet" / "yamnet.h5"


class TestAudioset:
    def test_url_of_the_official_file(self):
        assert yamnet_weights.OFFICIAL_WEIGHTS == "https://storage.googleapis.com/audioset/yamnet.h5"
        assert YAMNet.named_weights == ("audioset",)

    def test_file_is_downloaded_once(self, keras_weights, write_h5, cached, monkeypatch):
        path, requested = Path(write_h5(keras_weights)), []

        class Server(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                requested.append(self.path)
                self.send_response(200)
                self.end_headers()
                self.wfile.write(path.read_bytes())

            def log_message(self, *_: object) -> None:
                pass

        with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server) as server:
            threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
            monkeypatch.setattr(yamnet_weights, "OFFICIAL_WEIGHTS", f"http://127.0.0.1:{server.server_port}/yamnet.h5")
            first, scores = YAMNet(), AudioSetScores()
            server.shutdown()
        assert requested == ["/yamnet.h5"]
        assert cached.read_bytes() == path.read_bytes()
        for ours, theirs in ((first, YAMNet(weights=str(path))), (scores, AudioSetScores(weights=str(path)))):
            torch.testing.assert_close(ours.state_dict(), theirs.state_dict(), rtol=0, atol=0)

    @pytest.mark.parametrize("make", [YAMNet, AudioSetScores])
    def test_offline_error_names_alternatives(self, make, cached):
        with pytest.raises(WeightsError) as caught:
            make()
        message = str(caught.value)
        for part in (
            yamnet_weights.OFFICIAL_WEIGHTS,
            "on another machine",
            f"'{cached}'",
            '{"weights": "path/to/yamnet.h5"}',
            'backbone_weights="path/to/yamnet.h5"',
        ):
            assert part in message

    def test_file_copied_into_the_cache(self, keras_weights, write_h5, cached):
        cached.parent.mkdir(parents=True)
        Path(write_h5(keras_weights)).rename(cached)
        assert YAMNet().pretrained

    def test_damaged_file_in_cache(self, cached):
        cached.parent.mkdir(parents=True)
        cached.write_bytes(b"\x89HDF\r\n\x1a\n and no more")
        pytest.importorskip("h5py", reason="the extra musgenre[yamnet] is not installed")
        with pytest.raises(WeightsError, match=rf"'{cached}' is damaged.*remove it so that it is downloaded again"):
            YAMNet()

    def test_saved_head(self, keras_weights, write_h5, cached, tmp_path):
        """A model that names the weights of its backbone takes a few kilobytes and gives the same predictions."""
        path = write_h5(keras_weights)
        config = _config(1.0, weights="audioset")
        network = GenreNetwork.from_config(_config(1.0, weights=path), pretrained=True).eval()
        weights.save(tmp_path / "head", config=config, network=network, head_only=True)
        assert sum(file.stat().st_size for file in (tmp_path / "head").iterdir()) < 20_000
        with pytest.raises(WeightsError, match=r'backbone_weights="path/to/yamnet.h5"'):
            musgenre.GenreClassifier.from_pretrained(tmp_path / "head")
        classifier = musgenre.GenreClassifier.from_pretrained(tmp_path / "head", backbone_weights=Path(path))
        cached.parent.mkdir(parents=True, exist_ok=True)
        Path(path).rename(cached)
        reloaded = musgenre.GenreClassifier.from_pretrained(tmp_path / "head")
        waveforms = torch.randn(2, 16_000)
        with torch.inference_mode():
            for loaded in (classifier, reloaded):
                assert torch.equal(loaded.network(waveforms), network(waveforms))
        assert reloaded.config == config


def _config(window_seconds: float, **options: Any) -> ModelConfig:
    audio = AudioSpec(16_000, window_seconds, window_seconds)
    return ModelConfig(
        "yam", ("jazz", "rock"), audio, Component("yamnet-logmel"), Component("yamnet", options), dropout=0.0
    )


class TestGenreNetwork:
    @pytest.mark.parametrize("seconds", [0.975, 1.5, 3.0])
    def test_window_lengths(self, seconds):
        network = GenreNetwork.from_config(_config(seconds))
        assert network(torch.randn(2, round(seconds * 16_000))).shape == (2, 2)

    def test_window_too_short(self):
        with pytest.raises(ConfigError, match="at least 64 × 96, but the feature 'yamnet-logmel' gives 1 of 64 × 95"):
            GenreNetwork.from_config(_config(0.97))

    def test_pretrained(self, keras_weights, write_h5):
        path = write_h5(keras_weights)
        network = GenreNetwork.from_config(_config(0.975, weights=path), pretrained=True)
        assert network.backbone.pretrained
        assert BACKBONES.get("yamnet").default_feature == "yamnet-logmel"

    def test_saved_model_includes_the_weights(self, keras_weights, write_h5, tmp_path):
        path = write_h5(keras_weights)
        config = _config(1.0, weights=path)
        network = GenreNetwork.from_config(config, pretrained=True).eval()
        weights.save(tmp_path / "model", config=config, network=network)
        Path(path).unlink()
        again, other = weights.load(tmp_path / "model")
        assert again.backbone == Component("yamnet")
        waveforms = torch.randn(2, 16_000)
        with torch.inference_mode():
            assert torch.equal(other.eval()(waveforms), network(waveforms))
