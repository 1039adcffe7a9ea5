"""Runs of all stages: trainers, loggers, devices, progress, interruptions and errors."""

import csv
import errno
import json
import os
import signal
import subprocess
import sys
import time

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from lightning.pytorch.loggers import CSVLogger

import musgenre
from musgenre.backbones.base import BACKBONES, Backbone, InputSpec
from musgenre.core.config import AudioSpec, Component, ModelConfig
from musgenre.core.errors import MusgenreError, ParameterError, TrainingError
from musgenre.datasets import AudioFolder, holdout
from musgenre.models.network import GenreNetwork
from musgenre.training import checkpoint
from musgenre.training.config import Augmentation, FinetuneConfig, Stage
from musgenre.training.distributed import gather, rank
from musgenre.training.finetune import FinetuneInterrupted
from musgenre.training.module import GenreModule
from musgenre.training.trainer import default_precision

CONFIG = FinetuneConfig(
    audio=AudioSpec(sample_rate=8_000, window_seconds=0.5, hop_seconds=0.5),
    head_epochs=2,
    head_learning_rate=0.01,
    epochs=2,
    learning_rate=0.01,
    batch_size=8,
    windows_per_track=4,
    dropout=0.0,
)
MEL = Component("logmel", {"n_fft": 512, "hop_length": 128, "n_mels": 16})


class Plain(Backbone):
    """Has no layer that depends on the batch, so that several processes compute the same as one."""

    pretrained = True

    def __init__(self, *, in_channels: int) -> None:
        super().__init__()
        self.expects = InputSpec(channels=in_channels)
        self.out_features = 8
        self.only = torch.nn.Sequential(torch.nn.Conv2d(in_channels, 8, 3), torch.nn.ReLU())

    def stages(self):
        return [self.only]

    def forward(self, feature):
        return self.only(feature).mean(dim=(2, 3))


class Seen(pl.Callback):
    """Records the epochs, and raises an error at one of them."""

    def __init__(self, *, raises=None, at=None):
        self.epochs = []
        self.raises = raises
        self.at = at

    def on_train_epoch_start(self, trainer, pl_module):
        self.epochs.append((pl_module.stage.name, trainer.current_epoch))
        if self.epochs[-1] == self.at:
            raise self.raises


EVERY_EPOCH = [("head", 0), ("head", 1), ("backbone", 0), ("backbone", 1)]


def run(folder, **options):
    torch.set_num_threads(1)
    train, valid = holdout(AudioFolder(folder), fraction=0.25)
    options = {"valid": valid, "backbone": "plain", "feature": MEL, "config": CONFIG, "progress": False, **options}
    return musgenre.finetune(train, **options)


@pytest.fixture(autouse=True)
def plain(monkeypatch, tmp_path):
    monkeypatch.setenv("MUSGENRE_CACHE", str(tmp_path / "cache"))
    with BACKBONES.temporary("plain", Plain):
        yield


