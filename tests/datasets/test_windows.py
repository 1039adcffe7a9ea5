from __future__ import annotations

import copy
import itertools
import math
import pickle
import threading
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.data import DataLoader

from musgenre.audio import AudioWindows
from musgenre.datasets.base import DatasetWarning, Track, TrackDataset
from musgenre.datasets.windows import CachedFeatures, GridWindows, RandomWindows, _grid
from musgenre.errors import DatasetError, ParameterError
from musgenre.specs import AudioSpec, Component

RATE = 8_000
SPEC = AudioSpec(RATE, window_seconds=0.5, hop_seconds=0.3)


def ramp(path: Path, *, samples: int, rate: int = RATE) -> Track:
    """A file whose every sample tells its place, so that a window tells where it was cut."""
    soundfile.write(path, np.arange(samples, dtype=np.int16), rate, subtype="PCM_16")
    return Track(path.stem, path, "rock", group=None, duration_seconds=samples / rate)


@pytest.fixture
def tracks(tmp_path: Path) -> TrackDataset:
    songs = [ramp(tmp_path / f"{samples}.wav", samples=samples) for samples in (20_000, 4_000, 1_500, 9_999)]
    return TrackDataset(songs, labels=["jazz", "rock"], name="ramps")


def places(waveform: torch.Tensor) -> np.ndarray:
    return np.round(waveform.numpy() * 32_768).astype(int)


class TestRandomWindows:
    def test_an_item_is_a_stretch_of_its_track(self, tracks: TrackDataset):
        windows = RandomWindows(tracks, audio=SPEC, windows_per_track=3)
        assert len(windows) == 12
        for index in range(12):
            waveform, label = windows[index]
            assert (waveform.shape, waveform.dtype, label) == ((4_000,), torch.float32, 1)
            heard, samples = places(waveform), int(tracks[index % 4].id)
            np.testing.assert_array_equal(heard, (heard[0] + np.arange(4_000)) % samples if samples >= 4_000 else
                                          np.arange(4_000) % samples)  # fmt: skip

    def test_every_epoch_hears_other_places_and_the_same_again(self, tracks: TrackDataset):
        windows, again, other = (RandomWindows(tracks, audio=SPEC, seed=seed) for seed in (7, 7, 8))
        first = windows[0][0]
        assert torch.equal(first, windows[0][0])
        assert not torch.equal(first, other[0][0])
        windows.set_epoch(1)
        assert not torch.equal(first, windows[0][0])
        again.set_epoch(1)
        assert torch.equal(again[0][0], windows[0][0])

    def test_the_number_of_workers_changes_nothing_and_workers_that_stay_hear_of_epochs(self, tracks: TrackDataset):
        heard = {}
        for workers in (0, 2):
            windows = RandomWindows(tracks, audio=SPEC, windows_per_track=2)
            loader = DataLoader(windows, batch_size=2, num_workers=workers, persistent_workers=workers > 0)
            epochs = []
            for epoch in (0, 1):
                windows.set_epoch(epoch)
                epochs.append(torch.cat([batch for batch, _ in loader]))
            heard[workers] = epochs
        assert torch.equal(heard[0][0], heard[2][0])
        assert torch.equal(heard[0][1], heard[2][1])
        assert not torch.equal(heard[0][0], heard[0][1])

    def test_places_are_spread_over_the_track(self, tracks: TrackDataset):
        windows = RandomWindows(tracks.select(["20000"]), audio=SPEC, windows_per_track=200)
        starts = [places(windows[index][0])[0] for index in range(200)]
        assert min(starts) < 1_000
        assert max(starts) > 15_000
        assert np.mean(starts) == pytest.approx(8_000, abs=1_200)

    def test_copies_and_pickles(self, tracks: TrackDataset):
        windows = RandomWindows(tracks, audio=SPEC)
        windows.set_epoch(3)
        for twin in (copy.deepcopy(windows), pickle.loads(pickle.dumps(windows))):
            assert torch.equal(twin[0][0], windows[0][0])

    def test_indices_out_of_range(self, tracks: TrackDataset):
        windows = RandomWindows(tracks, audio=SPEC)
        assert torch.equal(windows[-1][0], windows[3][0])
        with pytest.raises(IndexError):
            windows[4]

    @pytest.mark.parametrize("options", [{"windows_per_track": 0}, {"seed": -1}])
    def test_parameters_out_of_range(self, tracks: TrackDataset, options: dict[str, int]):
        with pytest.raises(ParameterError, match="at least"):
            RandomWindows(tracks, audio=SPEC, **options)


