from __future__ import annotations

import io
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import hypothesis
import hypothesis.strategies as st
import librosa
import numpy as np
import psutil
import pytest
import soundfile
import soxr

from musgenre.audio import AudioWindows, blocks, duration_seconds, load, read_window, tile
from musgenre.core.config import AudioSpec
from musgenre.core.errors import AudioError, ParameterError

Song = Callable[..., Path]

FORMATS = [
    ("WAV", {}),
    ("WAV", {"subtype": "PCM_U8"}),
    ("WAV", {"subtype": "PCM_24"}),
    ("WAV", {"subtype": "FLOAT"}),
    ("WAV", {"subtype": "ALAW"}),
    ("W64", {}),
    ("RF64", {}),
    ("AU", {}),
    ("FLAC", {}),
    ("OGG", {}),
    ("MP3", {}),
    ("MP3", {"bitrate_mode": "CONSTANT"}),
    ("MP3", {"bitrate_mode": "VARIABLE"}),
]


@pytest.mark.parametrize(("kind", "options"), FORMATS)
@pytest.mark.parametrize("rate", [44_100, 22_050])
def test_load_is_the_mean_over_channels_resampled_by_soxr(song: Song, kind: str, options: dict, rate: int) -> None:
    path = song(kind, **options)
    samples, file_rate = soundfile.read(path, dtype="float32")
    expected = soxr.resample(samples.mean(axis=1), file_rate, rate)
    loaded = load(path, sample_rate=rate)
    assert loaded.dtype == np.float32
    np.testing.assert_allclose(loaded, expected, atol=1e-6)


@pytest.mark.parametrize("kind", ["WAV", "FLAC"])
@pytest.mark.parametrize("rate", [22_050, 16_000, 48_000])
def test_load_equals_librosa(song: Song, kind: str, rate: int) -> None:
    path = song(kind)
    expected, _ = librosa.load(path, sr=rate, mono=True)
    np.testing.assert_allclose(load(str(path), sample_rate=rate), expected, atol=1e-4)


def test_load_equals_librosa_on_real_music(gtzan_folder: Path) -> None:
    paths = sorted(gtzan_folder.rglob("[!.]*.flac"))[::40] or sorted(gtzan_folder.rglob("[!.]*.wav"))[::100]
    assert paths, f"no .flac or .wav under {gtzan_folder}"
    for path in paths:
        loaded = load(path, sample_rate=16_000)
        expected, _ = librosa.load(path, sr=16_000, mono=True)
        assert 0 <= expected.size - loaded.size <= 1  # librosa rounds the length up, with a zero
        np.testing.assert_allclose(loaded, expected[: loaded.size], atol=1e-4)


@pytest.mark.parametrize(
    ("rate", "target_rate"), [(44_100, 22_050), (48_000, 22_050), (8_000, 22_050), (22_051, 16_000)]
)
def test_blockwise_resampling_equals_resampling_at_once(rate: int, target_rate: int) -> None:
    waveform = np.random.default_rng(0).standard_normal(25 * rate).astype(np.float32)
    parts = list(blocks((waveform, rate), sample_rate=target_rate))
    assert len(parts) > 2
    np.testing.assert_allclose(np.concatenate(parts), soxr.resample(waveform, rate, target_rate), atol=1e-6)


@pytest.mark.parametrize("channels", [1, 2, 700])
def test_block_size_is_bounded(channels: int) -> None:
    samples = 40 * 44_100 if channels < 3 else 4 * 44_100
    source = np.broadcast_to(np.int16(100), (channels, samples))
    sizes = [block.size for block in blocks((source, 44_100), sample_rate=44_100)]
    assert sum(sizes) == samples
    assert max(sizes) <= 10 * 44_100
    assert max(sizes) * channels <= 2**20


@pytest.mark.parametrize("minutes", [1, 20])
def test_memory_does_not_depend_on_the_duration(minutes: int) -> None:
    source = np.broadcast_to(np.int16(100), (2, minutes * 60 * 44_100))
    tracemalloc.start()
    count = sum(1 for _ in AudioWindows((source, 44_100), AudioSpec()))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == minutes * 20
    assert peak < 16 * 2**20  # 20 minutes as float32 are 100 MiB


def test_first_window_needs_only_one_block(song: Song) -> None:
    file = io.BytesIO()
    soundfile.write(file, np.zeros(60 * 8_000, np.int16), 8_000, format="WAV")
    file.seek(0)
    windows = iter(AudioWindows(file, AudioSpec(8_000)))
    next(windows)
    assert file.tell() < 11 * 8_000 * 2


