"""The models that come with the package: what they must be, whoever trained them."""

import os
from pathlib import Path

import numpy as np
import pytest

import musgenre
from musgenre.models import serialization as weights

RATE = 22_050
TIMES = np.arange(5 * RATE) / RATE
YAMNET = os.environ.get("MUSGENRE_TEST_YAMNET")


@pytest.fixture(scope="module")
def classifier():
    return musgenre.GenreClassifier.from_pretrained()


def _noise(slope):
    """Noise whose power falls with frequency to the power of ``slope``."""
    draws = np.random.default_rng(7)
    hertz = np.fft.rfftfreq(len(TIMES), 1 / RATE)
    spectrum = (draws.normal(size=len(hertz)) + 1j * draws.normal(size=len(hertz))) * (hertz + 20) ** (-slope / 2)
    wave = np.fft.irfft(spectrum, len(TIMES))
    return 0.1 * wave / wave.std()


NO_MUSIC = {
    "silence": np.zeros(len(TIMES)),
    "direct current": np.full(len(TIMES), 0.3),
    **{f"noise {slope}": _noise(slope) for slope in (0.0, 1.0, 2.0)},
    **{f"{hertz} Hz": 0.2 * np.sin(2 * np.pi * hertz * TIMES) for hertz in (60, 261.6, 440, 997, 3_000, 9_000)},
    "buzz": 0.1 * np.sign(np.sin(2 * np.pi * 120 * TIMES)),
    "syllables of noise": _noise(1.0) * np.clip(np.sin(2 * np.pi * 4 * TIMES), 0, 1),
}


@pytest.mark.parametrize("name", NO_MUSIC)
def test_what_is_no_music_is_no_sure_genre(classifier, name):
    prediction = classifier.predict((NO_MUSIC[name], RATE))
    assert prediction.probability <= 0.5, prediction.top(3)


def test_names(classifier):
    assert classifier.config.name == weights.DEFAULT_MODEL == "vgg16-slim-gtzan-v2"
    named = musgenre.GenreClassifier.from_pretrained("vgg16-slim-gtzan-v2")
    for name, tensor in classifier.network.state_dict().items():
        assert (named.network.state_dict()[name] == tensor).all(), name


def test_sizes():
    default, larger = weights.BUNDLED[weights.DEFAULT_MODEL], weights.BUNDLED["yamnet-gtzan"]
    assert (default / weights.WEIGHTS_FILE).stat().st_size < 8_000_000
    assert sum(file.stat().st_size for file in larger.iterdir()) < 100_000


def test_the_card_tells_the_scores_of_the_configuration(classifier):
    card = (weights.BUNDLED[weights.DEFAULT_MODEL] / "README.md").read_text(encoding="utf-8")
    assert f"**{classifier.config.scores['cv_accuracy']:.1%}**" in card
    assert f"({classifier.config.temperature:.2f})" in card


def test_probabilities_are_tempered(classifier):
    heard = classifier.predict((_noise(1.0)[: 3 * RATE], RATE))
    logits = np.log(list(heard.probabilities.values())) * classifier.config.temperature
    hotter = musgenre.GenreClassifier(
        classifier.network, musgenre.ModelConfig(**{**vars(classifier.config), "temperature": 3.0})
    )
    expected = np.exp(logits / 3) / np.exp(logits / 3).sum()
    said = list(hotter.predict((_noise(1.0)[: 3 * RATE], RATE)).probabilities.values())
    np.testing.assert_allclose(said, expected, atol=1e-5)


@pytest.mark.skipif(not YAMNET, reason="MUSGENRE_TEST_YAMNET names no file of YAMNet's weights")
def test_the_larger_model_stands_on_the_file_that_is_named():
    larger = musgenre.GenreClassifier.from_pretrained("yamnet-gtzan", backbone_weights=YAMNET)
    prediction = larger.predict(Path(weights.BUNDLED[weights.DEFAULT_MODEL]) / "demo.ogg")
    assert len(larger.labels) == 10
    assert larger.network.backbone.out_features == 1_024
    assert sum(prediction.probabilities.values()) == pytest.approx(1)
