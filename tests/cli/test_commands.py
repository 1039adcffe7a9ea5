"""End-to-end tests of the commands: each runs in a subprocess, and its output and exit code are checked."""

import json
import subprocess
import sys

import numpy as np
import pytest
import soundfile

import musgenre
from musgenre.core.config import Prediction

CALL = "from musgenre.cli.main import main; main()"


def run(*arguments, folder=None):
    command = [sys.executable, "-c", CALL, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, check=False, timeout=300)


@pytest.fixture(scope="module")
def songs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("songs")
    generator = np.random.default_rng(0)
    for name in ("a.wav", "b.mp3"):
        soundfile.write(folder / name, generator.normal(scale=0.1, size=22_050 * 4), 22_050)
    return folder


@pytest.mark.slow
def test_predict_prints_one_line_per_song(songs):
    result = run("predict", songs / "a.wav", songs / "b.mp3", "--top", "2")
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    first, second = result.stdout.splitlines()
    assert first.startswith(f"{songs / 'a.wav'}: ")
    assert second.count("%") == 2


def test_predict_json_equals_the_prediction_of_the_library(songs):
    result = run("predict", "--json", songs / "a.wav", songs / "b.mp3")
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    assert result.returncode == 0
    for row, name in zip(rows, ("a.wav", "b.mp3"), strict=True):
        expected: Prediction = musgenre.GenreClassifier.from_pretrained().predict(songs / name)
        assert list(row) == ["path", "label", "probability", "probabilities", "duration_seconds"]
        assert row["path"] == str(songs / name)
        assert row["label"] == expected.label
        assert row["probabilities"] == pytest.approx(expected.probabilities, abs=1e-5)
        assert row["duration_seconds"] == pytest.approx(4, abs=0.1)


@pytest.mark.slow
def test_unreadable_files_are_reported_and_others_processed(songs, tmp_path):
    text = tmp_path / "text.mp3"
    text.write_text("This is not audio.")
    cut = tmp_path / "cut.mp3"
    cut.write_bytes((songs / "b.mp3").read_bytes()[:5_000])
    result = run("predict", text, songs / "a.wav", cut, tmp_path / "missing.wav")
    assert result.returncode == 2
    assert result.stdout.startswith(str(songs / "a.wav"))
    assert len(result.stdout.splitlines()) == 1
    lines = result.stderr.splitlines()
    assert len(lines) == 3
    for line, name in zip(lines, ("text.mp3", "cut.mp3", "missing.wav"), strict=True):
        assert line.startswith("error: ")
        assert name in line


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("predict", "song.wav", "--model", "no-such-model"), "no-such-model"),
        (("predict", "song.wav", "--resume"), "--output"),
        (("finetune", "no-such-folder", "--output", "model"), "no-such-folder"),
        (("finetune", ".", "--output", "."), "not empty"),
        (("demo", "--output", "no-such-folder/demo.png"), "no-such-folder"),
        (("predict", "a.wav", "b.mp3", "--plot", "songs.png"), "--plot requires exactly one song"),
        (("predict", "a.wav", "--plot", "no-such-folder/song.png"), "no-such-folder"),
        (("evaluate", "no-such-model", "."), "no-such-model"),
        (("evaluate", "model", ".", "--json", "no-such-folder/report.json"), "no-such-folder"),
        (("cross-validate", ".", "--output", "work", "--recipe", "no-such-file.json"), "no-such-file.json"),
        (("cross-validate", ".", "--output", "work", "--dataset", "gtzan", "--groups", "a.csv"), "--groups"),
    ],
)
def test_error_is_one_line_with_exit_code_2(songs, arguments, message):
    result = run(*arguments, folder=songs)
    assert result.returncode == 2
    assert message in result.stderr
    assert result.stderr.startswith("error: ")
    assert len(result.stderr.splitlines()) == 1
    assert "Traceback" not in result.stderr


@pytest.mark.slow
def test_list_prints_builtin_components():
    for kind, name in (("backbones", "vgg16-slim"), ("features", "logmel-image"), ("datasets", "gtzan")):
        result = run("list", kind)
        assert result.returncode == 0, result.stderr
        assert name in [line.split()[0] for line in result.stdout.splitlines()]
    assert run("list", "singers").returncode == 2


