"""``musgenre evaluate`` and ``musgenre cross-validate``, in this process and with a fake classifier."""

from __future__ import annotations

import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from typer.testing import CliRunner

import musgenre
from musgenre.cli.main import app
from musgenre.core.config import Prediction, Windows
from musgenre.core.errors import DatasetError, ParameterError
from musgenre.datasets import AudioFolder, MissingTrack, Track, TrackDataset
from musgenre.evaluation import CrossValidationReport, EvaluationReport, cross_validation
from musgenre.metrics import track_probabilities


class FakeClassifier:
    """Predicts "drone" for every song."""

    labels = ("drone", "hiss")
    config = SimpleNamespace(name="fake", split=None)

    def predict(self, path):
        rows = np.array([[0.7, 0.3], [0.6, 0.4]])
        probabilities = dict(zip(self.labels, track_probabilities(rows).tolist(), strict=True))
        return Prediction(probabilities, Windows(np.array([0.0, 1.0]), rows), 2.0)


@pytest.fixture(autouse=True)
def calls(monkeypatch):
    """Calls of ``finetune``; every loaded or trained model is a fake."""
    calls = []

    def finetune(train, **options):
        calls.append((train, options))
        return SimpleNamespace(classifier=FakeClassifier())

    monkeypatch.setattr(cross_validation, "finetune", finetune)
    monkeypatch.setattr(musgenre.models.classifier.GenreClassifier, "from_pretrained", lambda _: FakeClassifier())
    return calls


@pytest.fixture(scope="module")
def grouped(genre_folder, tmp_path_factory):
    """CSV file with four artists, who have two songs of one genre each."""
    path = tmp_path_factory.mktemp("groups") / "groups.csv"
    rows = [f"{genre}/{n}.wav,{genre} {n // 2}" for genre in ("drone", "hiss") for n in range(4)]
    path.write_text("\n".join(["track,group", *rows]))
    return path


def call(*arguments):
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.stdout


class TestEvaluate:
    def test_training_data_is_refused_or_marked_as_leaky(self, genre_folder, tmp_path):
        with pytest.raises(DatasetError, match=r"track drone/0\.wav"):
            call("evaluate", "model", genre_folder, "--trained-on", genre_folder)
        files = ("--json", tmp_path / "report.json", "--plot", tmp_path / "report.png")
        printed = call("evaluate", "model", genre_folder, "--trained-on", genre_folder, "--allow-leakage", *files)
        assert printed.startswith("# fake on genres")
        assert printed.splitlines()[0].endswith("(leaky)")
        assert "**Leaky" in printed
        assert json.loads((tmp_path / "report.json").read_text())["leaky"] is True
        assert EvaluationReport.load(tmp_path / "report.json").accuracy == 0.5

    def test_groups_and_recordings_are_compared_across_folders(self, genre_folder, grouped, tmp_path):
        other = tmp_path / "other"
        for genre in ("drone", "hiss"):
            (other / genre).mkdir(parents=True)
            shutil.copy(genre_folder / genre / "0.wav", other / genre / "copy.wav")
        with pytest.raises(DatasetError, match=r"recording drone/copy\.wav \(also drone/0\.wav\), hiss/copy\.wav"):
            call("evaluate", "model", genre_folder, "--trained-on", other)
        (tmp_path / "other.csv").write_text("track,group\nhiss/copy.wav,hiss 0\n")
        groups = ("--groups", grouped, "--trained-groups", tmp_path / "other.csv")
        with pytest.raises(DatasetError, match="group hiss 0 on both"):
            call("evaluate", "model", genre_folder, "--trained-on", other, *groups)

    @pytest.mark.parametrize("option", [("--allow-leakage",), ("--trained-groups", "groups.csv")])
    def test_options_that_require_the_training_set(self, genre_folder, option):
        with pytest.raises(ParameterError, match="--trained-on"):
            call("evaluate", "model", genre_folder, *option)


class TestCrossValidate:
    def test_seeds_folds_and_recipe(self, genre_folder, grouped, tmp_path, calls):
        options = ("--folds", 2, "--seeds", 2, "--groups", grouped, "--recipe", "vgg16-slim")
        printed = call("cross-validate", genre_folder, "--output", tmp_path, *options)
        report = CrossValidationReport.load(tmp_path / "report.json")
        assert printed.strip() == report.to_markdown().strip()
        assert report.seeds == (0, 1)
        assert [options["config"].seed for _, options in calls] == [0, 0, 1, 1]
        assert report.title.endswith(": 2 folds, grouped by artist")
        assert (tmp_path / "report.png").read_bytes().startswith(b"\x89PNG")

    def test_leakage_is_refused_or_marked(self, genre_folder, grouped, tmp_path, calls):
        options = ("--folds", 2, "--groups", grouped, "--apart", "none", "--output", tmp_path)
        with pytest.raises(DatasetError, match=r"group .* on both sides"):
            call("cross-validate", genre_folder, *options)
        assert calls == []
        printed = call("cross-validate", genre_folder, *options, "--allow-leakage")
        assert printed.splitlines()[0].endswith(": 2 folds (leaky)")
        assert CrossValidationReport.load(tmp_path / "report.json").leaky

    def test_jobs_reach_joblib(self, genre_folder, tmp_path, monkeypatch):
        n_jobs_values = []

        class Parallel:
            def __init__(self, *, n_jobs):
                n_jobs_values.append(n_jobs)

            def __call__(self, tasks):
                return [arguments[0].run() for _, arguments, _ in tasks]

        monkeypatch.setattr(cross_validation.joblib, "Parallel", Parallel)
        call("cross-validate", genre_folder, "--output", tmp_path, "--folds", 2, "--jobs", 3)
        call("cross-validate", genre_folder, "--output", tmp_path / "all", "--folds", 2, "--jobs", -1)
        assert n_jobs_values == [3, -1]

    def test_tracks_with_a_known_fault_are_removed(self):
        faults = (None, "repeated", None, "distorted")
        tracks = [Track(str(n), f"{n}.wav", "rock", None, 1.0, fault) for n, fault in enumerate(faults)]
        missing = [MissingTrack("gone", "no file")]
        data = TrackDataset(tracks, labels=["rock"], name="GTZAN", split="all", missing=missing)
        faultless = data.without_faults()
        assert [track.id for track in faultless] == ["0", "2"]
        assert faultless.split == "all, without known faults"
        assert [track.id for track in faultless.missing] == ["gone"]

    def test_dataset_without_faults_is_unchanged(self, genre_folder):
        assert repr(AudioFolder(genre_folder).without_faults()) == repr(AudioFolder(genre_folder))
