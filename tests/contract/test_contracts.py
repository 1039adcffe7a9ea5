"""What every built-in feature and backbone keeps to. A new one is picked up from its registry."""

from __future__ import annotations

import copy
import importlib.util
import inspect
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

from musgenre.backbones.base import BACKBONES, Backbone, InputSpec
from musgenre.errors import ParameterError
from musgenre.features.base import FEATURES, FeatureExtractor
from musgenre.specs import Component

# Rates other than 22,050 Hz, for features that were made for one rate.
RATES = {"yamnet-logmel": 16_000}
# Smaller than the defaults where those would cost seconds or gigabytes.
SMALLER = {"vgg16": {"top": "pool"}}
# A convolutional network and a transformer, or a narrow and a deep one, of each family.
MEMBERS = {
    "timm/": ["timm/test_resnet", "timm/test_vit"] if importlib.util.find_spec("timm") else [],
    "torchvision/": ["torchvision/shufflenet_v2_x0_5", "torchvision/squeezenet1_1"],
}


def _built_in(registry) -> list[str]:
    names = [entry.name for entry in registry.entries() if entry.origin == "musgenre"]
    return [member for name in names for member in MEMBERS.get(name, [name])]


def _feature(feature: str | Component) -> FeatureExtractor:
    name, options = Component.of(feature).name, Component.of(feature).options
    return FEATURES.build(name, {**options, "sample_rate": RATES.get(name, 22_050)})


@dataclass(frozen=True)
class Case:
    """A backbone with pictures that it expects, and what it makes of them."""

    name: str
    backbone: Backbone
    pictures: Tensor
    vectors: Tensor


@pytest.fixture(params=_built_in(FEATURES))
def feature(request: pytest.FixtureRequest) -> FeatureExtractor:
    return _feature(request.param).eval()


@pytest.fixture(scope="module", params=_built_in(BACKBONES))
def case(request: pytest.FixtureRequest) -> Case:
    torch.manual_seed(0)
    name = request.param
    in_channels = _feature(BACKBONES.get(name).default_feature).out_shape(22_050)[0]
    backbone = _build(name, in_channels)
    low = backbone.expects.min_size
    size = backbone.expects.size or (max(low[0], 48), max(low[1], 56))
    pictures = torch.randn(2, in_channels, *size)
    with torch.inference_mode():
        return Case(name, backbone.eval(), pictures, backbone(pictures.clone()))


def _build(name: str, in_channels: int) -> Backbone:
    options = {**SMALLER.get(name, {}), "in_channels": in_channels}
    return BACKBONES.build(name, {**options, "weights": None} if BACKBONES.accepts(name, "weights") else options)


def test_all_are_here():
    assert {"logmel", "logmel-image", "mfcc"} <= set(_built_in(FEATURES))
    assert {"resnet18", "torchvision/squeezenet1_1", "vgg16", "vgg16-slim", "yamnet"} <= set(_built_in(BACKBONES))


class TestFeature:
    @pytest.mark.parametrize("samples", [22_050, 66_150, 22_187, 16_000, 48_000, 500])
    def test_shape_as_declared(self, feature, samples):
        shape = feature(torch.randn(2, samples)).shape
        assert shape == (2, *feature.out_shape(samples))
        assert all(type(size) is int and size > 0 for size in feature.out_shape(samples))

    def test_kind(self, feature):
        assert isinstance(feature, FeatureExtractor)
        assert feature.sample_rate in (22_050, *RATES.values())

    def test_every_option_has_a_default(self, feature):
        parameters = inspect.signature(type(feature)).parameters.values()
        assert [p.name for p in parameters if p.default is p.empty] == ["sample_rate"]

    @pytest.mark.parametrize("rate", [0, -1, 22_050.5, None])
    def test_sample_rate_is_checked(self, feature, rate):
        with pytest.raises(ParameterError, match="sample_rate"):
            type(feature)(sample_rate=rate)

    def test_batch_equals_one_by_one(self, feature):
        waveforms = torch.randn(3, 22_050) * torch.tensor([[1.0], [0.01], [0.5]])
        alone = torch.cat([feature(waveform[None]) for waveform in waveforms])
        torch.testing.assert_close(feature(waveforms), alone, rtol=1e-4, atol=1e-4)

    def test_the_same_twice(self, feature):
        waveforms = torch.randn(2, 22_050)
        kept = waveforms.clone()
        assert torch.equal(feature(waveforms), feature(waveforms))
        assert torch.equal(waveforms, kept)

    def test_hears_the_waveform(self, feature):
        seconds = torch.arange(feature.sample_rate) / feature.sample_rate
        low, high = (torch.sin(6.28 * frequency * seconds)[None] for frequency in (200, 5000))
        assert (feature(low) - feature(high)).abs().max() > 0.1

    def test_gradient_reaches_every_second_of_the_waveform(self, feature):
        waveforms = torch.randn(2, 22_050, requires_grad=True)
        feature(waveforms).square().sum().backward()
        assert waveforms.grad.isfinite().all()
        assert (waveforms.grad.reshape(2, 9, -1).abs().sum(dim=-1) > 0).all()

    def test_silence_and_extremes_are_finite(self, feature):
        for waveforms in (torch.zeros(1, 22_050), torch.ones(1, 22_050), torch.full((1, 22_050), 1e-20)):
            assert feature(waveforms).isfinite().all()

    def test_inference_mode(self, feature):
        waveforms = torch.randn(2, 22_050)
        with torch.inference_mode():
            inside = feature(waveforms)
        assert torch.equal(inside, feature(waveforms))

    def test_nothing_learned_and_no_filterbank_in_the_state_dict(self, feature):
        assert list(feature.parameters()) == []
        assert feature.state_dict() == {}
        feature.load_state_dict({})

    def test_follows_the_dtype(self, feature):
        waveforms = torch.randn(2, 22_050, dtype=torch.float64)
        double = copy.deepcopy(feature).double()(waveforms)
        assert double.dtype == torch.float64
        torch.testing.assert_close(double.float(), feature(waveforms.float()), rtol=1e-3, atol=1e-2)


