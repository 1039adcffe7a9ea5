"""Requirements on the bundled models: confidence without music, names, sizes, cards and calibration."""

import os
from pathlib import Path

import numpy as np
import pytest

import musgenre
from musgenre.models import serialization

RATE = 22_050
TIMES = np.arange(5 * RATE) / RATE
YAMNET = os.environ.get("MUSGENRE_TEST_YAMNET")


@pytest.fixture(scope="module")
def classifier():
    return musgenre.GenreClassifier.from_pretrained()


def _noise(slope):
    """Noise with a power spectrum proportional to ``frequency ** -slope``."""
    generator = np.random.default_rng(7)
    frequencies = np.fft.rfftfreq(len(TIMES), 1 / RATE)
    spectrum = generator.normal(size=len(frequencies)) + 1j * generator.normal(size=len(frequencies))
    spectrum *= (frequencies + 20) ** (-slope / 2)
    wave = np.fft.irfft(spectrum, len(TIMES))
    return 0.1 * wave / wave.std()


WITHOUT_MUSIC = {
    "silence": np.zeros(len(TIMES)),
    "constant": np.full(len(TIMES), 0.3),
    **{f"noise {slope}": _noise(slope) for slope in (0.0, 1.0, 2.0)},
    **{f"{hertz} Hz": 0.2 * np.sin(2 * np.pi * hertz * TIMES) for hertz in (60, 261.6, 440, 997, 3_000, 9_000)},
    "square wave": 0.1 * np.sign(np.sin(2 * np.pi * 120 * TIMES)),
    "modulated noise": _noise(1.0) * np.clip(np.sin(2 * np.pi * 4 * TIMES), 0, 1),
}


@pytest.mark.parametrize("name", WITHOUT_MUSIC)
def test_audio_without_music_has_no_confident_prediction(classifier, name):
    prediction = classifier.predict((WITHOUT_MUSIC[name], RATE))
    assert prediction.probability <= 0.5, prediction.top(3)


def test_default_model(classifier):
    assert classifier.config.name == serialization.DEFAULT_MODEL == "yamnet-mel-gtzan-v1"
    named = musgenre.GenreClassifier.from_pretrained("yamnet-mel-gtzan-v1")
    for name, tensor in classifier.network.state_dict().items():
        assert (named.network.state_dict()[name] == tensor).all(), name


def test_file_sizes():
    default, larger = serialization.BUNDLED[serialization.DEFAULT_MODEL], serialization.BUNDLED["yamnet-gtzan"]
    assert (default / serialization.WEIGHTS_FILE).stat().st_size < 8_000_000
    assert sum(file.stat().st_size for file in larger.iterdir()) < 100_000


def test_card_contains_the_scores_of_the_configuration(classifier):
    card = (serialization.BUNDLED[serialization.DEFAULT_MODEL] / "README.md").read_text(encoding="utf-8")
    assert f"**{classifier.config.scores['cv_accuracy']:.1%}**" in card
    assert f"({classifier.config.temperature:.2f})" in card


def test_temperature_divides_the_logits(classifier):
    prediction = classifier.predict((_noise(1.0)[: 3 * RATE], RATE))
    logits = np.log(list(prediction.probabilities.values())) * classifier.config.temperature
    rescaled = musgenre.GenreClassifier(
        classifier.network, musgenre.ModelConfig(**{**vars(classifier.config), "temperature": 3.0})
    )
    expected = np.exp(logits / 3) / np.exp(logits / 3).sum()
    found = list(rescaled.predict((_noise(1.0)[: 3 * RATE], RATE)).probabilities.values())
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.skipif(not YAMNET, reason="needs MUSGENRE_TEST_YAMNET, the path of YAMNet's weights")
def test_yamnet_model_uses_the_given_backbone_weights():
    larger = musgenre.GenreClassifier.from_pretrained("yamnet-gtzan", backbone_weights=YAMNET)
    prediction = larger.predict(Path(serialization.BUNDLED[serialization.DEFAULT_MODEL]) / "demo.ogg")
    assert len(larger.labels) == 10
    assert larger.network.backbone.out_features == 1_024
    assert sum(prediction.probabilities.values()) == pytest.approx(1)
