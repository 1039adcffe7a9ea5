"""The packaged demo piece and the script that renders it."""

from __future__ import annotations

import importlib.util
from importlib import resources
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import soundfile

from musgenre import GenreClassifier

ASSET = resources.files("musgenre") / "assets" / "demo.ogg"
SCRIPT = Path(__file__).parents[2] / "scripts" / "render_demo.py"


@pytest.fixture(scope="module")
def decoded():
    with resources.as_file(ASSET) as path:
        return soundfile.read(path, always_2d=True)


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("render_demo", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def rendered(script):
    return script.compose()


def test_asset_is_small():
    assert len(ASSET.read_bytes()) < 200_000


def test_asset_is_a_mono_ogg_of_about_half_a_minute(decoded):
    samples, rate = decoded
    assert rate == 22_050
    assert samples.shape[1] == 1
    assert 20 <= len(samples) / rate <= 35


def test_asset_is_loud_and_does_not_clip(decoded):
    peak = np.abs(decoded[0]).max()
    assert 10 ** (-3 / 20) < peak < 10 ** (-0.3 / 20)


def test_asset_is_never_silent_for_a_second(decoded):
    samples, rate = decoded
    half = rate // 2  # any silent second covers a whole half-second block
    blocks = samples[: len(samples) // half * half, 0].reshape(-1, half)
    levels = 20 * np.log10(np.sqrt((blocks**2).mean(axis=1)))
    assert (levels[:-1] > -40).all()  # the last one fades out


def test_sections_differ_in_brightness(decoded):
    samples, rate = decoded
    centroids = []
    for start, end in ((0, 5), (8, 23)):
        part = samples[int(start * rate) : int(end * rate), 0]
        power = np.abs(np.fft.rfft(part)) ** 2
        centroids.append((np.fft.rfftfreq(part.size, 1 / rate) * power).sum() / power.sum())
    waltz, metal = centroids
    assert metal > 1.5 * waltz  # distortion


def test_default_model_recognises_each_section():
    classifier = GenreClassifier.from_pretrained(device="cpu")
    with resources.as_file(ASSET) as path:
        prediction = classifier.predict(path)
    assert prediction.label == "metal"  # three quarters of the piece
    assert prediction.probability > 0.6
    starts, probabilities = prediction.windows.start_seconds, prediction.windows.probabilities
    expected = ["classical" if start < 6 else "metal" for start in starts]
    assert [classifier.labels[index] for index in probabilities.argmax(axis=1)] == expected


@pytest.mark.slow
def test_script_renders_the_same_samples_twice(script, rendered):
    np.testing.assert_array_equal(script.compose(), rendered)


@pytest.mark.slow
def test_script_renders_what_is_packaged(rendered, decoded):
    samples = decoded[0][:, 0]
    assert samples.size == rendered.size
    assert np.corrcoef(samples, rendered)[0, 1] > 0.98  # Vorbis is lossy


@pytest.mark.slow
def test_script_writes_the_file_at_the_given_path(script, rendered, tmp_path, monkeypatch, capsys):
    path = tmp_path / "piece.ogg"
    monkeypatch.setattr(script, "compose", lambda: rendered)
    monkeypatch.setattr("sys.argv", ["render_demo.py", "--output", str(path)])
    script.main()
    info = soundfile.info(path)
    assert (info.format, info.subtype, info.samplerate, info.channels) == ("OGG", "VORBIS", 22_050, 1)
    assert str(path) in capsys.readouterr().out
