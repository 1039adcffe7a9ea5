from __future__ import annotations

import contextlib
import copy
from dataclasses import replace

import pytest
import torch
from torch import nn

from musgenre.backbones.base import BACKBONES, Backbone, InputSpec
from musgenre.core.config import AudioSpec, Component, ModelConfig
from musgenre.core.errors import ConfigError, PluginError, UnknownNameError
from musgenre.features.base import FEATURES, FeatureExtractor
from musgenre.features.spectral import LogMel
from musgenre.models.network import GenreNetwork, dense_head

CONFIG = ModelConfig(
    "tiny",
    ("blues", "jazz", "rock"),
    AudioSpec(sample_rate=8000, window_seconds=1.0, hop_seconds=1.0),
    Component("logmel", {"n_fft": 512, "hop_length": 200, "n_mels": 40}),
    Component("vgg16-slim", {"width": 0.03, "dense_units": 12}),
    hidden=(6,),
)


class Mean(Backbone):
    """Averages the feature over bins and frames, and stores its argument ``weights``."""

    def __init__(self, *, in_channels: int, weights: str | None = "from the internet") -> None:
        super().__init__()
        self.out_features = in_channels
        self.expects = InputSpec(channels=in_channels)
        self.weights = weights

    def stages(self) -> list[nn.Module]:
        return []

    def forward(self, feature):
        return feature.mean(dim=(-2, -1))


@pytest.fixture
def register():
    """Registers factories for the duration of a test."""
    with contextlib.ExitStack() as stack:
        yield lambda registry, name, factory: stack.enter_context(registry.temporary(name, factory))


@pytest.fixture(scope="module")
def network() -> GenreNetwork:
    torch.manual_seed(0)
    return GenreNetwork.from_config(CONFIG).eval()


@pytest.fixture(scope="module")
def waveforms() -> torch.Tensor:
    return torch.randn(3, 8000, generator=torch.Generator().manual_seed(0))


class TestFromConfig:
    def test_builds_the_components_of_the_config(self, network, waveforms):
        assert isinstance(network.feature, LogMel)
        assert network.feature.sample_rate == 8000
        assert network.feature.out_shape(8000) == (1, 40, 41)
        assert network.backbone.out_features == 12
        assert [m.out_features for m in network.head if isinstance(m, nn.Linear)] == [6, 3]
        assert network(waveforms).shape == (3, 3)

    def test_backbone_has_the_channels_of_the_feature(self, register):
        class Stereo(LogMel):
            def out_shape(self, samples):
                return 2, *super().out_shape(samples)[1:]

            def forward(self, waveform):
                return super().forward(waveform).expand(-1, 2, -1, -1)

        register(FEATURES, "stereo", lambda *, sample_rate: Stereo(sample_rate=sample_rate, hop_length=200))
        network = GenreNetwork.from_config(replace(CONFIG, feature=Component("stereo")))
        assert network.backbone.expects.channels == 2
        assert network(torch.randn(1, 8000)).shape == (1, 3)

    def test_dropout_of_the_config(self):
        network = GenreNetwork.from_config(replace(CONFIG, dropout=0.25))
        assert {layer.p for layer in network.head.modules() if isinstance(layer, nn.Dropout)} == {0.25}

    @pytest.mark.parametrize(
        ("feature", "backbone", "found", "expected"),
        [
            (Component("logmel-image", {"size": 8}), Component("vgg16-slim"), "3 of 8 × 8", "at least 32 × 32"),
            (Component("logmel"), Component("vgg16-slim"), "1 of 128 × 16", "at least 32 × 32"),
        ],
    )
    def test_feature_and_backbone_that_do_not_fit(self, feature, backbone, found, expected):
        with pytest.raises(ConfigError) as caught:
            GenreNetwork.from_config(replace(CONFIG, feature=feature, backbone=backbone))
        for part in (repr(feature.name), repr(backbone.name), found, expected):
            assert part in str(caught.value)

    def test_wrong_channels_raise_before_a_download(self):
        config = replace(CONFIG, backbone=Component("vgg16"))
        with pytest.raises(ConfigError, match="vgg16 expects 3 channels, got 1"):
            GenreNetwork.from_config(config, pretrained=True)

    @pytest.mark.parametrize(
        ("changes", "error", "message"),
        [
            ({"feature": Component("logmell")}, UnknownNameError, "no feature 'logmell'. Did you mean 'logmel"),
            ({"backbone": Component("vgg15")}, UnknownNameError, "no backbone 'vgg15'. Did you mean 'vgg16"),
            ({"feature": Component("logmel", {"mels": 3})}, ConfigError, "'logmel' got an unexpected option 'mels'"),
            (
                {"backbone": Component("vgg16-slim", {"widht": 3})},
                ConfigError,
                "unexpected option 'widht'. Did you mean 'width",
            ),
            ({"backbone": Component("vgg16-slim", {"weights": None})}, ConfigError, "unexpected option 'weights'"),
        ],
    )
    def test_wrong_names_and_options(self, changes, error, message):
        with pytest.raises(error, match=message):
            GenreNetwork.from_config(replace(CONFIG, **changes))


