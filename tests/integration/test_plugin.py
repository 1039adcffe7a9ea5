"""A second package with a feature and a backbone: installed, found, trained, saved and loaded again."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

EXAMPLE = Path(__file__).parents[2] / "examples" / "plugin"
RATE = 8000

pytestmark = pytest.mark.slow

TRAIN = """
import json, sys
import musgenre
from musgenre.training.config import FinetuneConfig
music, model, *songs = sys.argv[1:]
config = FinetuneConfig(
    audio=musgenre.AudioSpec(sample_rate=8000, window_seconds=1.0, hop_seconds=1.0),
    head_epochs=0, epochs=1, learning_rate=1e-2, batch_size=4, windows_per_track=16,
)
data = musgenre.datasets.AudioFolder(music)
backbone = musgenre.Component("small-cnn", {"channels": 4})
feature = musgenre.Component("octave-bands", {"low_hz": 50.0, "n_fft": 1024, "hop_length": 256})
result = musgenre.finetune(data, backbone=backbone, feature=feature, config=config, progress=False)
result.classifier.save_pretrained(model)
predictions = [result.classifier.predict(song).probabilities for song in songs]
print(json.dumps({"history": result.history, "predictions": predictions}))
"""

RELOAD = """
import json, sys
import musgenre
model, *songs = sys.argv[1:]
classifier = musgenre.GenreClassifier.from_pretrained(model)
parts = [type(part).__module__ for part in (classifier.network.feature, classifier.network.backbone)]
print(json.dumps({"parts": parts, "predictions": [classifier.predict(song).probabilities for song in songs]}))
"""


def _run(*command: str | Path) -> str:
    mine = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
    quiet = {"PIP_CONFIG_FILE": os.devnull, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    small = {"OMP_NUM_THREADS": "1"}  # threads cost more than they bring where the network is tiny
    done = subprocess.run(
        command, env={**mine, **quiet, **small}, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of a new environment that sees everything of this one, and has the example installed."""
    folder = tmp_path_factory.mktemp("plugin")
    home = folder / "venv"
    # Making pip anew takes seconds; it is seen in this environment as well, if it is there.
    venv.create(home, with_pip=importlib.util.find_spec("pip") is None, symlinks=os.name != "nt")
    windows = os.name == "nt"
    paths = {"base": str(home), "platbase": str(home)}
    site = Path(sysconfig.get_path("purelib", "nt" if windows else "posix_prefix", vars=paths))
    seen = [path for path in sys.path if Path(path).is_dir() and Path(path) != Path.cwd()]
    (site / "outer_environment.pth").write_text("\n".join(seen) + "\n")
    python = home / ("Scripts/python.exe" if windows else "bin/python")
    source = shutil.copytree(EXAMPLE, folder / "source")
    _run(python, "-m", "pip", "install", "--no-deps", "--no-build-isolation", "--no-index", source)
    return python


@pytest.fixture(scope="module")
def ask(python: Path) -> Callable[..., Any]:
    """Runs code in the environment, and returns the JSON in its last line."""

    def ask(code: str, *arguments: str | Path) -> Any:
        return json.loads(_run(python, "-c", code, *arguments).splitlines()[-1])

    return ask


@pytest.fixture(scope="module")
def music(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two genres: tones and noise."""
    folder = tmp_path_factory.mktemp("music")
    random = np.random.default_rng(0)
    time = np.arange(2 * RATE) / RATE
    for number in range(4):
        songs = {
            "noise": random.uniform(-0.3, 0.3, len(time)),
            "tones": 0.3 * np.sin(2 * np.pi * 220 * 2 ** (number / 3) * time),
        }
        for genre, song in songs.items():
            (folder / genre).mkdir(exist_ok=True)
            soundfile.write(folder / genre / f"{number}.wav", song, RATE)
    return folder


def test_this_environment_does_not_have_it():
    assert importlib.util.find_spec("musgenre_plugin_example") is None


@pytest.mark.parametrize(
    ("kind", "name", "target"),
    [("backbones", "small-cnn", "backbone:SmallCNN"), ("features", "octave-bands", "feature:OctaveBands")],
)
def test_the_command_lists_it_with_its_package(python, kind, name, target):
    listed = _run(python, "-c", "from musgenre.cli.main import main; main()", "list", kind)
    lines = [line.split() for line in listed.splitlines()]
    assert [name, "musgenre-plugin-example", f"musgenre_plugin_example.{target}"] in lines
    assert any(line[1] == "musgenre" for line in lines)


def test_it_is_imported_when_it_is_asked_for(ask):
    code = (
        "import json, sys, musgenre\n"
        "def loaded(): return sorted(name for name in sys.modules if name.startswith('musgenre_plugin_example'))\n"
        "listed = 'small-cnn' in musgenre.BACKBONES.names() and 'octave-bands' in musgenre.FEATURES.names()\n"
        "before = loaded(); factory = musgenre.BACKBONES.get('small-cnn').__name__; after = loaded()\n"
        "print(json.dumps([listed, before, factory, after]))"
    )
    modules = ["musgenre_plugin_example", "musgenre_plugin_example.backbone"]
    assert ask(code) == [True, [], "SmallCNN", modules]


def test_trained_saved_and_loaded_by_another_process(ask, music, tmp_path):
    songs = sorted(music.rglob("*.wav"))
    trained = ask(TRAIN, music, tmp_path / "model", *songs)
    assert len(trained["history"]) == 1
    assert trained["history"][0]["train_loss"] < 1
    right = [
        max(said, key=said.get) == song.parent.name for song, said in zip(songs, trained["predictions"], strict=True)
    ]
    assert sum(right) >= 7

    config = json.loads((tmp_path / "model" / "config.json").read_text())
    assert config["backbone"] == {"name": "small-cnn", "options": {"channels": 4}}
    assert config["feature"]["name"] == "octave-bands"

    loaded = ask(RELOAD, tmp_path / "model", *songs)
    assert loaded["parts"] == ["musgenre_plugin_example.feature", "musgenre_plugin_example.backbone"]
    assert loaded["predictions"] == trained["predictions"]


def test_without_the_plugin_its_model_says_what_is_missing(ask, tmp_path):
    from musgenre.core.errors import UnknownNameError
    from musgenre.models import serialization as weights

    code = (
        "import json, sys; from pathlib import Path; import musgenre; from musgenre import weights\n"
        "config = musgenre.ModelConfig('m', ('a', 'b'), musgenre.AudioSpec(), musgenre.Component('octave-bands'),\n"
        "                              musgenre.Component('small-cnn'))\n"
        "weights.save(Path(sys.argv[1]), config=config, network=musgenre.GenreNetwork.from_config(config))\n"
        "print(json.dumps(weights.load(Path(sys.argv[1]))[0].name))"
    )
    assert ask(code, tmp_path / "model") == "m"
    with pytest.raises(UnknownNameError, match="no feature 'octave-bands'"):
        weights.load(tmp_path / "model")