class TestGridWindows:
    @pytest.mark.parametrize("rate", [RATE, 11_025])
    def test_the_windows_are_those_of_prediction(self, tracks: TrackDataset, rate: int):
        spec = AudioSpec(rate, window_seconds=0.5, hop_seconds=0.3)
        windows = GridWindows(tracks, audio=spec)
        expected = [(n, start, w) for n, t in enumerate(tracks) for start, w in AudioWindows(t.path, spec)]
        assert len(windows) == len(expected)
        for index, (number, start, window) in enumerate(expected):
            waveform, label, track = windows[index]
            assert (track, label, waveform.shape) == (number, 1, (spec.window_samples,))
            assert windows.place(index) == (number, round(start * rate))
            # Resampling a stretch has other neighbours at its borders than resampling the whole.
            inner = slice(200, -200) if rate != RATE else slice(None)
            np.testing.assert_allclose(waveform.numpy()[inner], np.asarray(window)[inner], atol=1e-3)

    def test_in_a_loader(self, tracks: TrackDataset):
        batches = list(DataLoader(GridWindows(tracks, audio=SPEC), batch_size=64))
        waveforms, labels, numbers = batches[0]
        assert waveforms.shape == (len(GridWindows(tracks, audio=SPEC)), 4_000)
        assert labels.unique().tolist() == [1]
        assert numbers.unique().tolist() == [0, 1, 2, 3]

    @given(
        seconds=st.floats(0.01, 60),
        rate=st.integers(1_000, 48_000),
        window=st.floats(0.05, 10),
        share=st.floats(0.05, 1),
    )
    @settings(max_examples=200, deadline=None)
    def test_every_sample_is_covered(self, seconds: float, rate: int, window: float, share: float):
        spec = AudioSpec(rate, window_seconds=window, hop_seconds=window * share)
        samples, length = math.floor(seconds * rate + 0.5), spec.window_samples
        starts = _grid(seconds, spec)
        assert starts[0] == 0
        assert all(0 < after - before <= length for before, after in itertools.pairwise(starts))
        if samples > length:
            assert starts[-1] + length == samples
        else:
            assert starts == [0]


class Energies(nn.Module):
    """A feature whose value tells the waveform, and which counts how often it is called."""

    calls = 0

    def __init__(self, *, bins: int = 4) -> None:
        super().__init__()
        self.register_buffer("weights", torch.linspace(1, 2, bins), persistent=False)

    def out_shape(self, samples: int) -> tuple[int, int, int]:
        return 1, self.weights.numel(), samples // 1_000

    def forward(self, waveform: torch.Tensor) -> torch.Tensor:
        type(self).calls += 1
        frames = waveform.unflatten(-1, (-1, 1_000)).square().sum(-1).sqrt()
        return (self.weights[:, None] * frames[..., None, :]).unsqueeze(1)


@pytest.fixture
def cached(tracks: TrackDataset, tmp_path: Path) -> Callable[..., CachedFeatures]:
    def make(
        *,
        spec: AudioSpec = SPEC,
        bins: int = 4,
        name: str = "energies",
        folder: str = "cache",
        data: TrackDataset = tracks,
    ) -> CachedFeatures:
        grid, component = GridWindows(data, audio=spec), Component(name, {"bins": bins})
        return CachedFeatures(grid, Energies(bins=bins), directory=tmp_path / folder, component=component)

    Energies.calls = 0
    return make