@hypothesis.given(
    samples=st.integers(10, 400), window=st.integers(1, 120), hop_share=st.floats(0.01, 1), seed=st.integers(0, 99)
)
def test_windows_cover_every_sample(samples: int, window: int, hop_share: float, seed: int) -> None:
    hop = max(1, int(window * hop_share))
    waveform = np.random.default_rng(seed).standard_normal(samples).astype(np.float32)
    windows = AudioWindows((waveform, 100), AudioSpec(100, window_seconds=window / 100, hop_seconds=hop / 100))
    restored = np.full(max(samples, window), np.nan, np.float32)
    starts = []
    for start_seconds, part in windows:
        assert part.shape == (window,)
        start = round(start_seconds * 100)
        restored[start : start + window] = part
        starts.append(start)
    np.testing.assert_array_equal(restored[:samples], waveform)
    np.testing.assert_array_equal(restored, np.resize(waveform, restored.size))
    assert len(starts) == 1 + max(0, -(-(samples - window) // hop))
    assert starts == sorted(set(starts))
    assert starts[:-1] == [index * hop for index in range(len(starts) - 1)]
    assert windows.duration_seconds == samples / 100


def test_windows_across_blocks_equal_slices_of_the_waveform(song: Song) -> None:
    waveform = np.random.default_rng(0).standard_normal(35 * 1_000).astype(np.float32)
    spec = AudioSpec(1_000, window_seconds=3.0, hop_seconds=1.7)
    for start, window in AudioWindows((waveform, 1_000), spec):
        np.testing.assert_array_equal(window, waveform[round(start * 1_000) :][:3_000])


def test_windows_can_be_iterated_again_and_are_copies(song: Song) -> None:
    with song("FLAC").open("rb") as file:
        windows = AudioWindows(file, AudioSpec(22_050, window_seconds=2.0, hop_seconds=1.0))
        first = list(windows)
        for _, window in first[1:]:
            window[:] = 0
        second = list(windows)
    assert [start for start, _ in first] == [start for start, _ in second] == [0.0, 1.0, 2.0, 3.0, 4.0]
    np.testing.assert_array_equal(first[0][1], second[0][1])
    assert second[1][1].any()
    assert windows.duration_seconds == pytest.approx(6.0)


def test_closing_an_iterator_closes_its_file(song: Song) -> None:
    path = song("WAV")
    for start in (lambda: iter(AudioWindows(path, AudioSpec())), lambda: blocks(path, sample_rate=22_050)):
        iterator = start()
        next(iterator)
        assert str(path) in [file.path for file in psutil.Process().open_files()]
        iterator.close()
        assert str(path) not in [file.path for file in psutil.Process().open_files()]


@hypothesis.given(st.lists(st.floats(-1, 1, width=32), min_size=1, max_size=40), st.integers(1, 200))
def test_tile_repeats(values: list[float], samples: int) -> None:
    tiled = tile(np.float32(values), samples)
    assert tiled.tolist() == [values[index % len(values)] for index in range(samples)]


@pytest.mark.parametrize(
    ("waveform", "samples", "error"),
    [(np.zeros(0), 5, AudioError), (np.zeros((2, 3)), 5, AudioError), (np.zeros(3), 0, ParameterError)],
)
def test_invalid_arguments_of_tile(waveform: np.ndarray, samples: int, error: type[Exception]) -> None:
    with pytest.raises(error, match=r"give|at least"):
        tile(waveform, samples)


@pytest.mark.parametrize(("kind", "options"), FORMATS)
@pytest.mark.parametrize("rate", [44_100, 22_050, 16_000])
def test_read_window_equals_a_slice_of_load(song: Song, kind: str, options: dict, rate: int) -> None:
    path = song(kind, **options)
    waveform = load(path, sample_rate=rate)
    for start, seconds in ((0.0, 1.0), (0.01, 0.5), (2.34567, 1.5), (5.5, 3.0)):
        window = read_window(path, start_seconds=start, seconds=seconds, sample_rate=rate)
        expected = waveform[round(start * rate) :][: round(seconds * rate)]
        assert window.shape == expected.shape
        np.testing.assert_allclose(window, expected, atol=1e-5)


def test_read_window_reads_only_the_required_bytes() -> None:
    file = io.BytesIO()
    soundfile.write(file, np.zeros(60 * 8_000, np.int16), 8_000, format="WAV")

    class Counting(io.BytesIO):
        count = 0

        def read(self, size: int | None = -1) -> bytes:
            data = super().read(size)
            self.count += len(data)
            return data

    counting = Counting(file.getvalue())
    read_window(counting, start_seconds=30, seconds=3, sample_rate=22_050)
    assert counting.count < 8 * 8_000 * 2


@pytest.mark.parametrize("start", [6.0, 7.0, 1e9])
def test_read_window_beyond_the_end(song: Song, start: float) -> None:
    with pytest.raises(AudioError, match="ends before"):
        read_window(song("WAV"), start_seconds=start, seconds=1.0, sample_rate=22_050)


@pytest.mark.parametrize(
    ("start", "seconds"), [(-1.0, 1.0), (0.0, 0.0), (0.0, -1.0), (float("nan"), 1.0), (0.0, float("inf"))]
)
def test_invalid_times_of_read_window(song: Song, start: float, seconds: float) -> None:
    with pytest.raises(ParameterError, match="start_seconds must be 0 or more"):
        read_window(song("WAV"), start_seconds=start, seconds=seconds, sample_rate=22_050)


@pytest.mark.parametrize("rate", [0, -22_050, 50, 2_000_000, float("nan"), 22_050.5, True, "22050", None])
def test_invalid_target_sample_rate(song: Song, rate: object) -> None:
    with pytest.raises(ParameterError, match="sample_rate: a sample rate of"):
        load(song("WAV"), sample_rate=rate)  # type: ignore[arg-type]


@pytest.mark.parametrize(("kind", "options"), FORMATS)
def test_duration(song: Song, kind: str, options: dict) -> None:
    assert duration_seconds(song(kind, **options)) == pytest.approx(6.0, abs=1e-4)
