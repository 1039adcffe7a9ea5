"""Cross-validation: splits, saved folds and leakage with a fake classifier; worker processes with a small network."""

from __future__ import annotations

import dataclasses
import json
import pickle
import shutil
import sys
import threading
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

import musgenre
from musgenre.backbones.base import BACKBONES
from musgenre.core.config import AudioSpec, Component
from musgenre.core.errors import (
    ConfigError,
    DatasetError,
    MusgenreError,
    ParameterError,
    PluginError,
    TrainingError,
)
from musgenre.datasets import AudioFolder, TrackDataset
from musgenre.evaluation import cross_validate, cross_validation
from musgenre.features.base import FEATURES
from musgenre.training.config import FinetuneConfig
from musgenre.training.recipes import Recipe

CONFIG = FinetuneConfig(audio=AudioSpec(8_000, window_seconds=1.0, hop_seconds=1.0), head_epochs=1, epochs=0)
MEL = Component("logmel", {"n_fft": 512, "hop_length": 128, "n_mels": 32})


class TestFolds:
    def test_every_track_is_held_out_once_for_each_seed_with_its_artist(self, trainings, make_dataset):
        data = make_dataset()
        report = cross_validate(data, folds=4, seeds=(3, 5))
        assert [seed for _, seed in trainings] == [3] * 4 + [5] * 4
        assert [(row.seed, row.fold) for row in report.scores] == [(s, f) for s in (3, 5) for f in range(4)]
        for pooled in report.pooled:
            assert sorted(row.id for row in pooled.predictions) == [track.id for track in data]
        for index, (train, _) in enumerate(trainings):
            held_out = [track for track in data if track.id not in {other.id for other in train}]
            assert {track.group for track in train}.isdisjoint({track.group for track in held_out})
            assert report.scores[index].tracks == len(held_out)

    def test_options_are_passed_to_finetune(self, trainings, make_dataset):
        cross_validate(make_dataset(), folds=4, workers=2, progress=False, accelerator="cpu", seeds=[1])
        options = cross_validation.finetune.options
        assert len(options) == 4
        assert all(
            passed.items() >= {"workers": 2, "progress": False, "accelerator": "cpu"}.items() for passed in options
        )

    @pytest.mark.parametrize(
        ("wrong", "message"),
        [
            ({"folds": 1}, "folds"),
            ({"groups": "album"}, "groups must be 'artist' or None"),
            ({"jobs": 0}, "jobs"),
            ({"jobs": -2}, "jobs"),
            ({"seeds": ()}, "seeds"),
            ({"seeds": (1, 1)}, "seeds"),
            ({"seeds": (-1,)}, "seeds"),
            ({"workers": -1}, "workers"),
            ({"loggers": ["tensorboard"]}, "tensorboard"),
        ],
    )
    def test_value_out_of_range_is_an_error_before_training(self, trainings, make_dataset, wrong, message):
        with pytest.raises(ParameterError, match=message):
            cross_validate(make_dataset(), **wrong)
        assert trainings == []

    @pytest.mark.parametrize("name", ["job", "resume", "epochs"])
    def test_unexpected_keyword_is_an_error(self, trainings, make_dataset, name):
        with pytest.raises(TypeError, match=f"unexpected keyword argument '{name}'"):
            cross_validate(make_dataset(), **{name: 2})
        assert trainings == []

    def test_genre_with_a_single_track_is_an_error_before_training(self, trainings, make_dataset, make_track, labels):
        tracks = [*make_dataset(), make_track(99, label="polka")]
        data = TrackDataset(tracks, labels=(*labels, "polka"), name="made")
        with pytest.raises(DatasetError, match=r"polka \(1\)"):
            cross_validate(data, folds=4)
        assert trainings == []


