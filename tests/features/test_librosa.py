"""Every feature that librosa has equals librosa's, on tones, knocks, noise, music and silence.

The tolerance is absolute, in the unit of the feature, for a signal in float64. Where librosa's default is to estimate
something from the whole signal (the tuning), it is told what is fixed here.
"""

from __future__ import annotations

import librosa
import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from musgenre import functional
from musgenre.features import FEATURES

RATE = 22_050
PITCHES = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")


def feature_of(name: str, signal: np.ndarray, **options: object) -> np.ndarray:
    feature = FEATURES.build(name, {"sample_rate": RATE, **options}).double()
    return feature(torch.from_numpy(signal)[None])[0].numpy()


def close(found: torch.Tensor | np.ndarray, expected: np.ndarray, *, atol: float) -> None:
    np.testing.assert_allclose(np.asarray(found), expected, rtol=0, atol=atol)


def nearly(found: torch.Tensor, expected: np.ndarray) -> None:
    """Within 3 % of the largest, and 6 % where filters reach beyond the ends of the signal."""
    largest = expected.max(initial=1e-12)
    close(found, expected, atol=0.06 * largest)
    close(found[..., 20:-20], expected[..., 20:-20], atol=0.03 * largest)


class TestFeatures:
    def test_chroma(self, signal):
        expected = librosa.feature.chroma_stft(y=signal, sr=RATE, tuning=0.0)
        close(feature_of("chroma", signal)[0], expected, atol=1e-9)

    def test_chroma_of_another_tuning_and_size(self, signal):
        expected = librosa.feature.chroma_stft(y=signal, sr=RATE, tuning=0.3, n_chroma=24, n_fft=4096, hop_length=700)
        found = feature_of("chroma", signal, tuning=0.3, n_chroma=24, n_fft=4096, hop_length=700)
        close(found[0], expected, atol=1e-9)

    def test_tonnetz(self, signal):
        chroma = librosa.feature.chroma_stft(y=signal, sr=RATE, tuning=0.0)
        close(feature_of("tonnetz", signal)[0], librosa.feature.tonnetz(chroma=chroma), atol=1e-9)

    def test_contrast(self, signal):
        close(
            feature_of("spectral-contrast", signal)[0], librosa.feature.spectral_contrast(y=signal, sr=RATE), atol=1e-5
        )

    def test_contrast_of_other_bands(self, signal):
        options = {"n_fft": 1024, "n_bands": 4, "quantile": 0.1}
        expected = librosa.feature.spectral_contrast(y=signal, sr=RATE, fmin=150.0, **options)
        close(feature_of("spectral-contrast", signal, f_min_hz=150.0, **options)[0], expected, atol=1e-5)

    @pytest.mark.parametrize("win_length", [384, 101])
    def test_tempogram(self, signal, win_length):
        expected = librosa.feature.tempogram(y=signal, sr=RATE, win_length=win_length)
        close(feature_of("tempogram", signal, win_length=win_length)[0], expected, atol=1e-9)

    def test_hpss(self, signal):
        parts = librosa.decompose.hpss(np.abs(librosa.stft(signal)))
        bands = np.concatenate([librosa.feature.melspectrogram(S=part**2, sr=RATE) for part in parts])
        expected = librosa.power_to_db(bands, ref=np.max) / 40 + 1
        close(feature_of("hpss", signal).reshape(bands.shape), expected, atol=1e-6)

    def test_cqt(self, signal):
        expected = np.abs(librosa.cqt(signal, sr=RATE))
        kernels = functional.constant_q_kernels(sample_rate=RATE)
        power = functional.constant_q_power(torch.from_numpy(signal), kernels=kernels)
        nearly(power.sqrt(), expected)
        # The highest octave, for which librosa does not change the rate, has nothing to differ in.
        exact = np.abs(librosa.cqt(signal, sr=RATE, sparsity=0.0))[-12:]
        close(power[-12:].sqrt(), exact, atol=max(1e-5 * expected.max(), 1e-12))
        decibel = librosa.power_to_db(power.numpy(), ref=np.max)
        close(feature_of("cqt", signal)[0], decibel / 40 + 1, atol=1e-9)

    def test_cqt_of_other_bins(self, signal):
        options = {"n_bins": 40, "bins_per_octave": 18}
        expected = np.abs(librosa.cqt(signal, sr=RATE, fmin=100.0, **options))
        kernels = functional.constant_q_kernels(sample_rate=RATE, f_min_hz=100.0, **options)
        power = functional.constant_q_power(torch.from_numpy(signal), kernels=kernels)
        nearly(power.sqrt(), expected)

    def test_stats(self, signal):
        names = FEATURES.build("stats", {"sample_rate": RATE}).names
        vector = dict(zip(names, feature_of("stats", signal)[0, :, 0], strict=True))
        chroma = librosa.feature.chroma_stft(y=signal, sr=RATE, tuning=0.0)
        rows = {
            **{f"mfcc_{i}": row for i, row in enumerate(librosa.feature.mfcc(y=signal, sr=RATE))},
            **{f"chroma_{pitch}": row for pitch, row in zip(PITCHES, chroma, strict=True)},
            **{
                f"spectral_contrast_{i}": row
                for i, row in enumerate(librosa.feature.spectral_contrast(y=signal, sr=RATE))
            },
            **{f"tonnetz_{i}": row for i, row in enumerate(librosa.feature.tonnetz(chroma=chroma))},
            "spectral_centroid": librosa.feature.spectral_centroid(y=signal, sr=RATE)[0],
            "spectral_bandwidth": librosa.feature.spectral_bandwidth(y=signal, sr=RATE)[0],
            "spectral_rolloff": librosa.feature.spectral_rolloff(y=signal, sr=RATE)[0],
            "spectral_flatness": librosa.feature.spectral_flatness(y=signal)[0],
            "zero_crossing_rate": librosa.feature.zero_crossing_rate(signal)[0],
            "rms": librosa.feature.rms(y=signal, dtype=np.float64)[0],
        }
        assert set(vector) == {f"{name}_{what}" for name in rows for what in ("mean", "std", "skew")} | {"tempo"}
        # A tempogram that is even throughout leaves the tempo open.
        if signal.any() and signal.size > 500:
            assert vector["tempo"] == pytest.approx(librosa.feature.tempo(y=signal, sr=RATE)[0])
        for name, row in rows.items():
            scale = max(1.0, np.abs(row).max())
            assert vector[f"{name}_mean"] == pytest.approx(row.mean(), abs=1e-6 * scale), name
            assert vector[f"{name}_std"] == pytest.approx(row.std(), abs=1e-5 * scale), name
            if row.std() > 1e-6 * scale:  # else the skewness is that of rounding
                assert vector[f"{name}_skew"] == pytest.approx(scipy.stats.skew(row), abs=1e-3), name


