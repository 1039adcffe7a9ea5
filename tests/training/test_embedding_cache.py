"""Embeddings of frozen stages: what is cached, when it is computed again, and how it is resumed after a kill."""

from __future__ import annotations

import os
import pickle
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from torch import nn
from torch.utils.data import DataLoader

from musgenre.core.config import AudioSpec
from musgenre.core.errors import AudioFileError, DatasetError, ParameterError, PluginError
from musgenre.datasets import AudioFolder
from musgenre.datasets.base import DatasetWarning, TrackDataset
from musgenre.datasets.windows import GridWindows, RandomWindows, TrackWindows
from musgenre.models.network import GenreNetwork
from musgenre.training import embedding_cache
from musgenre.training.config import Augmentation, RunOptions
from musgenre.training.embedding_cache import EmbeddedWindows, clear_embeddings, embedded, embeddings_size

RATE = 8_000
SPEC = AudioSpec(RATE, window_seconds=1.0, hop_seconds=0.5)
VARIED = Augmentation(gain_db=3.0, speed=0.1, crop=48, equaliser=0.1, time_mask=4, frequency_mask=4, mixup=0.3)

SETUP = f"""
import torch
from musgenre.datasets import AudioFolder
from musgenre.datasets.windows import RandomWindows
from musgenre.models.network import GenreNetwork
from musgenre.core.config import AudioSpec, Component, ModelConfig
from musgenre.training.embedding_cache import embedded
from musgenre.training.config import Augmentation

def make_network():
    torch.manual_seed(0)
    backbone = Component("vgg16-slim", {{"width": 0.05, "dense_units": 16}})
    feature = Component("logmel", {{"n_fft": 512, "hop_length": 128, "n_mels": 32}})
    return GenreNetwork.from_config(ModelConfig("tiny", ("drone", "hiss"), {SPEC!r}, feature, backbone))
"""

KILLED_OR_NOT = (
    SETUP
    + f"""
import os, signal, sys
songs, directory, killed_at = sys.argv[1], sys.argv[2], int(sys.argv[3])
calls = 0

def count(*_):
    global calls
    calls += 1
    if calls == killed_at:
        os.kill(os.getpid(), signal.SIGKILL)

network = make_network()
network.backbone.register_forward_pre_hook(count)
windows = RandomWindows(AudioFolder(songs), audio={SPEC!r}, windows_per_track=3, seed=5)
embedded(windows, network, directory=directory, augmentation={VARIED!r}, views=2)
print(calls)
"""
)


@pytest.fixture
def network() -> GenreNetwork:
    names: dict[str, object] = {}
    exec(SETUP, names)
    made: GenreNetwork = names["make_network"]()  # type: ignore[operator]
    return made


@pytest.fixture
def data(genre_folder: Path) -> TrackDataset:
    return AudioFolder(genre_folder)


@pytest.fixture
def windows(data: TrackDataset) -> RandomWindows:
    return RandomWindows(data, audio=SPEC, windows_per_track=3, seed=5)


def calls(network: GenreNetwork) -> list[int]:
    """Return a list of the sizes of the backbone's input batches from now on."""
    sizes: list[int] = []
    network.backbone.register_forward_pre_hook(lambda _, batch: sizes.append(len(batch[0])))
    return sizes


def rows(made: EmbeddedWindows) -> np.ndarray:
    return np.load(made.path)


def test_each_view_is_the_embedding_of_the_window_of_that_epoch(
    windows: RandomWindows, network: GenreNetwork, tmp_path: Path
):
    made = embedded(windows, network, directory=tmp_path, views=3)
    assert (len(made), rows(made).shape, rows(made).dtype) == (24, (24, 3, 16), np.float32)
    network.eval()
    for view in range(3):
        made.set_epoch(view)
        for index in range(24):
            number, start = windows.locate(index, epoch=view)
            samples, _ = soundfile.read(windows.dataset[number].path, dtype="float32")
            window = samples[round(start * RATE) :][:RATE]
            with torch.no_grad():
                expected = network.backbone(network.feature(torch.from_numpy(window)[None]))[0]
            embedding, label, track = made[index]
            torch.testing.assert_close(embedding, expected, atol=1e-5, rtol=1e-5)
            assert (label, track) == (windows.labels[number], number)


def test_a_grid_is_embedded_window_by_window(data: TrackDataset, network: GenreNetwork, tmp_path: Path):
    grid = GridWindows(data, audio=SPEC)
    made = embedded(grid, network, directory=tmp_path)
    assert rows(made).shape == (len(grid), 1, 16)
    network.eval()
    with torch.no_grad():
        logits = torch.cat([network(waveforms) for waveforms, *_ in DataLoader(grid, batch_size=5)])
        cached_logits = network.head(torch.stack([made[index][0] for index in range(len(made))]))
    torch.testing.assert_close(cached_logits, logits, atol=1e-5, rtol=1e-5)
    assert [made[index][1:] for index in range(len(made))] == [grid[index][1:] for index in range(len(grid))]