@pytest.mark.slow
def test_exported_graph_equals_the_classifier(tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime", reason="needs the extra 'onnx'")
    component = musgenre.Component("vgg16-slim", {"width": 0.05, "dense_units": 8})
    feature = musgenre.Component("logmel", {"n_fft": 256, "n_mels": 32})
    config = musgenre.ModelConfig("tiny", ("drone", "hiss"), musgenre.AudioSpec(8_000), feature, component)
    classifier = musgenre.GenreClassifier(musgenre.GenreNetwork.from_config(config), config)
    classifier.save_pretrained(tmp_path / "model")
    result = run("export", tmp_path / "model.onnx", "--model", tmp_path / "model")
    assert result.returncode == 0, result.stderr
    assert "24000 samples at 8000 Hz" in result.stdout
    noise = np.random.default_rng(0).normal(scale=0.1, size=24_000).astype(np.float32)
    (probabilities,) = onnxruntime.InferenceSession(tmp_path / "model.onnx").run(None, {"samples": noise[None]})
    assert probabilities[0] == pytest.approx(list(classifier.predict((noise, 8_000)).probabilities.values()), abs=1e-4)


@pytest.mark.slow
def test_predict_plots_one_song(songs, tmp_path):
    from matplotlib.image import imread

    result = run("predict", songs / "b.mp3", "--plot", tmp_path / "song.png")
    assert result.returncode == 0, result.stderr
    assert "b.mp3: " in result.stdout
    height, width, _ = imread(tmp_path / "song.png").shape
    assert (width, height) == (1200, 700)


def test_demo_predicts_and_plots(tmp_path):
    from PIL import Image

    result = run("demo", folder=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "demo.ogg" in result.stdout
    with Image.open(tmp_path / "musgenre-demo.png") as image:
        width, height = image.size
        assert width > 600
        assert height > 300
        assert len(image.convert("RGB").getcolors(maxcolors=1_000_000)) > 100


@pytest.mark.slow
def test_finetuned_model_can_predict(genre_folder, tmp_path):
    result = run("finetune", genre_folder, "--backbone", "vgg16-slim", "--epochs", "1", "--output", tmp_path / "model")
    assert result.returncode == 0, result.stderr
    assert str(tmp_path / "model") in result.stdout
    song = next(genre_folder.glob("*/*.wav"))
    predicted = run("predict", song, "--model", tmp_path / "model", "--json")
    assert predicted.returncode == 0, predicted.stderr
    assert set(json.loads(predicted.stdout)["probabilities"]) == {path.name for path in genre_folder.iterdir()}


@pytest.mark.slow
def test_evaluate_prints_and_saves_the_report(genre_folder, tmp_path):
    component = musgenre.Component("vgg16-slim", {"width": 0.05, "dense_units": 8})
    config = musgenre.ModelConfig(
        "tiny", ("drone", "hiss"), musgenre.AudioSpec(8_000), musgenre.Component("logmel"), component
    )
    classifier = musgenre.GenreClassifier(musgenre.GenreNetwork.from_config(config), config)
    classifier.save_pretrained(tmp_path / "model")
    groups = tmp_path / "groups.csv"
    groups.write_text("track,group\ndrone/0.wav,a\ndrone/1.wav,a\n")
    files = ("--json", tmp_path / "report.json", "--plot", tmp_path / "report.png")
    result = run("evaluate", tmp_path / "model", genre_folder, "--groups", groups, *files)
    assert result.returncode == 0, result.stderr
    report = musgenre.EvaluationReport.load(tmp_path / "report.json")
    expected = musgenre.evaluate(classifier, musgenre.datasets.AudioFolder(genre_folder, groups=groups))
    assert report.groups == expected.groups == 7
    assert report.confusion == expected.confusion
    assert result.stdout.strip() == report.to_markdown().strip()
    assert (tmp_path / "report.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_cross_validate_saves_folds_and_report_in_one_directory(genre_folder, tmp_path):
    recipe = {
        "backbone": {"name": "vgg16-slim", "options": {"width": 0.05, "dense_units": 8}},
        "feature": {"name": "logmel", "options": {"n_fft": 512, "hop_length": 128, "n_mels": 32}},
        "config": {"audio": {"sample_rate": 8000}, "head_epochs": 1, "epochs": 0},
    }
    (tmp_path / "recipe.json").write_text(json.dumps(recipe))
    arguments = ("--folds", "2", "--recipe", tmp_path / "recipe.json", "--output", tmp_path / "work")
    result = run("cross-validate", genre_folder, *arguments)
    assert result.returncode == 0, result.stderr
    names = sorted(path.name for path in (tmp_path / "work").iterdir())
    assert names == ["report.json", "report.png", "seed0-fold0.json", "seed0-fold1.json"]
    report = musgenre.evaluation.CrossValidationReport.load(tmp_path / "work" / "report.json")
    assert [row.tracks for row in report.scores] == [4, 4]
    assert report.recipe["backbone"]["name"] == "vgg16-slim"
    assert result.stdout.strip() == report.to_markdown().strip()
