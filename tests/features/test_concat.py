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


class Words(FeatureExtractor):
    """A vector of two entries."""

    def __init__(self, *, sample_rate: int, width: int = 2) -> None:
        super().__init__(sample_rate=sample_rate)
        self.names = tuple(f"word_{number}" for number in range(width))

    def out_shape(self, samples: int) -> tuple[int, int, int]:
        return 1, len(self.names), 1

    def forward(self, waveform: torch.Tensor) -> torch.Tensor:
        return waveform.mean(dim=-1)[:, None, None, None].expand(-1, 1, len(self.names), 1)


@pytest.fixture
def words():
    with FEATURES.temporary("words", Words), FEATURES.temporary("more", Words):
        yield


def test_equal_pictures_become_channels():
    both, noise = build("logmel+hpss"), torch.randn(2, 22_050)
    parts = [build(name)(noise) for name in ("logmel", "hpss")]
    assert both.out_shape(22_050) == (3, 128, 44)
    assert torch.equal(both(noise), torch.cat(parts, dim=1))
    assert torch.equal(both.bins_hz(), build("logmel").bins_hz())
    assert both.names is None


def test_other_bins_stand_one_above_the_other():
    both, noise = build("logmel+tempogram"), torch.randn(2, 22_050)
    parts = [build(name)(noise) for name in ("logmel", "tempogram")]
    assert both.out_shape(22_050) == (1, 512, 44)
    assert torch.equal(both(noise), torch.cat(parts, dim=2))
    assert both.bins_hz() is None


def test_vectors_are_concatenated_with_their_names(words):
    vector = build("stats+words")
    assert vector.out_shape(22_050) == (1, 156, 1)
    assert vector.names[-3:] == ("tempo", "word_0", "word_1")
    assert vector(torch.randn(2, 22_050)).shape == (2, 1, 156, 1)


def test_vectors_of_one_length_do_not_become_channels(words):
    assert build("words+more").out_shape(22_050) == (1, 4, 1)


def test_the_order_is_that_of_the_name():
    noise = torch.randn(1, 22_050)
    assert torch.equal(build("chroma+mfcc")(noise), build("mfcc+chroma")(noise).roll(12, dims=2))


def test_an_option_goes_to_each_that_has_it():
    assert build("logmel+hpss+mfcc", hop_length=1024, n_mels=20, n_mfcc=20).out_shape(22_050) == (4, 20, 22)
    three = build("logmel+tempogram", n_mels=40, win_length=60)
    assert three.out_shape(22_050) == (1, 100, 44)
    # Where nothing is said each takes its own default: 20 coefficients of 128 bands.
    assert FEATURES.get("mfcc+logmel")(sample_rate=22_050).out_shape(22_050) == (1, 148, 44)


def test_an_option_that_none_has():
    with pytest.raises(ConfigError, match="Did you mean 'win_length"):
        build("logmel+tempogram", win_lenght=60)


@pytest.mark.parametrize("name", ["logmel+stats", "logmel+logmel-image", "logmel+hpss+tempogram"])
def test_what_does_not_go_together(name):
    with pytest.raises(ConfigError, match=r"do not go together: logmel gives 1 × 128 × 44, .* × "):
        build(name)


def test_other_hops():
    class Slow(Words):
        names = None

        def __init__(self, *, sample_rate: int) -> None:
            FeatureExtractor.__init__(self, sample_rate=sample_rate)

        def out_shape(self, samples):
            return 1, 128, 5

    with FEATURES.temporary("slow", Slow), pytest.raises(ConfigError, match="slow gives 1 × 128 × 5"):
        build("logmel+slow")


@pytest.mark.parametrize("name", ["logmel+", "+logmel", "logmel++mfcc", "logmel+mfc", "logmel + mfcc"])
def test_unknown_parts(name):
    with pytest.raises(UnknownNameError, match="There is no feature"):
        build(name)
    assert name not in FEATURES


def test_twice_the_same():
    with pytest.raises(ConfigError, match="twice"):
        build("logmel+mfcc+logmel")


def test_a_plus_is_no_part_of_a_name():
    with pytest.raises(ParameterError, match="joins features"):
        register_feature("a+b")
    assert "logmel+mfcc" in FEATURES
    assert "+" not in "".join(FEATURES.names())


def test_a_model_keeps_it(tmp_path):
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
    song = (np.random.default_rng(0).normal(size=16_000), 8000)
    assert loaded.predict(song).probabilities == classifier.predict(song).probabilities


def test_a_backbone_that_does_not_fit_names_the_feature():
    component = Component("vgg16-slim", {"width": 0.05, "dense_units": 8})
    config = ModelConfig("both", ("a", "b"), AudioSpec(), Component("stats"), component)
    with pytest.raises(ConfigError, match="'stats' gives 1 of 154 × 1"):
        GenreNetwork.from_config(config)
