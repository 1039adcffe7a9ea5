"""A plugin package with a feature and a backbone: installing, listing, training, saving and loading."""

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
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
    pip = {"PIP_CONFIG_FILE": os.devnull, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    threads = {"OMP_NUM_THREADS": "1"}  # several threads slow down a tiny network
    done = subprocess.run(
        command, env={**inherited, **pip, **threads}, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of a virtual environment with this environment's packages and the example plugin."""
    directory = tmp_path_factory.mktemp("plugin")
    home = directory / "venv"
    # Installing pip takes seconds, so the pip of this environment is used where available.
    venv.create(home, with_pip=importlib.util.find_spec("pip") is None, symlinks=os.name != "nt")
    windows = os.name == "nt"
    paths = {"base": str(home), "platbase": str(home)}
    site = Path(sysconfig.get_path("purelib", "nt" if windows else "posix_prefix", vars=paths))
    outer = [path for path in sys.path if Path(path).is_dir() and Path(path) != Path.cwd()]
    (site / "outer_environment.pth").write_text("\n".join(outer) + "\n")
    python = home / ("Scripts/python.exe" if windows else "bin/python")
    source = shutil.copytree(EXAMPLE, directory / "source")
    _run(python, "-m", "pip", "install", "--no-deps", "--no-build-isolation", "--no-index", source)
    return python


@pytest.fixture(scope="module")
def run_json(python: Path) -> Callable[..., Any]:
    """Runs code in the environment, and returns the JSON in its last line."""

    def run_json(code: str, *arguments: str | Path) -> Any:
        return json.loads(_run(python, "-c", code, *arguments).splitlines()[-1])

    return run_json


@pytest.fixture(scope="module")
def music(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two genres: tones and noise."""
    directory = tmp_path_factory.mktemp("music")
    random = np.random.default_rng(0)
    time = np.arange(2 * RATE) / RATE
    for number in range(4):
        songs = {
            "noise": random.uniform(-0.3, 0.3, len(time)),
            "tones": 0.3 * np.sin(2 * np.pi * 220 * 2 ** (number / 3) * time),
        }
        for genre, song in songs.items():
            (directory / genre).mkdir(exist_ok=True)
            soundfile.write(directory / genre / f"{number}.wav", song, RATE)
    return directory


def test_plugin_is_not_installed_in_this_environment():
    assert importlib.util.find_spec("musgenre_plugin_example") is None


@pytest.mark.parametrize(
    ("kind", "name", "target"),
    [("backbones", "small-cnn", "backbone:SmallCNN"), ("features", "octave-bands", "feature:OctaveBands")],
)
def test_command_lists_the_components_with_their_package(python, kind, name, target):
    listed = _run(python, "-c", "from musgenre.cli.main import main; main()", "list", kind)
    lines = [line.split() for line in listed.splitlines()]
    assert [name, "musgenre-plugin-example", f"musgenre_plugin_example.{target}"] in lines
    assert any(line[1] == "musgenre" for line in lines)


def test_plugin_is_imported_on_first_use(run_json):
    code = (
        "import json, sys, musgenre\n"
        "def loaded(): return sorted(name for name in sys.modules if name.startswith('musgenre_plugin_example'))\n"
        "listed = 'small-cnn' in musgenre.BACKBONES.names() and 'octave-bands' in musgenre.FEATURES.names()\n"
        "before = loaded(); factory = musgenre.BACKBONES.get('small-cnn').__name__; after = loaded()\n"
        "print(json.dumps([listed, before, factory, after]))"
    )
    modules = ["musgenre_plugin_example", "musgenre_plugin_example.backbone"]
    assert run_json(code) == [True, [], "SmallCNN", modules]


def test_trained_saved_and_loaded_by_another_process(run_json, music, tmp_path):
    songs = sorted(music.rglob("*.wav"))
    trained = run_json(TRAIN, music, tmp_path / "model", *songs)
    assert len(trained["history"]) == 1
    assert trained["history"][0]["train_loss"] < 1
    correct = [
        max(probabilities, key=probabilities.get) == song.parent.name
        for song, probabilities in zip(songs, trained["predictions"], strict=True)
    ]
    assert sum(correct) >= 7

    config = json.loads((tmp_path / "model" / "config.json").read_text())
    assert config["backbone"] == {"name": "small-cnn", "options": {"channels": 4}}
    assert config["feature"]["name"] == "octave-bands"

    loaded = run_json(RELOAD, tmp_path / "model", *songs)
    assert loaded["parts"] == ["musgenre_plugin_example.feature", "musgenre_plugin_example.backbone"]
    assert loaded["predictions"] == trained["predictions"]


def test_loading_without_the_plugin_names_the_missing_feature(run_json, tmp_path):
    from musgenre.core.errors import UnknownNameError
    from musgenre.models import serialization

    code = (
        "import json, sys; from pathlib import Path; import musgenre\n"
        "from musgenre.models import serialization\n"
        "config = musgenre.ModelConfig('m', ('a', 'b'), musgenre.AudioSpec(), musgenre.Component('octave-bands'),\n"
        "                              musgenre.Component('small-cnn'))\n"
        "serialization.save(Path(sys.argv[1]), config=config, network=musgenre.GenreNetwork.from_config(config))\n"
        "print(json.dumps(serialization.load(Path(sys.argv[1]))[0].name))"
    )
    assert run_json(code, tmp_path / "model") == "m"
    with pytest.raises(UnknownNameError, match="no feature 'octave-bands'"):
        serialization.load(tmp_path / "model")