def test_cached_embeddings_are_not_computed_again(windows: RandomWindows, network: GenreNetwork, tmp_path: Path):
    first = calls(network)
    before = embedded(windows, network, directory=tmp_path, views=2)
    assert first == [embedding_cache.PART_ROWS] * (48 // embedding_cache.PART_ROWS)
    after = embedded(windows, network, directory=tmp_path, views=2)
    assert sum(first) == 48
    assert after.path == before.path


def test_epochs_use_the_views_in_turn_also_in_persistent_workers(
    windows: RandomWindows, network: GenreNetwork, tmp_path: Path
):
    made = embedded(windows, network, directory=tmp_path, views=2)
    loader = DataLoader(made, batch_size=8, num_workers=1, persistent_workers=True)
    for epoch in (0, 1, 2):
        made.set_epoch(epoch)
        np.testing.assert_array_equal(torch.cat([batch for batch, *_ in loader]), rows(made)[:, epoch % 2])


def test_pickles_do_not_hold_the_embeddings(windows: RandomWindows, network: GenreNetwork, tmp_path: Path):
    made = embedded(windows, network, directory=tmp_path, views=40)
    written = pickle.dumps(made)
    assert len(written) < rows(made).nbytes / 4
    assert torch.equal(pickle.loads(written)[3][0], made[3][0])


def test_the_callers_random_state_and_modes_do_not_change(
    windows: RandomWindows, network: GenreNetwork, tmp_path: Path
):
    network.train()
    network.head.eval()
    modes = [part.training for part in network.modules()]
    state = torch.get_rng_state()
    embedded(windows, network, directory=tmp_path, augmentation=VARIED, options=RunOptions(workers=1, progress=False))
    assert torch.equal(torch.get_rng_state(), state)
    assert [part.training for part in network.modules()] == modes


class Level(nn.Module):
    """A feature and backbone in one, whose embedding is the level of the samples in decibels."""

    out_features = 1

    def forward(self, waveform: torch.Tensor) -> torch.Tensor:
        return 20 * waveform.square().mean(dim=-1, keepdim=True).sqrt().log10()


def test_a_random_gain_is_uniform_in_decibels(windows: RandomWindows, tmp_path: Path):
    network = GenreNetwork(nn.Identity(), Level(), head=nn.Linear(1, 2))  # type: ignore[arg-type]
    plain = rows(embedded(windows, network, directory=tmp_path, views=8))
    louder = rows(embedded(windows, network, directory=tmp_path, views=8, augmentation=Augmentation(gain_db=6.0)))
    gain_db = (louder - plain).ravel()
    assert np.abs(gain_db).max() <= 6.001
    assert np.unique(gain_db.round(4)).size > 0.95 * gain_db.size
    assert gain_db.mean() == pytest.approx(0, abs=1.0)
    assert gain_db.std() == pytest.approx(12 / 12**0.5, rel=0.1)  # of an even distribution over 12 dB


def test_augmentation_depends_on_the_seed_the_window_and_the_view_only(
    windows: RandomWindows, network: GenreNetwork, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def made(name: str, source: TrackWindows = windows, *, views: int = 2) -> np.ndarray:
        return rows(embedded(source, network, directory=tmp_path / name, augmentation=VARIED, views=views))

    expected = made("expected")
    assert len(np.unique(expected.reshape(-1, 16).round(6), axis=0)) == 48
    torch.manual_seed(123)
    np.testing.assert_allclose(made("more views", views=3)[:, :2], expected, atol=1e-5)
    monkeypatch.setattr(embedding_cache, "PART_ROWS", 7)
    np.testing.assert_allclose(made("other batches"), expected, atol=1e-5)
    other = RandomWindows(windows.dataset, audio=SPEC, windows_per_track=3, seed=6)
    assert not np.isclose(made("other seed", other), expected).all(axis=-1).any()


def test_any_change_of_what_embeddings_depend_on_gets_another_file(
    windows: RandomWindows, network: GenreNetwork, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    songs = shutil.copytree(windows.dataset[0].path.parents[1], tmp_path / "songs", copy_function=shutil.copy2)
    windows = RandomWindows(AudioFolder(songs), audio=SPEC, windows_per_track=2, seed=5)

    def path(source: TrackWindows = windows, *, views: int = 1, **augmentation: float) -> Path:
        varied = Augmentation(**augmentation)  # type: ignore[arg-type]
        return embedded(source, network, directory=tmp_path / "cache", views=views, augmentation=varied).path

    first = path()
    seen = {first}

    def check(new: Path) -> None:
        assert new not in seen
        seen.add(new)

    with torch.no_grad():
        network.head[1].weight += 1
    assert path(mixup=0.4) == first  # embeddings depend on neither
    check(path(gain_db=1.0))
    check(path(views=2))
    check(path(RandomWindows(windows.dataset, audio=SPEC, windows_per_track=2, seed=6)))
    check(path(RandomWindows(windows.dataset, audio=AudioSpec(RATE, 0.75, 0.75), windows_per_track=2, seed=5)))
    check(path(RandomWindows(windows.dataset.select([windows.dataset[0].id]), audio=SPEC)))
    file = windows.dataset[0].path
    os.utime(file, ns=(0, 0))
    check(path())
    with torch.no_grad():
        network.backbone.groups[0][0].weight[0, 0, 0, 0] += 1e-3
    check(path())
    next(network.feature.buffers()).mul_(0.5)
    check(path())
    network.feature.an_option = np.zeros(5_000)
    check(path())
    network.feature.an_option[2_500] = 1.0
    check(path())

    class OtherFeature(type(network.feature)):  # type: ignore[misc]
        def forward(self, waveform: torch.Tensor) -> torch.Tensor:
            return -super().forward(waveform)

    network.feature.__class__ = OtherFeature
    check(path())
    monkeypatch.setattr(embedding_cache, "version", lambda _: "99.0")
    check(path())
    assert all(found.is_file() for found in seen)
    assert embeddings_size(tmp_path / "cache") >= sum(found.stat().st_size for found in seen)


def test_a_damaged_file_is_computed_again(windows: RandomWindows, network: GenreNetwork, tmp_path: Path):
    path = embedded(windows, network, directory=tmp_path).path
    content = bytearray(path.read_bytes())
    path.write_bytes(bytes([*content[:-30], content[-30] ^ 1, *content[-29:]]))
    with pytest.warns(DatasetWarning, match="damaged"):
        embedded(windows, network, directory=tmp_path)
    assert path.read_bytes() == content


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL")
def test_a_killed_computation_is_resumed_by_one_of_two_processes(
    windows: RandomWindows, network: GenreNetwork, genre_folder: Path, tmp_path: Path
):
    def start(killed_at: int) -> subprocess.Popen[str]:
        arguments = [str(genre_folder), str(tmp_path / "killed"), str(killed_at)]
        return subprocess.Popen([sys.executable, "-c", KILLED_OR_NOT, *arguments], stdout=subprocess.PIPE, text=True)

    expected = embedded(windows, network, directory=tmp_path / "uninterrupted", augmentation=VARIED, views=2).path
    first = start(killed_at=3)
    first.communicate(timeout=300)
    assert first.returncode == -signal.SIGKILL
    left = sorted(path.name for path in (tmp_path / "killed" / expected.parent.name).iterdir())
    assert left == ["lock", "part-000000000.npy", "part-000000016.npy"]
    both = [start(killed_at=0), start(killed_at=0)]
    computed = [int(process.communicate(timeout=300)[0]) for process in both]
    assert sorted(computed) == [0, 1]
    assert (tmp_path / "killed" / expected.parent.name / expected.name).read_bytes() == expected.read_bytes()


def test_size_and_clearing_ignore_other_files(windows: RandomWindows, network: GenreNetwork, tmp_path: Path):
    assert embeddings_size(tmp_path / "nowhere") == 0
    clear_embeddings(tmp_path / "nowhere")
    (tmp_path / "notes.txt").write_text("mine")
    made = embedded(windows, network, directory=tmp_path)
    before = made[0][0]
    assert embeddings_size(tmp_path) == sum(path.stat().st_size for path in made.path.parent.iterdir())
    clear_embeddings(tmp_path)
    assert embeddings_size(tmp_path) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
    if sys.platform != "win32":
        assert torch.equal(made[0][0], before)  # what is in use stays readable


class TestRefused:
    def test_no_view(self, windows: RandomWindows, network: GenreNetwork, tmp_path: Path):
        with pytest.raises(ParameterError, match="views"):
            embedded(windows, network, directory=tmp_path, views=0)

    def test_a_backbone_with_wrong_out_features(self, windows: RandomWindows, network: GenreNetwork, tmp_path: Path):
        network.backbone.out_features = 17
        with pytest.raises(PluginError, match="17"):
            embedded(windows, network, directory=tmp_path)

    def test_indices_out_of_range(self, windows: RandomWindows, network: GenreNetwork, tmp_path: Path):
        made = embedded(windows, network, directory=tmp_path)
        assert torch.equal(made[-1][0], made[23][0])
        with pytest.raises(IndexError):
            made[24]

    def test_missing_or_damaged_tracks(self, data: TrackDataset, network: GenreNetwork, tmp_path: Path):
        songs = shutil.copytree(data[0].path.parents[1], tmp_path / "songs")
        windows = RandomWindows(AudioFolder(songs), audio=SPEC)
        broken = windows.dataset[3]
        intact = broken.path.read_bytes()
        broken.path.write_bytes(b"no song")
        with pytest.raises(AudioFileError, match=broken.path.name):
            embedded(windows, network, directory=tmp_path / "cache")
        broken.path.unlink()
        with pytest.raises(DatasetError, match="does not exist"):
            embedded(windows, network, directory=tmp_path / "cache")
        broken.path.write_bytes(intact)
        assert len(embedded(windows, network, directory=tmp_path / "cache")) == 8