class TestInitialWeights:
    @pytest.mark.parametrize(
        ("options", "pretrained", "expected"),
        [
            ({}, False, None),
            ({"weights": "a.pth"}, False, None),
            ({}, True, "from the internet"),
            ({"weights": "a.pth"}, True, "a.pth"),
            ({"weights": None}, True, None),
        ],
    )
    def test_are_loaded_only_if_requested(self, register, options, pretrained, expected):
        register(BACKBONES, "mean", Mean)
        config = replace(CONFIG, backbone=Component("mean", options))
        assert GenreNetwork.from_config(config, pretrained=pretrained).backbone.weights == expected
        assert config.backbone.options == options

    @pytest.mark.slow
    def test_vgg16_from_a_config_downloads_nothing(self, monkeypatch):
        def refuse(*_, **__):
            raise RuntimeError("downloaded")

        monkeypatch.setattr("torch.hub.load_state_dict_from_url", refuse)
        monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", refuse)
        config = replace(CONFIG, feature=Component("logmel-image"), backbone=Component("vgg16", {"top": "pool"}))
        assert GenreNetwork.from_config(config).backbone.out_features == 512


class TestPluginsThatBreakTheContract:
    def test_backbone_of_a_wrong_type(self, register):
        register(BACKBONES, "linear", lambda *, in_channels: nn.Linear(in_channels, 3))
        with pytest.raises(
            PluginError, match=r"backbone 'linear' returned a Linear; .*musgenre\.backbones\.base\.Backbone"
        ):
            GenreNetwork.from_config(replace(CONFIG, backbone=Component("linear")))

    def test_feature_of_a_wrong_type(self, register):
        register(FEATURES, "nothing", lambda *, sample_rate: None)
        with pytest.raises(PluginError, match=r"feature 'nothing' returned a NoneType; .*FeatureExtractor"):
            GenreNetwork.from_config(replace(CONFIG, feature=Component("nothing")))

    def test_feature_without_a_parameter_sample_rate(self, register):
        register(FEATURES, "rateless", lambda *, size=3: None)
        with pytest.raises(ConfigError, match="'rateless' got an unexpected option 'sample_rate'"):
            GenreNetwork.from_config(replace(CONFIG, feature=Component("rateless")))

    def test_a_feature_is_not_a_backbone(self):
        assert not issubclass(FeatureExtractor, Backbone)


class TestOutput:
    def test_is_logits(self, network, waveforms):
        # The last layer is linear, so scaling its weights scales the output; a softmax would prevent this.
        doubled = copy.deepcopy(network)
        with torch.no_grad():
            doubled.head[-1].weight *= 2
            doubled.head[-1].bias *= 2
            logits = network(waveforms)
            torch.testing.assert_close(doubled(waveforms), 2 * logits)
        assert (logits.sum(dim=1) - 1).abs().min() > 1e-3

    def test_classify_is_the_part_after_the_feature(self, network, waveforms):
        with torch.inference_mode():
            assert torch.equal(network.classify(network.feature(waveforms)), network(waveforms))

    def test_gradient_flows_through_the_feature(self, network):
        waveform = torch.randn(1, 8000, requires_grad=True)
        network(waveform).sum().backward()
        assert waveform.grad.abs().sum() > 0

    def test_state_dict_contains_only_trained_modules(self, network):
        assert {name.partition(".")[0] for name in network.state_dict()} == {"backbone", "head"}

    def test_export(self, network, waveforms):
        batch = ({0: torch.export.Dim("batch", min=1, max=64)},)
        exported = torch.export.export(network, (waveforms[:2],), dynamic_shapes=batch).module()
        for inputs in (waveforms, waveforms[:1]):
            torch.testing.assert_close(exported(inputs), network(inputs))

    def test_moves_to_double_and_back(self, network, waveforms):
        moved = copy.deepcopy(network).double()
        with torch.inference_mode():
            logits = moved(waveforms.double())
            assert logits.dtype == torch.float64
            torch.testing.assert_close(logits.float(), network(waveforms), rtol=1e-3, atol=1e-4)
            assert torch.equal(moved.float()(waveforms), network(waveforms))

    def test_bfloat16_classifies(self, network, waveforms):
        with torch.inference_mode():
            feature = network.feature(waveforms)
            half = copy.deepcopy(network).bfloat16().classify(feature.bfloat16())
            assert half.dtype == torch.bfloat16
            torch.testing.assert_close(half.float(), network.classify(feature), rtol=0.1, atol=0.1)

    def test_on_a_gpu(self, network, waveforms):
        if not torch.cuda.is_available():
            pytest.skip("needs a GPU")
        moved = copy.deepcopy(network).cuda()
        with torch.inference_mode():
            torch.testing.assert_close(moved(waveforms.cuda()).cpu(), network(waveforms), rtol=1e-2, atol=1e-2)


class TestDenseHead:
    @pytest.mark.parametrize("widths", [(3,), (8, 3), (2048, 512, 256, 128, 64, 10)])
    def test_layers(self, widths):
        head = dense_head(16, widths=widths, dropout=0.3)
        linear = [layer for layer in head if isinstance(layer, nn.Linear)]
        assert [layer.in_features for layer in linear] == [16, *widths[:-1]]
        assert [layer.out_features for layer in linear] == list(widths)
        assert [type(layer) for layer in head] == [nn.Dropout, nn.Linear, nn.ReLU] * (len(widths) - 1) + [
            nn.Dropout,
            nn.Linear,
        ]
        assert {layer.p for layer in head if isinstance(layer, nn.Dropout)} == {0.3}

    def test_output_is_unbounded(self):
        torch.manual_seed(0)
        logits = dense_head(16, widths=(8, 5), dropout=0.0)(torch.randn(200, 16))
        assert logits.min() < 0 < logits.max()

    def test_dropout_only_in_training(self):
        head = dense_head(16, widths=(32, 5), dropout=0.5)
        vectors = torch.randn(4, 16)
        assert not torch.equal(head(vectors), head(vectors))
        head.eval()
        assert torch.equal(head(vectors), head(vectors))
