from __future__ import annotations

import email.message
import io
import pickle
import tempfile
import urllib.error
import urllib.request
import urllib.response
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models import VGG, VGG16_Weights, vgg16

from musgenre.backbones.base import InputSpec
from musgenre.backbones.vgg import VGG16, VGG16Slim
from musgenre.core.errors import ConfigError, ParameterError, WeightsError

CHANNELS = (64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512)
FILE = VGG16_Weights.IMAGENET1K_V1.url.rpartition("/")[2]


@pytest.fixture(scope="module", autouse=True)
def _fast_dense_layers() -> Iterator[None]:
    """Skips the initialisation of VGG-16's dense layers, which takes seconds; the tests load other weights anyway."""

    def only_small(draw: Callable[..., Tensor]) -> Callable[..., Tensor]:
        return lambda tensor, *args, **options: (
            tensor if tensor.numel() > 10_000_000 else draw(tensor, *args, **options)
        )

    with pytest.MonkeyPatch.context() as patch:
        for name in ("kaiming_uniform_", "normal_"):
            patch.setattr(nn.init, name, only_small(getattr(nn.init, name)))
        yield


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    # Not tmp_path, which pytest deletes after three runs only: the files take half a gigabyte.
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


@pytest.fixture(scope="module")
def torchvision_vgg16() -> VGG:
    network = vgg16(weights=None).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            fan_in = parameter[0].numel() if parameter.ndim > 1 else 300
            bound = (6 / fan_in) ** 0.5
            parameter.uniform_(-bound, bound, generator=generator)
    return network


@pytest.fixture(scope="module")
def full_state_dict(torchvision_vgg16: VGG, folder: Path) -> Path:
    path = folder / "full.pth"
    torch.save(torchvision_vgg16.state_dict(), path)
    return path


@pytest.fixture(scope="module")
def convolutions(torchvision_vgg16: VGG) -> dict[str, Tensor]:
    return {f"features.{name}": tensor for name, tensor in torchvision_vgg16.features.state_dict().items()}


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def penultimate(torchvision_vgg16: VGG, images: Tensor) -> Tensor:
    """The input of torchvision's output layer."""
    seen: list[Tensor] = []
    hook = torchvision_vgg16.classifier[6].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with torch.inference_mode():
        torchvision_vgg16(images)
    hook.remove()
    assert (seen[0] > 0).float().mean() > 0.2
    return seen[0]


@pytest.mark.slow
class TestVGG16WithDenseLayers:
    def test_equals_torchvision(self, full_state_dict, images, penultimate):
        backbone = VGG16(weights=str(full_state_dict)).eval()
        with torch.inference_mode():
            vector = backbone(images)
        assert vector.shape == (1, backbone.out_features) == (1, 4096)
        assert torch.equal(vector, penultimate)

    def test_equals_torchvision_from_safetensors(self, torchvision_vgg16, folder, images, penultimate):
        path = folder / "full.safetensors"
        save_file(torchvision_vgg16.state_dict(), path)
        with torch.inference_mode():
            assert torch.equal(VGG16(weights=str(path)).eval()(images), penultimate)
        path.unlink()

    def test_stages(self):
        backbone = VGG16(weights=None)
        stages = backbone.stages()
        _check_partition(backbone, stages)
        assert [_count(stage, nn.Conv2d) for stage in stages] == [2, 2, 3, 3, 3, 0]
        assert [_count(stage, nn.Linear) for stage in stages] == [0, 0, 0, 0, 0, 2]
        assert _count(backbone, nn.Dropout) == 2
        assert sum(p.numel() for p in backbone.parameters()) == 138_357_544 - 4096 * 1000 - 1000

    def test_weights_of_convolutions_are_not_enough(self, convolutions, tmp_path):
        torch.save(convolutions, tmp_path / "convolutions.pth")
        with pytest.raises(WeightsError, match=r"missing .*fc\.0\.weight.*fc\.3\.bias.*top='pool'") as caught:
            VGG16(weights=str(tmp_path / "convolutions.pth"))
        assert "features.0.weight" not in str(caught.value)


