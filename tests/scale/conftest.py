"""A Ray cluster of three nodes, a small model, and songs."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile

from musgenre.core.config import AudioSpec, Component, ModelConfig
from musgenre.models.classifier import GenreClassifier
from musgenre.models.network import GenreNetwork

NODE = {"num_cpus": 1, "object_store_memory": 100 * 2**20}
RATE = 8_000
FEATURE = {"n_fft": 512, "hop_length": 200, "n_mels": 32}


@pytest.fixture(scope="session")
def quick() -> GenreClassifier:
    """A small network with random weights and overlapping windows."""
    import torch

    component = Component("vgg16-slim", {"width": 0.05, "dense_units": 8})
    spec = AudioSpec(sample_rate=RATE, window_seconds=1.0, hop_seconds=0.7)
    config = ModelConfig(
        "quick", ("jazz", "rock", "samba"), spec, Component("logmel", FEATURE), component, temperature=0.7
    )
    torch.manual_seed(0)
    return GenreClassifier(GenreNetwork.from_config(config), config, device="cpu")


@pytest.fixture(scope="session")
def many_songs(tmp_path_factory):
    """24 songs of one to three seconds in two folders, at several sample rates, and two invalid files."""
    folder = tmp_path_factory.mktemp("many")
    generator = np.random.default_rng(0)
    for number in range(24):
        rate = (8_000, 11_025, 22_050)[number % 3]
        path = folder / "ab"[number % 2] / f"{number:02}.{('wav', 'flac')[number % 2]}"
        path.parent.mkdir(exist_ok=True)
        tone = np.sin(2 * np.pi * 110 * (1 + number) * np.arange(rate * (1 + number % 3)) / rate)
        soundfile.write(path, 0.3 * tone + generator.normal(scale=0.05, size=tone.size), rate)
    (folder / "a" / "broken.mp3").write_bytes(b"This is no music." * 99)
    (folder / "b" / "empty.wav").write_bytes(b"")
    (folder / "b" / "cover.jpg").write_bytes(b"ignored")
    return folder


@pytest.fixture(scope="session")
def cluster():
    """Connects to a local Ray cluster of three nodes with one CPU each."""
    ray = pytest.importorskip("ray", reason="Ray (the extra 'scale') is not installed")
    pytest.importorskip("pyarrow", reason="PyArrow (the extra 'scale') is not installed")
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        # A busy machine may take longer than Ray's default of 30 s.
        patch.setenv("RAY_raylet_start_wait_time_s", "180")
        patch.setenv("RAY_worker_niceness", "0")  # by default, Ray's workers have a lower priority
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_AUTH_MODE", "disabled")
        patch.setenv("OMP_NUM_THREADS", "1")
        nodes = Cluster(initialize_head=True, head_node_args={"include_dashboard": False, **NODE})
        for _ in range(2):
            nodes.add_node(**NODE)
        ray.init(address=nodes.address, log_to_driver=False, logging_level="WARNING")
        patch.setenv("RAY_ADDRESS", nodes.address)
        yield nodes
        ray.shutdown()
        nodes.shutdown()
