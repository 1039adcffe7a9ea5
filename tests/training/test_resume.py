"""A run that is killed at any moment can be resumed, and ends with the weights of an uninterrupted run.

Run as a script, this file starts a process for each point at which a run is killed.
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
from musgenre.training.checkpoint import RunDirectory
from musgenre.training.config import Augmentation, FinetuneConfig

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
POINTS = ("embedding", "head epoch 2", "head saved", "backbone begins", "backbone epoch 2", "best saved")


class Small(Backbone):
    """Has the flag of pretrained weights, batch normalisation and dropout."""

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


def run_until_killed(point, folder, directory):
    """Run until the process is killed at a point."""
    os.environ["MUSGENRE_CACHE"] = f"{directory}-cache"
    killers = {
        "head epoch 2": Kill("head", 1),
        "backbone begins": Kill("backbone", 0),
        "backbone epoch 2": Kill("backbone", 1),
    }
    if point == "embedding":
        Small.fatal_call = 2  # the first part is on disk
    save_progress = RunDirectory.save_progress
    if point == "head saved":  # the stage's last checkpoint is on disk, and not yet in progress.json
        RunDirectory.save_progress = lambda self, progress: (
            die() if progress["finished"] else save_progress(self, progress)
        )
    if point == "best saved":  # best weights of an epoch without a checkpoint
        RunDirectory.replace_last = lambda self, number: die()
    run(folder, directory=directory, callbacks=[killers[point]] if point in killers else [])


@pytest.fixture
def small(monkeypatch, tmp_path):
    monkeypatch.setenv("MUSGENRE_CACHE", str(tmp_path / "cache"))
    with BACKBONES.temporary("small", Small):
        yield


@pytest.mark.slow
def test_a_run_that_was_killed_ends_like_an_uninterrupted_one(genre_folder, tmp_path, small, monkeypatch):
    subprocess.run(
        [sys.executable, __file__, genre_folder, tmp_path],
        check=True,
        timeout=300,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert list((tmp_path / "embedding-cache").rglob("part-*.npy"))
    uninterrupted = run(genre_folder)
    expected = uninterrupted.classifier.network.state_dict()
    assert {row["stage"] for row in uninterrupted.history} == {"head", "backbone"}
    losses = [row["valid_loss"] for row in uninterrupted.history]
    for point in POINTS:
        directory = tmp_path / point.replace(" ", "-")
        before = RunDirectory(directory).load_progress()["history"]
        assert before == uninterrupted.history[: len(before)]
        assert len(before) < len(uninterrupted.history)
        monkeypatch.setenv("MUSGENRE_CACHE", f"{directory}-cache")
        result = run(genre_folder, directory=directory, resume=True)
        assert result.history == uninterrupted.history, point
        actual = result.classifier.network.state_dict()
        assert [name for name in expected if not torch.equal(expected[name], actual[name])] == [], point
        assert result.classifier.config.scores == uninterrupted.classifier.config.scores
        again = musgenre.GenreClassifier.from_pretrained(directory).network.state_dict()
        assert all(torch.equal(expected[name], again[name]) for name in expected)
        assert not list(directory.glob(".*.partial"))
        files = {path.name for path in directory.iterdir()}
        names = {
            "run.json",
            "progress.json",
            "history.csv",
            "config.json",
            "model.safetensors",
            "README.md",
            "last-2.ckpt",
        }
        assert files == {*names, f"best-{1 + losses.index(min(losses))}.safetensors"}


class TestRunDirectory:
    @pytest.fixture
    def finished(self, genre_folder, tmp_path, small):
        result = run(genre_folder, directory=tmp_path / "run", head_epochs=1, epochs=0)
        return tmp_path / "run", result

    def test_a_run_is_not_overwritten(self, genre_folder, finished):
        directory, result = finished
        before = {path: path.read_bytes() for path in directory.iterdir()}
        with pytest.raises(ParameterError, match="resume=True"):
            run(genre_folder, directory=directory)
        with pytest.raises(ConfigError, match="other config"):
            run(genre_folder, directory=directory, resume=True, head_epochs=2, epochs=0)
        with pytest.raises(ConfigError, match="other tracks"):
            run(genre_folder, directory=directory, resume=True, valid=None, head_epochs=1, epochs=0)
        assert {path: path.read_bytes() for path in directory.iterdir()} == before
        # A finished run is only read.
        again = run(genre_folder, directory=directory, resume=True, head_epochs=1, epochs=0)
        assert again.history == result.history
        assert json.loads((directory / "run.json").read_text())["config"]["config"]["head_epochs"] == 1

    def test_a_run_of_another_version_is_refused(self, genre_folder, finished):
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
        with pytest.raises(ParameterError, match="not a directory"):
            run(genre_folder, directory=tmp_path / "config.json")


if __name__ == "__main__":
    musgenre.register_backbone("small")(Small)
    for point in POINTS:
        child = os.fork()
        if child == 0:
            run_until_killed(point, sys.argv[1], Path(sys.argv[2], point.replace(" ", "-")))
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if os.waitstatus_to_exitcode(status) != -signal.SIGKILL:
            raise SystemExit(f"{point}: not killed")