class TestVGG16WithPooling:
    @pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
    def test_equals_torchvision(self, suffix, convolutions, torchvision_vgg16, tmp_path, images):
        path = tmp_path / f"convolutions{suffix}"
        save_file(convolutions, path) if suffix == ".safetensors" else torch.save(convolutions, path)
        backbone = VGG16(weights=str(path), top="pool").eval()
        with torch.inference_mode():
            maps = torchvision_vgg16.features(images)
            assert torch.equal(backbone(images), nn.functional.adaptive_avg_pool2d(maps, 1).flatten(1))
        assert backbone.out_features == 512

    def test_full_state_dict_is_accepted(self, full_state_dict, convolutions):
        backbone = VGG16(weights=str(full_state_dict), top="pool")
        assert backbone.state_dict().keys() == convolutions.keys()
        assert all(torch.equal(tensor, convolutions[name]) for name, tensor in backbone.state_dict().items())

    def test_stages(self):
        backbone = VGG16(weights=None, top="pool")
        stages = backbone.stages()
        _check_partition(backbone, stages)
        assert [_count(stage, nn.Conv2d) for stage in stages] == [2, 2, 3, 3, 3]
        assert all(isinstance(list(stage.children())[-1], nn.MaxPool2d) for stage in stages)

    def test_stages_run_from_input_to_output(self, images):
        backbone = VGG16(weights=None, top="pool").eval()
        small = images[..., :64, :64]
        with torch.inference_mode():
            maps = small
            for stage in backbone.stages():
                maps = stage(maps)
            torch.testing.assert_close(backbone(small), maps.mean(dim=(2, 3)))

    def test_weights_in_half_precision(self, convolutions, tmp_path):
        save_file({name: tensor.half() for name, tensor in convolutions.items()}, tmp_path / "half.safetensors")
        backbone = VGG16(weights=str(tmp_path / "half.safetensors"), top="pool")
        weight = backbone.state_dict()["features.0.weight"]
        assert weight.dtype == torch.float32
        assert torch.equal(weight, convolutions["features.0.weight"].half().float())