class TestBackbone:
    def test_kind(self, case):
        assert isinstance(case.backbone, Backbone)
        assert isinstance(case.backbone.expects, InputSpec)
        assert Component.of(BACKBONES.get(case.name).default_feature).name in FEATURES
        assert case.backbone.out_features > 0

    def test_expects_what_its_default_feature_gives(self, case):
        feature = _feature(BACKBONES.get(case.name).default_feature)
        case.backbone.expects.check(
            feature.out_shape(3 * feature.sample_rate), feature="the default", backbone=case.name
        )

    def test_every_option_but_the_channels_has_a_default(self, case):
        parameters = inspect.signature(BACKBONES.get(case.name)).parameters.values()
        assert {p.name for p in parameters if p.default is p.empty} <= {"in_channels"}
        assert BACKBONES.accepts(case.name, "in_channels")

    def test_shape_as_declared(self, case):
        assert case.vectors.shape == (2, case.backbone.out_features)
        assert case.vectors.isfinite().all()
        assert not torch.equal(case.vectors[0], case.vectors[1])

    def test_batch_equals_one_by_one(self, case):
        with torch.inference_mode():
            alone = torch.cat([case.backbone(picture[None]) for picture in case.pictures])
        torch.testing.assert_close(case.vectors, alone, rtol=1e-3, atol=1e-4)

    def test_the_same_twice_and_outside_inference_mode(self, case):
        kept = case.pictures.clone()
        assert torch.equal(case.backbone(case.pictures), case.vectors)
        assert torch.equal(case.pictures, kept)

    def test_gradient_reaches_input_and_parameters(self, case):
        backbone = copy.deepcopy(case.backbone)
        pictures = case.pictures.clone().requires_grad_()
        backbone(pictures).square().sum().backward()
        without = [name for name, parameter in backbone.named_parameters() if parameter.grad is None]
        assert without == []
        assert all(parameter.grad.isfinite().all() for parameter in backbone.parameters())
        assert (pictures.grad.abs().sum(dim=(1, 2, 3)) > 0).all()
        first = next(backbone.stages()[0].parameters())
        assert first.grad.abs().sum() > 0

    def test_state_dict_round_trip(self, case):
        torch.manual_seed(1)
        other = _build(case.name, case.pictures.shape[1]).eval()
        assert not torch.equal(next(other.parameters()), next(case.backbone.parameters()))
        other.load_state_dict(case.backbone.state_dict())
        with torch.inference_mode():
            assert torch.equal(other(case.pictures), case.vectors)

    def test_stages_hold_every_parameter_once(self, case):
        held = [id(parameter) for stage in case.backbone.stages() for parameter in stage.parameters()]
        assert len(held) == len(set(held))
        assert set(held) == {id(parameter) for parameter in case.backbone.parameters()}

    def test_stages_are_made_of_its_own_modules(self, case):
        own = {id(module) for module in case.backbone.modules()}
        for stage in case.backbone.stages():
            assert isinstance(stage, nn.Module)
            assert list(stage.parameters())
            assert all(id(leaf) in own for leaf in stage.modules() if not list(leaf.children()))

    def test_stages_run_from_input_to_output(self, case):
        ran: list[int] = []
        hooks = [
            leaf.register_forward_hook(lambda *_, stage=number: ran.append(stage))
            for number, stage in enumerate(case.backbone.stages())
            for leaf in stage.modules()
            if not list(leaf.children())
        ]
        case.backbone(case.pictures[:1])
        for hook in hooks:
            hook.remove()
        assert ran == sorted(ran)
        assert set(ran) == set(range(len(case.backbone.stages())))

    def test_freezing_the_first_stages_stops_their_gradients(self, case):
        backbone = copy.deepcopy(case.backbone).requires_grad_(False)
        last = backbone.stages()[-1].requires_grad_(True)
        backbone(case.pictures[:1]).sum().backward()
        learning = {id(parameter) for parameter in last.parameters()}
        for parameter in backbone.parameters():
            assert (parameter.grad is not None) == (id(parameter) in learning)
