"""A run that is killed at any moment goes on, and ends with the weights of one that was never stopped.

Run as a script, this file is killed at one place after another, in a process of its own each.
"""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import lightning.pytorch as pl
import pytest
import torch

import musgenre
from musgenre.backbones.base import BACKBONES, Backbone, InputSpec
from musgenre.core.config import AudioSpec, Component
from musgenre.core.errors import ConfigError, ParameterError
from musgenre.datasets import AudioFolder, holdout
from musgenre.training.config import Augmentation, FinetuneConfig
from musgenre.training.run_directory import RunDirectory

CONFIG = FinetuneConfig(
    audio=AudioSpec(sample_rate=8_000, window_seconds=0.5, hop_seconds=0.5),
    head_epochs=3,
    epochs=3,
    learning_rate=1e-3,
    batch_size=8,
    windows_per_track=4,
    views=2,
    balanced=True,
    patience=2,
    augmentation=Augmentation(gain_db=3.0, time_mask=4, mixup=0.3),
)
MEL = Component("logmel", {"n_fft": 512, "hop_length": 128, "n_mels": 16})
PLACES = ("filling", "head epoch 2", "head kept", "backbone begins", "backbone epoch 2", "best kept")


class Small(Backbone):
    """Has weights worth keeping, batch normalisation and dropout."""

    pretrained = True
    calls = 0
    fatal_call = 0

    def __init__(self, *, in_channels: int) -> None:
        super().__init__()
        self.expects = InputSpec(channels=in_channels)
        self.out_features = 8
        self.first = torch.nn.Sequential(torch.nn.Conv2d(in_channels, 4, 3), torch.nn.BatchNorm2d(4))
        self.second = torch.nn.Sequential(torch.nn.ReLU(), torch.nn.Conv2d(4, 8, 3), torch.nn.Dropout(0.2))

    def stages(self):
        return [self.first, self.second]

    def forward(self, feature):
        Small.calls += 1
        if Small.calls == Small.fatal_call:
            die()
        return self.second(self.first(feature)).mean(dim=(2, 3))


class Kill(pl.Callback):
    """Kills the process in a stage, at an epoch's second batch."""

    def __init__(self, stage, epoch):
        self.at = (stage, epoch)

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if (pl_module.stage.name, trainer.current_epoch, batch_idx) == (*self.at, 1):
            die()


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def run(folder, **options):
    torch.set_num_threads(1)
    train, valid = holdout(AudioFolder(folder), fraction=0.25)
    options = {"valid": valid, "backbone": "small", "feature": MEL, "config": CONFIG, "progress": False, **options}
    return musgenre.finetune(train, **options)


def be_killed(place, folder, directory):
    """Runs until it is killed at a place."""
    os.environ["MUSGENRE_CACHE"] = f"{directory}-cache"
    killers = {
        "head epoch 2": Kill("head", 1),
        "backbone begins": Kill("backbone", 0),
        "backbone epoch 2": Kill("backbone", 1),
    }
    if place == "filling":
        Small.fatal_call = 2  # the first part is on disk
    keep_progress = RunDirectory.keep_progress
    if place == "head kept":  # the stage's last checkpoint is on disk, and progress.json does not know yet
        RunDirectory.keep_progress = lambda self, told: die() if told["finished"] else keep_progress(self, told)
    if place == "best kept":  # best weights of an epoch that no checkpoint knows yet
        RunDirectory.replacing_last = lambda self, number: die()
    run(folder, directory=directory, callbacks=[killers[place]] if place in killers else [])


@pytest.fixture
def small(monkeypatch, tmp_path):
    monkeypatch.setenv("MUSGENRE_CACHE", str(tmp_path / "cache"))
    with BACKBONES.temporary("small", Small):
        yield


@pytest.mark.slow
def test_a_run_that_was_killed_ends_as_if_it_had_not_been(genre_folder, tmp_path, small, monkeypatch):
    subprocess.run(
        [sys.executable, __file__, genre_folder, tmp_path],
        check=True,
        timeout=300,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert list((tmp_path / "filling-cache").rglob("part-*.npy"))
    whole = run(genre_folder)
    expected = whole.classifier.network.state_dict()
    assert {row["stage"] for row in whole.history} == {"head", "backbone"}
    losses = [row["valid_loss"] for row in whole.history]
    for place in PLACES:
        directory = tmp_path / place.replace(" ", "-")
        before = RunDirectory(directory).progress()["history"]
        assert before == whole.history[: len(before)]
        assert len(before) < len(whole.history)
        monkeypatch.setenv("MUSGENRE_CACHE", f"{directory}-cache")
        result = run(genre_folder, directory=directory, resume=True)
        assert result.history == whole.history, place
        actual = result.classifier.network.state_dict()
        assert [name for name in expected if not torch.equal(expected[name], actual[name])] == [], place
        assert result.classifier.config.scores == whole.classifier.config.scores
        again = musgenre.GenreClassifier.from_pretrained(directory).network.state_dict()
        assert all(torch.equal(expected[name], again[name]) for name in expected)
        assert not list(directory.glob(".*.partial"))
        files = {path.name for path in directory.iterdir()}
        told = {
            "run.json",
            "progress.json",
            "history.csv",
            "config.json",
            "model.safetensors",
            "README.md",
            "last-2.ckpt",
        }
        assert files == {*told, f"best-{1 + losses.index(min(losses))}.safetensors"}


class TestTheDirectoryOfARun:
    @pytest.fixture
    def finished(self, genre_folder, tmp_path, small):
        result = run(genre_folder, directory=tmp_path / "run", head_epochs=1, epochs=0)
        return tmp_path / "run", result

    def test_it_is_not_run_over(self, genre_folder, finished):
        directory, result = finished
        before = {path: path.read_bytes() for path in directory.iterdir()}
        with pytest.raises(ParameterError, match="resume=True"):
            run(genre_folder, directory=directory)
        with pytest.raises(ConfigError, match="other config"):
            run(genre_folder, directory=directory, resume=True, head_epochs=2, epochs=0)
        with pytest.raises(ConfigError, match="other tracks"):
            run(genre_folder, directory=directory, resume=True, valid=None, head_epochs=1, epochs=0)
        assert {path: path.read_bytes() for path in directory.iterdir()} == before
        # What is finished is only read.
        again = run(genre_folder, directory=directory, resume=True, head_epochs=1, epochs=0)
        assert again.history == result.history
        assert json.loads((directory / "run.json").read_text())["config"]["config"]["head_epochs"] == 1

    def test_it_must_be_of_this_version(self, genre_folder, finished):
        directory, _ = finished
        path = directory / "run.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "musgenre": "0.0.1"}))
        with pytest.raises(ConfigError, match="other musgenre"):
            run(genre_folder, directory=directory, resume=True, head_epochs=1, epochs=0)

    def test_another_model_is_not_overwritten(self, genre_folder, tmp_path, small):
        (tmp_path / "config.json").write_text("{}")
        for resume in (False, True):
            with pytest.raises(ParameterError, match="not empty"):
                run(genre_folder, directory=tmp_path, resume=resume)
        assert (tmp_path / "config.json").read_text() == "{}"
        with pytest.raises(ParameterError, match="no directory"):
            run(genre_folder, directory=tmp_path / "config.json")


if __name__ == "__main__":
    musgenre.register_backbone("small")(Small)
    for place in PLACES:
        child = os.fork()
        if child == 0:
            be_killed(place, sys.argv[1], Path(sys.argv[2], place.replace(" ", "-")))
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if os.waitstatus_to_exitcode(status) != -signal.SIGKILL:
            raise SystemExit(f"{place}: not killed")