class TestInvalidWeights:
    def _load(self, path: Path) -> None:
        VGG16(weights=str(path), top="pool")

    def test_missing_tensors_and_wrong_shapes_are_named(self, convolutions, tmp_path):
        state = {**convolutions, "features.28.bias": torch.zeros(256)}
        del state["features.0.weight"]
        torch.save(state, tmp_path / "wrong.pth")
        with pytest.raises(WeightsError, match=r"missing \['features.0.weight'\], wrong shape \['features.28.bias'\]"):
            self._load(tmp_path / "wrong.pth")

    def test_wrong_shape(self, convolutions, tmp_path):
        torch.save({**convolutions, "features.0.weight": torch.zeros(64, 1, 3, 3)}, tmp_path / "wrong.pth")
        with pytest.raises(WeightsError, match=r"missing nothing, wrong shape \['features.0.weight'\]"):
            self._load(tmp_path / "wrong.pth")

    def test_another_network(self, tmp_path):
        save_file(nn.Linear(3, 4).state_dict(), tmp_path / "linear.safetensors")
        with pytest.raises(
            WeightsError, match=r"not a state dict of torchvision's vgg16: missing .*features\.28\.bias"
        ):
            self._load(tmp_path / "linear.safetensors")

    @pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
    @pytest.mark.parametrize(
        "content",
        [b"", b"hello", b"\0" * 100, pickle.dumps({"a": 1}, protocol=2)],
        ids=["empty", "text", "zeros", "pickle"],
    )
    def test_files_of_other_formats(self, suffix, content, tmp_path):
        path = tmp_path / f"other{suffix}"
        path.write_bytes(content)
        with pytest.raises(WeightsError, match=rf"other\{suffix}' (cannot be read as a|does not hold a) state dict"):
            self._load(path)

    @pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
    def test_truncated_file(self, suffix, convolutions, tmp_path):
        path = tmp_path / f"cut{suffix}"
        save_file(convolutions, path) if suffix == ".safetensors" else torch.save(convolutions, path)
        with path.open("r+b") as file:
            file.truncate(path.stat().st_size // 2)
        with pytest.raises(WeightsError, match="cannot be read as a state dict"):
            self._load(path)

    def test_code_in_a_pickle_is_not_run(self, tmp_path):
        class Payload:
            def __reduce__(self):
                return (Path.touch, (tmp_path / "ran",))

        torch.save({"features.0.weight": Payload()}, tmp_path / "evil.pth")
        with pytest.raises(WeightsError, match="cannot be read as a state dict"):
            self._load(tmp_path / "evil.pth")
        assert not (tmp_path / "ran").exists()

    @pytest.mark.parametrize("state", [[torch.zeros(3)], {"features.0.weight": 3}, torch.zeros(3)])
    def test_other_objects(self, state, tmp_path):
        torch.save(state, tmp_path / "list.pth")
        with pytest.raises(WeightsError, match="does not hold a state dict"):
            self._load(tmp_path / "list.pth")

    @pytest.mark.parametrize("name", ["nowhere.pth", "IMAGENET", "."])
    def test_missing_file(self, name, tmp_path):
        with pytest.raises(WeightsError, match=r"There is no weights file .* 'imagenet'") as caught:
            self._load(tmp_path / name)
        assert isinstance(caught.value, OSError)


@pytest.fixture
def torch_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty directory of checkpoints for torch.hub."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    checkpoints = tmp_path / "hub" / "checkpoints"
    checkpoints.mkdir(parents=True)
    return checkpoints


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Disconnects the network, and returns the list of requested URLs."""
    requested: list[str] = []

    class Unplugged:
        def open(self, request, *_, **__):
            requested.append(request if isinstance(request, str) else request.full_url)
            raise urllib.error.URLError("unplugged")

    monkeypatch.setattr(urllib.request, "_opener", Unplugged())
    return requested


class TestImagenetWeights:
    def test_file_in_cache_of_torch_hub_is_used(self, full_state_dict, convolutions, torch_home, no_network):
        (torch_home / FILE).symlink_to(full_state_dict)
        state = VGG16(top="pool").state_dict()
        assert all(torch.equal(state[name], tensor) for name, tensor in convolutions.items())
        assert no_network == []

    def test_weights_are_downloaded_from_url_of_torchvision(self, torch_home, no_network):
        with pytest.raises(WeightsError) as caught:
            VGG16(top="pool")
        assert no_network == ["https://download.pytorch.org/models/vgg16-397923af.pth"]
        assert isinstance(caught.value.__cause__, urllib.error.URLError)
        for part in ("unplugged", no_network[0], str(torch_home.parent), '{"weights": "vgg16-397923af.pth"}', "None"):
            assert part in str(caught.value)

    def test_wrong_checksum_leaves_no_file(self, torch_home, monkeypatch):
        class WrongContent:
            def open(self, request, *_, **__):
                return urllib.response.addinfourl(io.BytesIO(b"not weights"), email.message.Message(), request.full_url)

        monkeypatch.setattr(urllib.request, "_opener", WrongContent())
        with pytest.raises(WeightsError, match="hash"):
            VGG16(top="pool")
        assert list(torch_home.iterdir()) == []

    @pytest.mark.parametrize("content", [b"", b"<html>log in first</html>", b"PK\3\4" + b"\0" * 50])
    def test_damaged_file_in_cache(self, content, torch_home, no_network):
        (torch_home / FILE).write_bytes(content)
        with pytest.raises(WeightsError, match=r"is damaged .*Remove a damaged file"):
            VGG16(top="pool")
        assert no_network == []

    def test_file_of_another_network_in_cache(self, torch_home, no_network):
        torch.save({"a": torch.zeros(1)}, torch_home / FILE)
        with pytest.raises(WeightsError, match="'imagenet' is not a state dict of torchvision's vgg16"):
            VGG16(top="pool")
        assert no_network == []


class TestVGG16Arguments:
    @pytest.mark.parametrize("in_channels", [1, 4])
    def test_number_of_channels_must_be_3(self, in_channels):
        with pytest.raises(ConfigError, match=f"expects 3 channels, got {in_channels}.*logmel-image.*vgg16-slim"):
            VGG16(in_channels=in_channels, weights=None)

    def test_unknown_top(self):
        with pytest.raises(ParameterError, match="'fc' or 'pool', not 'maxpool'"):
            VGG16(weights=None, top="maxpool")

    def test_expected_input_matches_preprocessing_of_weights(self):
        preprocessing = VGG16_Weights.IMAGENET1K_V1.transforms()
        expects = VGG16(weights=None, top="pool").expects
        assert expects.mean == tuple(preprocessing.mean)
        assert expects.std == tuple(preprocessing.std)
        assert expects.size == (preprocessing.crop_size[0],) * 2
        assert expects.channels == 3

    def test_default_feature_and_hidden_layers(self):
        assert VGG16.default_hidden == (2048, 512, 256, 128, 64)
        assert VGG16.default_feature == "logmel-image"


class TestVGG16Slim:
    @pytest.mark.parametrize("stem_stride", [1, 2])
    def test_size_is_reduced_by_32_with_any_stride_of_the_stem(self, stem_stride):
        backbone = VGG16Slim(in_channels=1, width=0.03, dense_units=8, stem_stride=stem_stride).eval()
        image = torch.randn(1, 1, 64, 256)
        for group in backbone.groups:
            image = group(image)
        assert image.shape[2:] == (2, 8)

    def test_stem_stride_2_reduces_computation_to_a_quarter(self):
        def flops(**options):
            with FlopCounterMode(display=False) as counter:
                VGG16Slim(in_channels=1, **options)(torch.zeros(1, 1, 128, 128))
            return counter.get_total_flops()

        assert flops(stem_stride=2) / flops() == pytest.approx(0.25, abs=0.02)

    def test_mean_pooling_is_invariant_to_repetition_in_time(self):
        backbone = VGG16Slim(in_channels=1, width=0.03, dense_units=8, pooling="mean").eval()
        maps = torch.rand(1, 15, 2, 4)
        backbone.groups = torch.nn.ModuleList([torch.nn.Identity()])
        backbone.dense = torch.nn.Identity()
        once, twice = backbone(maps), backbone(torch.cat([maps, maps], dim=3))
        torch.testing.assert_close(once, twice)
        torch.testing.assert_close(once, F.layer_norm(maps, maps.shape[1:]).mean(dim=(2, 3)))

    def test_fifteen_layers_with_weights(self):
        backbone = VGG16Slim(in_channels=1)
        assert _count(backbone, nn.Conv2d) == 13
        assert _count(backbone, nn.Linear) == 2
        assert 1_200_000 < sum(parameter.numel() for parameter in backbone.parameters()) < 1_400_000
        assert backbone.out_features == 512

    @settings(deadline=None, max_examples=25)
    @given(width=st.floats(0.01, 0.6), in_channels=st.integers(1, 4))
    def test_channels_are_vgg16s_times_width(self, width, in_channels):
        layers = _leaves(VGG16Slim(in_channels=in_channels, width=width, dense_units=8))
        convolutions = [layer for layer in layers if isinstance(layer, nn.Conv2d)]
        widths = [layer.out_channels for layer in convolutions]
        assert widths == [max(1, round(full * width)) for full in CHANNELS]
        assert [layer.in_channels for layer in convolutions] == [in_channels, *widths[:-1]]
        assert all(layer.kernel_size == (3, 3) and layer.padding == (1, 1) for layer in convolutions)

    def test_reference_channels_are_those_of_vgg16(self):
        reference = [layer.out_channels for layer in vgg16(weights=None).features if isinstance(layer, nn.Conv2d)]
        assert list(CHANNELS) == reference

    def test_batch_normalisation_after_each_convolution(self):
        layers = _leaves(VGG16Slim(in_channels=1, width=0.1))
        followers = [layers[i + 1 : i + 3] for i, layer in enumerate(layers) if isinstance(layer, nn.Conv2d)]
        assert all(isinstance(norm, nn.BatchNorm2d) and isinstance(relu, nn.ReLU) for norm, relu in followers)
        assert sum(isinstance(layer, nn.BatchNorm2d) for layer in layers) == 13
        assert sum(isinstance(layer, nn.MaxPool2d) for layer in layers) == 5

    @settings(deadline=None, max_examples=12)
    @given(bins=st.integers(32, 100), frames=st.integers(32, 140))
    def test_any_size(self, bins, frames):
        backbone = VGG16Slim(in_channels=2, width=0.03, dense_units=8).eval()
        backbone.expects.check((2, bins, frames), feature="f", backbone="b")
        vector = backbone(torch.randn(2, 2, bins, frames))
        assert vector.shape == (2, 8)
        assert vector.isfinite().all()

    @pytest.mark.parametrize("size", [(31, 200), (128, 31)])
    def test_size_below_the_minimum(self, size):
        with pytest.raises(ConfigError, match="at least 32 × 32"):
            VGG16Slim(in_channels=1, width=0.03).expects.check((1, *size), feature="f", backbone="b")

    def test_gradient_reaches_every_parameter(self):
        torch.manual_seed(0)
        backbone = VGG16Slim(in_channels=1, width=0.1, dense_units=64)
        images = torch.randn(8, 1, 64, 64, requires_grad=True)
        backbone(images).square().sum().backward()
        dead = [name for name, parameter in backbone.named_parameters() if parameter.grad.abs().sum() == 0]
        assert dead == []
        assert (images.grad.abs().sum(dim=(1, 2, 3)) > 0).all()

    def test_stages_run_from_input_to_output(self):
        backbone = VGG16Slim(in_channels=3, width=0.1).eval()
        *groups, dense = backbone.stages()
        _check_partition(backbone, [*groups, dense])
        assert [_count(group, nn.Conv2d) for group in groups] == [2, 2, 3, 3, 3]
        images = torch.randn(2, 3, 64, 96)
        standard = (images - images.mean((1, 2, 3), keepdim=True)) / images.std((1, 2, 3), keepdim=True)
        over_time = nn.Sequential(*groups)(standard).mean(dim=2)
        vectors = torch.cat([over_time.mean(dim=-1), over_time.max(dim=-1).values], dim=1)
        torch.testing.assert_close(backbone(images), dense(vectors), rtol=1e-3, atol=1e-5)

    @settings(deadline=None, max_examples=6)
    @given(scale=st.floats(0.1, 100), offset=st.floats(-100, 100))
    def test_invariance_to_scale_and_offset(self, scale, offset):
        backbone = VGG16Slim(in_channels=1, width=0.03, dense_units=8).double().eval()
        images = torch.randn(2, 1, 40, 40, dtype=torch.float64)
        torch.testing.assert_close(backbone(scale * images + offset), backbone(images), rtol=1e-2, atol=1e-3)

    def test_output_variance_with_initial_weights(self):
        torch.manual_seed(0)
        vectors = VGG16Slim(in_channels=1)(torch.randn(8, 1, 64, 64))
        assert 0.05 < vectors.std() < 20
        assert (vectors.std(dim=0) > 0).float().mean() > 0.5

    @pytest.mark.parametrize(
        "wrong",
        [
            {"in_channels": 0},
            {"width": 0.0},
            {"width": -1.0},
            {"stem_stride": 3},
            {"pooling": "max"},
            {"width": float("nan")},
            {"dense_units": 0},
            {"dropout": 1.0},
            {"dropout": -0.1},
            {"dropout": float("nan")},
        ],
    )
    def test_parameters_out_of_range(self, wrong):
        with pytest.raises(ParameterError, match=str(next(iter(wrong.values())))):
            VGG16Slim(**{"in_channels": 1, **wrong})


class TestInputSpec:
    @pytest.mark.parametrize(
        ("spec", "shape"),
        [
            (InputSpec(3, size=(224, 224)), (1, 224, 224)),
            (InputSpec(3, size=(224, 224)), (3, 224, 225)),
            (InputSpec(1, min_size=(32, 32)), (1, 32, 20)),
            (InputSpec(1), (2, 10, 10)),
        ],
    )
    def test_mismatch_is_an_error(self, spec, shape):
        with pytest.raises(ConfigError) as caught:
            spec.check(shape, feature="my-feature", backbone="my-net")
        message = str(caught.value)
        assert "'my-feature'" in message
        assert "'my-net'" in message
        assert f"gives {shape[0]} of {shape[1]} × {shape[2]}" in message

    @pytest.mark.parametrize(
        ("spec", "shape"),
        [(InputSpec(3, size=(224, 224)), (3, 224, 224)), (InputSpec(1, min_size=(8, 8)), (1, 8, 99))],
    )
    def test_match(self, spec, shape):
        spec.check(shape, feature="f", backbone="b")


def _leaves(module: nn.Module) -> list[nn.Module]:
    return [leaf for leaf in module.modules() if not list(leaf.children())]


def _count(module: nn.Module, kind: type[nn.Module]) -> int:
    return sum(isinstance(leaf, kind) for leaf in module.modules())


def _check_partition(backbone: nn.Module, stages: list[nn.Module]) -> None:
    """Checks that every parameter is in exactly one stage, in the order in which they are used."""
    in_stages = [id(parameter) for stage in stages for parameter in stage.parameters()]
    assert in_stages == [id(parameter) for parameter in backbone.parameters()]