class TestFunctions:
    def test_onset_strength(self, signal):
        decibel = librosa.power_to_db(librosa.feature.melspectrogram(y=signal, sr=RATE))
        close(
            functional.onset_strength(torch.from_numpy(decibel)),
            librosa.onset.onset_strength(y=signal, sr=RATE),
            atol=1e-9,
        )

    def test_shapes_of_the_spectrum(self, signal):
        power = functional.power_spectrogram(torch.from_numpy(signal))
        size = functional.to_magnitude(power)
        of, rate = librosa.feature, {"sample_rate": RATE}
        close(functional.spectral_centroid(size, **rate), of.spectral_centroid(y=signal, sr=RATE), atol=1e-5)
        close(functional.spectral_bandwidth(size, **rate), of.spectral_bandwidth(y=signal, sr=RATE), atol=1e-4)
        close(functional.spectral_rolloff(size, **rate), of.spectral_rolloff(y=signal, sr=RATE), atol=1e-6)
        close(functional.spectral_flatness(power), of.spectral_flatness(y=signal), atol=1e-9)

    def test_rms_and_zero_crossings(self, signal):
        waveform = torch.from_numpy(signal)
        close(functional.rms(waveform), librosa.feature.rms(y=signal, dtype=np.float64), atol=1e-9)
        close(functional.zero_crossing_rate(waveform), librosa.feature.zero_crossing_rate(signal), atol=0)
        sizes = {"frame_length": 1000, "hop_length": 333}
        close(functional.rms(waveform, **sizes), librosa.feature.rms(y=signal, dtype=np.float64, **sizes), atol=1e-9)
        expected = librosa.feature.zero_crossing_rate(signal, **sizes)
        close(functional.zero_crossing_rate(waveform, **sizes), expected, atol=0)

    @settings(max_examples=60, deadline=None)
    @given(st.integers(0, 16).map(lambda half: 2 * half + 1), st.integers(1, 40), st.integers(0, 2**31))
    def test_median_filter(self, size, length, seed):
        values = np.random.default_rng(seed).integers(0, 9, size=(3, length)).astype(np.float64)
        mirrored = np.pad(values, ((0, 0), (size // 2, size // 2)), mode="symmetric")
        expected = np.median(np.lib.stride_tricks.sliding_window_view(mirrored, size, axis=1), axis=-1)
        found = functional.median_filter(torch.from_numpy(values), size=size, dim=1)
        np.testing.assert_array_equal(found.numpy(), expected)
        flipped = functional.median_filter(torch.from_numpy(values.T.copy()), size=size, dim=0)
        np.testing.assert_array_equal(flipped.numpy(), expected.T)

    @settings(max_examples=40, deadline=None)
    @given(st.integers(2, 50), st.integers(0, 2**31), st.floats(-1e3, 1e3))
    def test_moments(self, frames, seed, offset):
        rows = offset + np.random.default_rng(seed).gamma(1.0, size=(2, frames))
        mean, deviation, skewness = functional.moments(torch.from_numpy(rows)).numpy().T
        np.testing.assert_allclose(mean, rows.mean(1))
        np.testing.assert_allclose(deviation, rows.std(1), rtol=1e-6)
        np.testing.assert_allclose(skewness, scipy.stats.skew(rows, axis=1), rtol=1e-4, atol=1e-4)
