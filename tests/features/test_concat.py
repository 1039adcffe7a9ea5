from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from musgenre.core.config import AudioSpec, Component, ModelConfig
from musgenre.core.errors import ConfigError, ParameterError, UnknownNameError
from musgenre.features import FEATURES, FeatureExtractor, register_feature
from musgenre.models.classifier import GenreClassifier
from musgenre.models.network import GenreNetwork


def build(name: str, **options: object) -> FeatureExtractor:
    return FEATURES.build(name, {"sample_rate": 22_050, **options})


class Pair(FeatureExtractor):
    """A vector of two entries."""

    def __init__(self, *, sample_rate: int, width: int = 2) -> None:
        super().__init__(sample_rate=sample_rate)
        self.names = tuple(f"value_{number}" for number in range(width))

    def out_shape(self, samples: int) -> tuple[int, int, int]:
        return 1, len(self.names), 1

    def forward(self, waveform: torch.Tensor) -> torch.Tensor:
        return waveform.mean(dim=-1)[:, None, None, None].expand(-1, 1, len(self.names), 1)


@pytest.fixture
def pairs():
    with FEATURES.temporary("pair", Pair), FEATURES.temporary("other-pair", Pair):
        yield


def test_equal_shapes_are_stacked_as_channels():
    combined, noise = build("logmel+hpss"), torch.randn(2, 22_050)
    parts = [build(name)(noise) for name in ("logmel", "hpss")]
    assert combined.out_shape(22_050) == (3, 128, 44)
    assert torch.equal(combined(noise), torch.cat(parts, dim=1))
    assert torch.equal(combined.bins_hz(), build("logmel").bins_hz())
    assert combined.names is None


def test_different_bins_are_concatenated():
    combined, noise = build("logmel+tempogram"), torch.randn(2, 22_050)
    parts = [build(name)(noise) for name in ("logmel", "tempogram")]
    assert combined.out_shape(22_050) == (1, 512, 44)
    assert torch.equal(combined(noise), torch.cat(parts, dim=2))
    assert combined.bins_hz() is None


def test_vectors_are_concatenated(pairs):
    vector = build("stats+pair")
    assert vector.out_shape(22_050) == (1, 156, 1)
    assert vector.names[-3:] == ("tempo", "value_0", "value_1")
    assert vector(torch.randn(2, 22_050)).shape == (2, 1, 156, 1)


def test_vectors_of_equal_length_are_not_stacked(pairs):
    assert build("pair+other-pair").out_shape(22_050) == (1, 4, 1)


def test_order_follows_the_name():
    noise = torch.randn(1, 22_050)
    assert torch.equal(build("chroma+mfcc")(noise), build("mfcc+chroma")(noise).roll(12, dims=2))


def test_options_are_passed_to_all_parts_that_have_them():
    assert build("logmel+hpss+mfcc", hop_length=1024, n_mels=20, n_mfcc=20).out_shape(22_050) == (4, 20, 22)
    combined = build("logmel+tempogram", n_mels=40, win_length=60)
    assert combined.out_shape(22_050) == (1, 100, 44)
    # By default, each part uses its own default: 20 coefficients of 128 bands.
    assert FEATURES.get("mfcc+logmel")(sample_rate=22_050).out_shape(22_050) == (1, 148, 44)


def test_unknown_option():
    with pytest.raises(ConfigError, match="Did you mean 'win_length"):
        build("logmel+tempogram", win_lenght=60)


@pytest.mark.parametrize("name", ["logmel+stats", "logmel+logmel-image", "logmel+hpss+tempogram"])
def test_incompatible_shapes(name):
    with pytest.raises(ConfigError, match=r"incompatible shapes: logmel has 1 × 128 × 44, .* × "):
        build(name)


def test_different_numbers_of_frames():
    class Slow(Pair):
        names = None

        def __init__(self, *, sample_rate: int) -> None:
            FeatureExtractor.__init__(self, sample_rate=sample_rate)

        def out_shape(self, samples):
            return 1, 128, 5

    with FEATURES.temporary("slow", Slow), pytest.raises(ConfigError, match="slow has 1 × 128 × 5"):
        build("logmel+slow")


@pytest.mark.parametrize("name", ["logmel+", "+logmel", "logmel++mfcc", "logmel+mfc", "logmel + mfcc"])
def test_unknown_parts(name):
    with pytest.raises(UnknownNameError, match="There is no feature"):
        build(name)
    assert name not in FEATURES


def test_repeated_feature():
    with pytest.raises(ConfigError, match="twice"):
        build("logmel+mfcc+logmel")


def test_names_without_separator():
    with pytest.raises(ParameterError, match="combines features"):
        register_feature("a+b")
    assert "logmel+mfcc" in FEATURES
    assert "+" not in "".join(FEATURES.names())


def test_saving_and_loading(tmp_path):
    options = {"n_fft": 512, "hop_length": 256, "n_mels": 32, "win_length": 32}
    config = ModelConfig(
        "both",
        ("a", "b"),
        AudioSpec(8000, 1.0, 1.0),
        Component("logmel+tempogram", options),
        Component("vgg16-slim", {"width": 0.05, "dense_units": 8}),
    )
    classifier = GenreClassifier(GenreNetwork.from_config(config), config, device="cpu")
    classifier.save_pretrained(tmp_path)
    stored = json.loads((tmp_path / "config.json").read_text())
    assert stored["feature"] == {"name": "logmel+tempogram", "options": options}
    loaded = GenreClassifier.from_pretrained(tmp_path, device="cpu")
    assert type(loaded.network.feature).__name__ == "Combined"
    waveform = (np.random.default_rng(0).normal(size=16_000), 8000)
    assert loaded.predict(waveform).probabilities == classifier.predict(waveform).probabilities


def test_error_of_an_incompatible_backbone_names_the_feature():
    component = Component("vgg16-slim", {"width": 0.05, "dense_units": 8})
    config = ModelConfig("both", ("a", "b"), AudioSpec(), Component("stats"), component)
    with pytest.raises(ConfigError, match="'stats' gives 1 of 154 × 1"):
        GenreNetwork.from_config(config)