def files(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.npy"))


class TestCachedFeatures:
    def test_the_second_pass_computes_nothing_and_is_the_same_to_the_bit(
        self, cached: Callable[..., CachedFeatures], tmp_path: Path
    ):
        data = cached()
        first = [data[index] for index in range(len(data))]
        assert Energies.calls == len(data) == len(files(tmp_path / "cache"))
        for again in (data, cached()):  # a later epoch, and a later run
            for index, (features, label, number) in enumerate(first):
                kept = again[index]
                assert torch.equal(kept[0], features)
                assert kept[1:] == (label, number)
        assert Energies.calls == len(data)
        assert first[0][0].shape == (1, 4, 4)
        assert not list((tmp_path / "cache").rglob("*.tmp"))

    def test_what_is_kept_is_the_feature_of_the_window(self, cached: Callable[..., CachedFeatures]):
        data, feature = cached(), Energies()
        for _ in range(2):
            for index in range(len(data)):
                waveform, label, number = data.windows[index]
                assert torch.equal(data[index][0], feature(waveform[None])[0])
                assert data[index][1:] == (label, number)

    @pytest.mark.parametrize(
        "change", [{"bins": 3}, {"name": "other"}, {"spec": AudioSpec(RATE, window_seconds=0.5, hop_seconds=0.5)}]
    )
    def test_another_feature_or_rate_is_computed_anew(
        self, cached: Callable[..., CachedFeatures], change: dict[str, object]
    ):
        cached()[0]
        other = cached(**change)
        assert other[0][0].shape == other._shape
        assert Energies.calls == 2

    def test_another_constant_is_computed_anew(self, cached: Callable[..., CachedFeatures], tmp_path: Path):
        data = cached()
        feature = Energies()
        feature.weights += 1
        other = CachedFeatures(
            data.windows, feature, directory=data.directory, component=Component("energies", {"bins": 4})
        )
        assert not torch.equal(data[0][0], other[0][0])

    def test_a_file_that_changed_is_read_anew(self, cached: Callable[..., CachedFeatures], tracks: TrackDataset):
        data = cached()
        before = data[0][0]
        samples, rate = soundfile.read(tracks[0].path, dtype="int16")
        soundfile.write(tracks[0].path, samples // 2, rate, subtype="PCM_16")
        assert not torch.equal(data[0][0], before)

    def test_a_moved_file_is_not_taken_for_the_one_that_stood_there(
        self, cached: Callable[..., CachedFeatures], tmp_path: Path
    ):
        songs = [ramp(tmp_path / f"{name}.wav", samples=4_000) for name in "ab"]
        soundfile.write(songs[1].path, np.zeros(4_000, np.int16), RATE, subtype="PCM_16")
        data = cached(data=TrackDataset(songs, labels=["rock", "jazz"], name="two"))
        assert data[0][0].abs().max() > 0
        songs[1].path.replace(songs[0].path)
        assert data[0][0].abs().max() == 0

    @pytest.mark.parametrize("damage", ["empty", "cut", "text", "shape", "dtype"])
    def test_a_damaged_file_is_computed_again_with_a_warning(
        self, cached: Callable[..., CachedFeatures], tmp_path: Path, damage: str
    ):
        data = cached()
        good = data[0][0]
        (path,) = files(tmp_path / "cache")
        content = path.read_bytes()
        if damage in {"shape", "dtype"}:
            np.save(path, good.numpy()[..., 1:] if damage == "shape" else good.numpy().astype(np.float64))
        else:
            path.write_bytes({"empty": b"", "cut": content[:-7], "text": b"not a feature"}[damage])
        with pytest.warns(DatasetWarning, match="damaged"):
            assert torch.equal(data[0][0], good)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert torch.equal(data[0][0], good)

    def test_many_writers_at_once(self, cached: Callable[..., CachedFeatures], tmp_path: Path):
        expected = [cached(folder="elsewhere")[index][0] for index in range(8)]
        wrong: list[int] = []

        def write() -> None:
            data = cached()
            wrong.extend(index for index in range(8) if not torch.equal(data[index][0], expected[index]))

        writers = [threading.Thread(target=write) for _ in range(6)]
        for writer in writers:
            writer.start()
        for writer in writers:
            writer.join()
        assert wrong == []
        assert len(files(tmp_path / "cache")) == 8
        assert not list((tmp_path / "cache").rglob("*.tmp"))

    def test_in_worker_processes(self, cached: Callable[..., CachedFeatures]):
        data = cached()
        heard = torch.cat([batch for batch, *_ in DataLoader(data, batch_size=4, num_workers=2)])
        assert Energies.calls == 0  # they were called in the workers
        assert torch.equal(heard, torch.stack([data[index][0] for index in range(len(data))]))
        assert Energies.calls == 0

    def test_a_directory_that_cannot_be_written(self, cached: Callable[..., CachedFeatures], tmp_path: Path):
        (tmp_path / "cache").write_text("a file stands here")
        with pytest.raises(DatasetError, match=r"Cannot keep features in .*cache"):
            cached()[0]

    def test_a_full_disk_leaves_nothing_behind(
        self, cached: Callable[..., CachedFeatures], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        def full(file: object, array: np.ndarray, **_: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(np, "save", full)
        with pytest.raises(DatasetError, match="No space left"):
            cached()[0]
        assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]

    def test_a_feature_that_learns_is_refused(self, tracks: TrackDataset, tmp_path: Path):
        with pytest.raises(ParameterError, match="weights that learn"):
            CachedFeatures(
                GridWindows(tracks, audio=SPEC), nn.Linear(1, 1), directory=tmp_path, component=Component("linear")
            )