@pytest.fixture(scope="module")
def expected_result(genre_folder, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch, BACKBONES.temporary("plain", Plain):
        patch.setenv("MUSGENRE_CACHE", str(tmp_path_factory.mktemp("cache")))
        return run(genre_folder)


@pytest.mark.slow
def test_two_processes_train_the_weights_of_one(genre_folder, tmp_path, expected_result):
    subprocess.run([sys.executable, __file__, genre_folder, tmp_path / "run"], check=True, timeout=900)
    found = json.loads((tmp_path / "run" / "found.json").read_text())
    assert found["ranks"] == [0, 1]
    history = found["history"]
    assert len(history) == len(expected_result.history)
    for actual, expected in zip(history, expected_result.history, strict=True):
        assert actual == {
            **expected,
            **{name: pytest.approx(expected[name], rel=1e-4) for name in ("train_loss", "valid_loss")},
        }
    ours = expected_result.classifier.network.state_dict()
    theirs = musgenre.GenreClassifier.from_pretrained(tmp_path / "run").network.state_dict()
    for name, tensor in ours.items():
        torch.testing.assert_close(theirs[name], tensor, rtol=1e-3, atol=1e-5)


def test_the_prediction_of_a_track_uses_its_windows_in_all_processes(monkeypatch):
    network = GenreNetwork.from_config(
        ModelConfig("two", ("drone", "hiss"), CONFIG.audio, MEL, Component("plain")), pretrained=True
    )
    module = GenreModule(network, Stage("head", 1, 1e-3), augmentation=Augmentation())
    logged = {}
    monkeypatch.setattr(module, "log", lambda name, value, **_: logged.update({name: value}))
    other = {0: (0, torch.tensor([0.1, 0.9])), 1: (1, torch.tensor([0.2, 0.8]))}
    monkeypatch.setattr("musgenre.training.module.gather", lambda own: [own, other])
    module._tracks = {0: (0, torch.tensor([0.6, 0.4])), 2: (1, torch.tensor([0.4, 0.6]))}
    module.on_validation_epoch_end()
    # Track 0 is wrong over all its windows, though right over those of this process.
    assert logged == {"valid_accuracy": pytest.approx(2 / 3)}


def test_the_users_trainer_runs_all_stages(genre_folder, tmp_path, expected_result):
    seen, logger = Seen(), CSVLogger(tmp_path, name="", version="")
    trainer = pl.Trainer(
        accelerator="cpu", max_epochs=7, callbacks=[seen], logger=logger, enable_progress_bar=False,
        enable_checkpointing=False, enable_model_summary=False,
    )  # fmt: skip
    own = list(trainer.callbacks)
    result = run(genre_folder, trainer=trainer)
    assert seen.epochs == EVERY_EPOCH
    assert result.history == expected_result.history
    assert trainer.callbacks == own
    assert trainer.max_epochs == 7
    with (tmp_path / "metrics.csv").open() as file:
        output = {int(row["step"]): float(row["train_loss"]) for row in csv.DictReader(file) if row["train_loss"]}
    assert output == {
        step: pytest.approx(row["train_loss"]) for step, row in enumerate(expected_result.history, start=1)
    }
    with pytest.raises(ParameterError, match="devices"):
        run(genre_folder, trainer=trainer, devices=2)


def test_the_progress_bar_and_tensorboard(genre_folder, tmp_path, capsys, expected_result):
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    seen = Seen()
    result = run(genre_folder, directory=tmp_path / "run", loggers=["tensorboard"], callbacks=[seen], progress=True)
    assert seen.epochs == EVERY_EPOCH
    assert result.history == expected_result.history
    assert 0 < result.waiting < 1
    shown = capsys.readouterr().err
    for word in ("drone", "hiss", "head, epoch 2/2", "backbone, epoch 2/2", "loss 0.", "accuracy ", "100 %"):
        assert word in shown
    assert f"{result.waiting:.0%} of the training time so far was spent waiting" in shown
    events = reader.EventAccumulator(str(tmp_path / "run" / "tensorboard")).Reload()
    for name in ("train_loss", "valid_loss", "valid_accuracy"):
        output = {event.step: event.value for event in events.Scalars(name)}
        assert output == {step: pytest.approx(row[name]) for step, row in enumerate(expected_result.history, start=1)}
    with (tmp_path / "run" / "history.csv").open() as file:
        assert [float(row["valid_loss"]) for row in csv.DictReader(file)] == [
            row["valid_loss"] for row in expected_result.history
        ]
    result.plot(tmp_path / "curves.png")
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_tensorboard_that_is_not_installed(genre_folder, tmp_path, monkeypatch):
    for name in ("_TENSORBOARD_AVAILABLE", "_TENSORBOARDX_AVAILABLE"):
        monkeypatch.setattr(f"lightning.fabric.loggers.tensorboard.{name}", False)
    with pytest.raises(ParameterError, match=r"musgenre\[tensorboard\]"):
        run(genre_folder, directory=tmp_path / "run", loggers=["tensorboard"])


def test_ctrl_c_saves_the_best_and_the_run_is_resumed(genre_folder, tmp_path, expected_result):
    handler = signal.getsignal(signal.SIGINT)
    directory = tmp_path / "run"
    with pytest.raises(FinetuneInterrupted, match=r"before the end of the first epoch.*resume=True") as stopped:
        run(genre_folder, directory=directory, callbacks=[Seen(raises=KeyboardInterrupt(), at=("head", 0))])
    assert stopped.value.result is None
    stop = Seen(raises=KeyboardInterrupt(), at=("backbone", 1))
    with pytest.raises(FinetuneInterrupted, match=r"epoch 1 of stage 'backbone'.*resume=True") as stopped:
        run(genre_folder, directory=directory, resume=True, callbacks=[stop])
    assert signal.getsignal(signal.SIGINT) is handler
    best = min(row["valid_loss"] for row in expected_result.history[:3])
    result = stopped.value.result
    assert result.classifier.config.scores["valid_loss"] == best
    assert musgenre.GenreClassifier.from_pretrained(directory).config.scores["valid_loss"] == best
    again = run(genre_folder, directory=directory, resume=True)
    assert again.history == expected_result.history
    with pytest.raises(FinetuneInterrupted, match="Pass directory=") as stopped:
        run(genre_folder, callbacks=[Seen(raises=KeyboardInterrupt(), at=("head", 1))])
    assert len(stopped.value.result.history) == 1


@pytest.mark.slow
def test_ctrl_c_of_the_command(genre_folder, tmp_path):
    code = "from musgenre.cli.main import main; main()"
    options = ["--output", tmp_path / "model", "--backbone", "vgg16-slim", "--epochs", "100"]
    call = [sys.executable, "-c", code, "finetune", genre_folder, *options]
    with subprocess.Popen(call, stderr=subprocess.PIPE, text=True) as process:
        while not (tmp_path / "model" / "progress.json").exists() and process.poll() is None:
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        _, output = process.communicate(timeout=120)
    assert process.returncode == 130, output
    assert "--resume" in output
    assert "Traceback" not in output
    assert musgenre.GenreClassifier.from_pretrained(tmp_path / "model").labels == ("drone", "hiss")


def test_a_gpu_with_bfloat16_uses_mixed_precision(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: not including_emulation)
    assert [default_precision(kind) for kind in ("auto", "gpu", "cpu")] == ["bf16-mixed", "bf16-mixed", "32-true"]


def test_a_loss_that_is_not_finite_saves_the_best(genre_folder, tmp_path, expected_result):
    for directory in (None, tmp_path / "run"):
        with pytest.raises(TrainingError, match=r"learning rate(.|\n)*best model so far") as stopped:
            run(genre_folder, directory=directory, learning_rate=1e30, schedule="constant", optimizer="adam")
        result = stopped.value.result
        losses = [row["valid_loss"] for row in result.history]
        assert result.classifier.config.scores["valid_loss"] == min(losses) < np.inf
        assert all(torch.isfinite(tensor).all() for tensor in result.classifier.network.state_dict().values())
    saved = musgenre.GenreClassifier.from_pretrained(tmp_path / "run").network.state_dict()
    for name, tensor in result.classifier.network.state_dict().items():
        assert torch.equal(saved[name], tensor)


def test_a_full_disk(genre_folder, tmp_path, monkeypatch, expected_result):
    save_file, calls = checkpoint.save_file, []

    def full(tensors, path):
        calls.append(path)
        if len(calls) == 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        save_file(tensors, path)

    monkeypatch.setattr(checkpoint, "save_file", full)
    with pytest.raises(MusgenreError, match=r"No space left.*make room"):
        run(genre_folder, directory=tmp_path / "run")
    assert not list((tmp_path / "run").glob(".*"))
    assert run(genre_folder, directory=tmp_path / "run", resume=True).history == expected_result.history


def test_a_preset_and_a_configuration_exclude_each_other(genre_folder):
    with pytest.raises(ParameterError, match="preset"):
        run(genre_folder, preset="recommended")


if __name__ == "__main__":
    musgenre.register_backbone("plain")(Plain)
    os.environ["MUSGENRE_CACHE"] = f"{sys.argv[2]}-cache"
    found = run(sys.argv[1], directory=sys.argv[2], accelerator="cpu", devices=2, strategy="ddp")
    ranks = gather(rank())
    if rank() == 0:
        with open(f"{sys.argv[2]}/found.json", "w") as file:
            json.dump({"ranks": ranks, "history": found.history}, file)