class TestSavedFolds:
    def test_interrupted_run_is_resumed(self, monkeypatch, trainings, make_dataset, tmp_path):
        uninterrupted = cross_validate(make_dataset(), folds=4, seeds=(0, 1))
        count = len(trainings)
        assert count == 8
        finetune = cross_validation.finetune

        def interrupt(train, **options):
            if len(trainings) == count + 3:
                raise KeyboardInterrupt
            return finetune(train, **options)

        monkeypatch.setattr(cross_validation, "finetune", interrupt)
        directory = tmp_path / "a" / "b"
        with pytest.raises(KeyboardInterrupt):
            cross_validate(make_dataset(), folds=4, seeds=(0, 1), directory=directory)
        names = sorted(path.name for path in directory.iterdir())
        assert names == ["seed0-fold0.json", "seed0-fold1.json", "seed0-fold2.json"]
        monkeypatch.setattr(cross_validation, "finetune", finetune)
        # Neither the name, nor the cache, nor the number of workers changes the weights.
        recipe = Recipe(config=FinetuneConfig(cache=tmp_path / "cache", name="mine"))
        resumed = cross_validate(make_dataset(), recipe=recipe, folds=4, seeds=(0, 1), directory=directory, workers=2)
        assert len(trainings) == count + 8
        assert resumed == uninterrupted
        cross_validate(make_dataset(), folds=4, seeds=(0, 1), directory=directory)
        assert len(trainings) == count + 8

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"recipe": Recipe(config=FinetuneConfig(epochs=9))}, "recipe"),
            ({"recipe": Recipe("vgg16-slim")}, "recipe"),
            ({"size": 57}, "tracks"),
            ({"folds": 3}, "tracks"),
            ({"version": "9.9"}, "version"),
        ],
    )
    def test_folds_of_a_different_run_are_an_error_and_unchanged(
        self, trainings, make_dataset, tmp_path, monkeypatch, change, message
    ):
        cross_validate(make_dataset(), folds=4, directory=tmp_path)
        before = {path: path.read_bytes() for path in tmp_path.iterdir()}
        (tmp_path / "seed0-fold0.json").unlink()  # the other folds are validated before this one is trained
        count = len(trainings)
        options = {"folds": 4} | change
        if version := options.pop("version", None):
            monkeypatch.setattr(cross_validation.importlib.metadata, "version", lambda _: version)
        data = make_dataset(options.pop("size", 60))
        with pytest.raises(ConfigError, match=rf"fold1.json.*different {message}\. Choose another directory"):
            cross_validate(data, directory=tmp_path, **options)
        assert len(trainings) == count
        assert before.items() > {path: path.read_bytes() for path in tmp_path.iterdir()}.items()

    def test_damaged_fold_is_named(self, trainings, make_dataset, tmp_path):
        (tmp_path / "seed0-fold2.json").write_text("{")
        with pytest.raises(ConfigError, match="seed0-fold2"):
            cross_validate(make_dataset(), folds=4, directory=tmp_path)
        assert trainings == []

    def test_directory_that_cannot_be_created_is_named(self, trainings, make_dataset, tmp_path):
        (tmp_path / "file").write_text("")
        with pytest.raises(ParameterError, match=r"file' could not be created"):
            cross_validate(make_dataset(), folds=4, directory=tmp_path / "file")
        assert trainings == []


class TestLeakage:
    def test_leakage_is_an_error_before_training(self, trainings, make_dataset, labels):
        tracks = [dataclasses.replace(track, path=Path("same.wav"), group=None) for track in make_dataset()]
        with pytest.raises(DatasetError, match=r"same\.wav"):
            cross_validate(TrackDataset(tracks, labels=labels, name="made"), folds=4)
        assert trainings == []

    def test_copy_of_a_recording_is_an_error_before_training(self, trainings, genre_folder, tmp_path):
        shutil.copytree(genre_folder, tmp_path / "data")
        shutil.copy(tmp_path / "data" / "hiss" / "0.wav", tmp_path / "data" / "hiss" / "copy.wav")
        data = AudioFolder(tmp_path / "data")
        with pytest.raises(DatasetError, match=r"recording hiss/(0|copy)\.wav \(also hiss/(0|copy)\.wav\)"):
            cross_validate(data, folds=4)
        assert trainings == []

    def test_ungrouped_folds_need_allow_leakage(self, trainings, make_dataset, tmp_path):
        data = make_dataset()
        with pytest.raises(DatasetError, match=r"group artist "):
            cross_validate(data, folds=4, groups=None)
        assert trainings == []
        report = cross_validate(data, folds=4, groups=None, allow_leakage=True, directory=tmp_path)
        assert report.leaky
        assert report.groups is None
        assert all(pooled.leaky for pooled in report.pooled)
        assert json.loads(report.to_json())["leaky"] is True
        assert report.to_markdown().splitlines()[0] == "# vgg16 on made: 4 folds (leaky)"
        assert report.to_markdown().count("**Leaky") == 2
        assert all({track.group for track in train} == {track.group for track in data} for train, _ in trainings)
        with pytest.raises(DatasetError, match="group"):  # saved folds do not make it clean
            cross_validate(data, folds=4, groups=None, directory=tmp_path)

    def test_ungrouped_folds_without_known_artists_are_clean(self, trainings, make_dataset, labels):
        tracks = [dataclasses.replace(track, group=None) for track in make_dataset()]
        data = TrackDataset(tracks, labels=labels, name="made")
        assert not cross_validate(data, folds=4, groups=None).leaky

    def test_clean_folds_are_not_marked_as_leaky(self, trainings, make_dataset):
        report = cross_validate(make_dataset(), folds=4, allow_leakage=True)
        assert not report.leaky
        assert report.to_markdown().startswith("# vgg16 on made: 4 folds, grouped by artist\n")
        assert "leaky" not in report.to_markdown().lower()


