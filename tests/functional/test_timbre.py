from __future__ import annotations

import librosa
import numpy as np
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from musgenre import functional

RATE = 22_050


def assert_close(found: torch.Tensor, expected: np.ndarray, *, atol: float) -> None:
    np.testing.assert_allclose(found, expected, rtol=0, atol=atol)


def test_spectral_shape_equals_librosa(signal):
    power = functional.power_spectrogram(torch.from_numpy(signal))
    magnitude = functional.to_magnitude(power)
    centroid = functional.spectral_centroid(magnitude, sample_rate=RATE)
    assert_close(centroid, librosa.feature.spectral_centroid(y=signal, sr=RATE), atol=1e-5)
    bandwidth = functional.spectral_bandwidth(magnitude, sample_rate=RATE)
    assert_close(bandwidth, librosa.feature.spectral_bandwidth(y=signal, sr=RATE), atol=1e-4)
    rolloff = functional.spectral_rolloff(magnitude, sample_rate=RATE)
    assert_close(rolloff, librosa.feature.spectral_rolloff(y=signal, sr=RATE), atol=1e-6)
    assert_close(functional.spectral_flatness(power), librosa.feature.spectral_flatness(y=signal), atol=1e-9)


def test_rms_and_zero_crossing_rate_equal_librosa(signal):
    waveform = torch.from_numpy(signal)
    for lengths in ({}, {"frame_length": 1000, "hop_length": 333}):
        expected = librosa.feature.rms(y=signal, dtype=np.float64, **lengths)
        assert_close(functional.rms(waveform, **lengths), expected, atol=1e-9)
        expected = librosa.feature.zero_crossing_rate(signal, **lengths)
        assert_close(functional.zero_crossing_rate(waveform, **lengths), expected, atol=0)


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 50), st.integers(0, 2**31), st.floats(-1e3, 1e3))
def test_moments_equal_scipy(frames, seed, offset):
    rows = offset + np.random.default_rng(seed).gamma(1.0, size=(2, frames))
    mean, deviation, skewness = functional.moments(torch.from_numpy(rows)).numpy().T
    np.testing.assert_allclose(mean, rows.mean(1))
    np.testing.assert_allclose(deviation, rows.std(1), rtol=1e-6)
    np.testing.assert_allclose(skewness, scipy.stats.skew(rows, axis=1), rtol=1e-4, atol=1e-4)
