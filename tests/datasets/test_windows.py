from __future__ import annotations

import copy
import itertools
import math
import pickle
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from musgenre.audio import AudioWindows
from musgenre.core.config import AudioSpec
from musgenre.core.errors import ParameterError
from musgenre.datasets.base import Track, TrackDataset
from musgenre.datasets.windows import GridWindows, RandomWindows

RATE = 8_000
SPEC = AudioSpec(RATE, window_seconds=0.5, hop_seconds=0.3)


def ramp(path: Path, *, samples: int, rate: int = RATE) -> Track:
    """Writes a file in which the value of each sample is its index."""
    soundfile.write(path, np.arange(samples, dtype=np.int16), rate, subtype="PCM_16")
    return Track(path.stem, path, "rock", group=None, duration_seconds=samples / rate)


@pytest.fixture
def tracks(tmp_path: Path) -> TrackDataset:
    ramps = [ramp(tmp_path / f"{samples}.wav", samples=samples) for samples in (20_000, 4_000, 1_500, 9_999)]
    return TrackDataset(ramps, labels=["jazz", "rock"], name="ramps")


def sample_indices(waveform: torch.Tensor) -> np.ndarray:
    return np.round(waveform.numpy() * 32_768).astype(int)


class TestRandomWindows:
    def test_item_is_a_window_of_its_track(self, tracks: TrackDataset):
        windows = RandomWindows(tracks, audio=SPEC, windows_per_track=3)
        assert len(windows) == 12
        for index in range(12):
            waveform, label, number = windows[index]
            assert (waveform.shape, waveform.dtype, label) == ((4_000,), torch.float32, 1)
            assert number == index % 4
            indices, samples = sample_indices(waveform), int(tracks[index % 4].id)
            np.testing.assert_array_equal(indices, (indices[0] + np.arange(4_000)) % samples if samples >= 4_000 else
                                          np.arange(4_000) % samples)  # fmt: skip

    def test_starts_depend_on_epoch_and_seed(self, tracks: TrackDataset):
        windows, again, other = (RandomWindows(tracks, audio=SPEC, seed=seed) for seed in (7, 7, 8))
        first = windows[0][0]
        assert torch.equal(first, windows[0][0])
        assert not torch.equal(first, other[0][0])
        windows.set_epoch(1)
        assert not torch.equal(first, windows[0][0])
        again.set_epoch(1)
        assert torch.equal(again[0][0], windows[0][0])

    def test_workers_give_the_same_windows_and_follow_epochs(self, tracks: TrackDataset):
        waveforms = {}
        for workers in (0, 2):
            windows = RandomWindows(tracks, audio=SPEC, windows_per_track=2)
            loader = DataLoader(windows, batch_size=2, num_workers=workers, persistent_workers=workers > 0)
            epochs = []
            for epoch in (0, 1):
                windows.set_epoch(epoch)
                epochs.append(torch.cat([batch for batch, *_ in loader]))
            waveforms[workers] = epochs
        assert torch.equal(waveforms[0][0], waveforms[2][0])
        assert torch.equal(waveforms[0][1], waveforms[2][1])
        assert not torch.equal(waveforms[0][0], waveforms[0][1])

    def test_starts_are_uniform_over_the_track(self, tracks: TrackDataset):
        windows = RandomWindows(tracks.select(["20000"]), audio=SPEC, windows_per_track=200)
        starts = [sample_indices(windows[index][0])[0] for index in range(200)]
        assert min(starts) < 1_000
        assert max(starts) > 15_000
        assert np.mean(starts) == pytest.approx(8_000, abs=1_200)

    def test_the_located_window_holds_the_samples(self, tracks: TrackDataset):
        windows = RandomWindows(tracks.select(["20000"]), audio=SPEC, windows_per_track=3, seed=2)
        for epoch in (0, 4):
            windows.set_epoch(epoch)
            for index in range(3):
                number, start = windows.locate(index, epoch=epoch)
                assert (number, sample_indices(windows[index][0])[0]) == (0, round(start * RATE))
                assert torch.equal(windows.window(index, epoch=epoch), windows[index][0])

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
    def test_windows_equal_those_of_prediction(self, tracks: TrackDataset, rate: int):
        spec = AudioSpec(rate, window_seconds=0.5, hop_seconds=0.3)
        windows = GridWindows(tracks, audio=spec)
        expected = [(n, start, w) for n, t in enumerate(tracks) for start, w in AudioWindows(t.path, spec)]
        assert len(windows) == len(expected)
        for index, (number, start, window) in enumerate(expected):
            waveform, label, track = windows[index]
            assert (track, label, waveform.shape) == (number, 1, (spec.window_samples,))
            assert windows.locate(index) == (number, pytest.approx(start, abs=0.5 / rate))
            # At its borders, a resampled window lacks the neighbours that it has in the resampled track.
            inner = slice(200, -200) if rate != RATE else slice(None)
            np.testing.assert_allclose(waveform.numpy()[inner], np.asarray(window)[inner], atol=1e-3)

    def test_windows_are_the_same_in_every_epoch(self, tracks: TrackDataset):
        windows = GridWindows(tracks, audio=SPEC)
        before = windows[2][0]
        windows.set_epoch(3)
        assert torch.equal(windows[2][0], before)

    def test_data_loader(self, tracks: TrackDataset):
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
        starts = spec.window_starts(seconds)
        assert starts[0] == 0
        assert all(0 < after - before <= length for before, after in itertools.pairwise(starts))
        if samples > length:
            assert starts[-1] + length == samples
        else:
            assert starts == [0]