class TestWorkerProcesses:
    def test_equal_predictions(self, genre_folder, tmp_path):
        recipe = Recipe(Component("vgg16-slim", {"width": 0.05, "dense_units": 8}), MEL, CONFIG)
        data = AudioFolder(genre_folder)
        two = musgenre.cross_validate(data, recipe=recipe, folds=2, jobs=2, directory=tmp_path)
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # as in a worker process: with more threads, sums are rounded in another order
        try:
            one = musgenre.cross_validate(data, recipe=recipe, folds=2, progress=False)
        finally:
            torch.set_num_threads(threads)
        assert len(list(tmp_path.iterdir())) == 2
        probabilities = [[row.probabilities for row in report.pooled[0].predictions] for report in (one, two)]
        np.testing.assert_allclose(*probabilities, atol=1e-4)
        assert one.pooled[0].windows.count == 16

    def test_features_and_backbones_of_this_process_are_sent(self, genre_folder):
        def mel(*, sample_rate: int, hop_length: int):
            return FEATURES.build("logmel", {"sample_rate": sample_rate, "hop_length": hop_length})

        def slim(member: str):
            def build(*, in_channels: int = 1):
                options = {"in_channels": in_channels, "width": float(member), "dense_units": 8}
                return BACKBONES.build("vgg16-slim", options)

            return build

        data = AudioFolder(genre_folder)
        # A member of a family, and a combination of a built-in feature and one of this process.
        recipe = Recipe("slim/0.05", Component("logmel+folds-mel", {"hop_length": 128}), CONFIG)
        with FEATURES.temporary("folds-mel", mel), BACKBONES.temporary("slim/", slim):
            report = musgenre.cross_validate(data, recipe=recipe, folds=2, jobs=2)
        assert report.recipe["backbone"]["name"] == "slim/0.05"
        assert report.pooled[0].tracks == 8

    def test_backbone_that_cannot_be_pickled_is_named(self, trainings, make_dataset):
        lock = threading.Lock()

        def locked(*, in_channels: int):
            return lock

        with BACKBONES.temporary("locked", locked):
            with pytest.raises(PluginError, match=r"backbone 'locked'.*cannot pickle.*jobs=1"):
                cross_validate(make_dataset(), recipe=Recipe("locked", "logmel"), folds=4, jobs=2)
            cross_validate(make_dataset(), recipe=Recipe("locked", "logmel"), folds=4)  # nothing is pickled here

    def test_feature_that_a_worker_cannot_import_is_named(self, make_dataset, monkeypatch):
        module = ModuleType("only_here")
        exec("def only(*, sample_rate): pass", vars(module))
        monkeypatch.setitem(sys.modules, "only_here", module)
        with (
            FEATURES.temporary("only", module.only),
            pytest.raises(PluginError, match=r"feature 'only'.*only_here.*installed package"),
        ):
            cross_validate(make_dataset(), recipe=Recipe("vgg16-slim", "only"), folds=4, jobs=2)

    def test_failed_training_is_reported_without_its_network(self, make_dataset, monkeypatch):
        def finetune(*_, **__):
            raise TrainingError("The loss is NaN.", result=threading.Lock())

        monkeypatch.setattr(cross_validation, "finetune", finetune)
        data = make_dataset()
        run = cross_validation.FoldRun(
            train=data, test=data, recipe=Recipe(), seed=3, fold=1, directory=None, leaky=False, options={}
        )
        with pytest.raises(MusgenreError, match=r"Seed 3, fold 1: The loss is NaN\.") as caught:
            cross_validation._run_in_worker(run, [])
        assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)
