"""Fixtures for thread tests: a small classifier, audio files, and scripts in a fresh interpreter."""

from __future__ import annotations

import os

import numpy as np
import pytest
import soundfile
import torch

import musgenre
from musgenre.core.config import AudioSpec, Component, ModelConfig

RATE = 8_000


def build_classifier() -> musgenre.GenreClassifier:
    feature = Component("logmel", {"n_fft": 256, "hop_length": 128, "n_mels": 32, "f_min_hz": 50.0, "f_max_hz": 3900.0})
    backbone = Component("vgg16-slim", {"width": 0.05, "dense_units": 8})
    config = ModelConfig("tiny", ("a", "b", "c"), AudioSpec(RATE), feature, backbone)
    torch.manual_seed(0)
    return musgenre.GenreClassifier(musgenre.GenreNetwork.from_config(config), config, device="cpu")


@pytest.fixture
def classifier():
    return build_classifier()


@pytest.fixture(scope="session")
def paths(tmp_path_factory):
    """Forty files of 4 to 10 s."""
    directory = tmp_path_factory.mktemp("tracks")
    generator = np.random.default_rng(0)
    found = []
    for number in range(40):
        found.append(directory / f"{number:02d}.wav")
        soundfile.write(found[-1], generator.normal(scale=0.1, size=(4 + number % 7) * RATE), RATE)
    return found


@pytest.fixture(
    params=[2, *(pytest.param(count, marks=pytest.mark.slow) for count in (4, 8))], ids=lambda count: f"{count}-threads"
)
def threads(request):
    """Sets the number of PyTorch's threads, which is also the number of workers."""
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.fixture
def run_script(tmp_path):
    """Runs a script in a fresh interpreter, which must exit within ten seconds after it prints 'done'."""
    import subprocess
    import sys
    import time
    from pathlib import Path

    def run(body: str, *, code: int | None = 0) -> str:
        script = tmp_path / "script.py"
        head = f"import sys; sys.path[:0] = [{str(Path(__file__).parent)!r}]\nfrom conftest import build_classifier\n"
        script.write_text(head + body)
        environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
        process = subprocess.Popen(
            [sys.executable, str(script)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
        )
        try:
            lines = []
            for line in process.stdout:
                lines.append(line)
                if line.startswith("done"):
                    break
            start = time.monotonic()
            rest, _ = process.communicate(timeout=60)
            assert lines, rest
            assert lines[-1].startswith("done"), "".join(lines) + rest
            assert time.monotonic() - start < 10, "the interpreter took too long to exit\n" + rest
        finally:
            process.kill()
        assert code is None or process.returncode == code, "".join(lines) + rest
        return "".join(lines) + rest

    return run
