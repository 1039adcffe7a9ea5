"""Training with two processes as two nodes, started by torchrun. Run as a script, this file is one of the processes."""

import os
import socket
import subprocess
import sys

import pytest
import torch

import musgenre
from musgenre.backbones.base import BACKBONES, Backbone, InputSpec
from musgenre.core.config import AudioSpec, Component
from musgenre.datasets import AudioFolder, holdout
from musgenre.training.distributed import is_distributed

pytestmark = pytest.mark.slow

MEL = Component("logmel", {"n_fft": 512, "hop_length": 128, "n_mels": 16})
OPTIONS = {"head_epochs": 2, "epochs": 2, "head_learning_rate": 0.01, "learning_rate": 0.01, "dropout": 0.0}


class Plain(Backbone):
    """A network without batch statistics, so that several processes compute the same as one."""

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


def train(music, run, **options):
    BACKBONES.register("plain-on-nodes")(Plain)
    training, valid = holdout(AudioFolder(music), fraction=0.25)
    audio = AudioSpec(sample_rate=8_000, window_seconds=0.5, hop_seconds=0.5)
    settings = {
        **OPTIONS,
        "valid": valid,
        "backbone": "plain-on-nodes",
        "feature": MEL,
        "audio": audio,
        "batch_size": 8,
    }
    return musgenre.finetune(training, directory=run, progress=False, accelerator="cpu", **settings, **options)


def test_two_nodes_train_the_same_model_as_one_process(genre_folder, tmp_path, monkeypatch, request):
    request.addfinalizer(lambda: BACKBONES.unregister("plain-on-nodes"))
    monkeypatch.setenv("MUSGENRE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "1"]
    torchrun += ["--master-addr", "127.0.0.1", "--master-port", str(port)]
    nodes = [
        subprocess.Popen(
            [*torchrun, "--node-rank", str(number), __file__, str(genre_folder), str(tmp_path / "run")],
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(2)
    ]
    errors = [node.communicate(timeout=600)[1] for node in nodes]
    assert [node.returncode for node in nodes] == [0, 0], errors
    one = train(genre_folder, tmp_path / "one").classifier.network.state_dict()
    two = musgenre.GenreClassifier.from_pretrained(tmp_path / "run").network.state_dict()
    for name, tensor in one.items():
        torch.testing.assert_close(two[name], tensor, rtol=1e-3, atol=1e-5)


if __name__ == "__main__":
    torch.set_num_threads(1)
    train(sys.argv[1], sys.argv[2], num_nodes=2, devices=1, strategy="ddp")
    if not is_distributed() or os.environ["WORLD_SIZE"] != "2":
        raise SystemExit("This process was not one of two.")
