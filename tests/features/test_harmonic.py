"""Features of harmony equal librosa's. Where librosa estimates the tuning by default, it is set to the same value."""

from __future__ import annotations

import librosa
import numpy as np
import torch

from musgenre import functional

RATE = 22_050


def test_chroma(signal, compute):
    expected = librosa.feature.chroma_stft(y=signal, sr=RATE, tuning=0.0)
    np.testing.assert_allclose(compute("chroma", signal)[0], expected, rtol=0, atol=1e-9)


def test_chroma_with_other_options(signal, compute):
    options = {"tuning": 0.3, "n_chroma": 24, "n_fft": 4096, "hop_length": 700}
    expected = librosa.feature.chroma_stft(y=signal, sr=RATE, **options)
    np.testing.assert_allclose(compute("chroma", signal, **options)[0], expected, rtol=0, atol=1e-9)


def test_tonnetz(signal, compute):
    chroma = librosa.feature.chroma_stft(y=signal, sr=RATE, tuning=0.0)
    expected = librosa.feature.tonnetz(chroma=chroma)
    np.testing.assert_allclose(compute("tonnetz", signal)[0], expected, rtol=0, atol=1e-9)


def test_constant_q(signal, compute):
    # tests/functional/test_constantq.py compares the power with librosa's.
    kernels = functional.constant_q_kernels(sample_rate=RATE)
    power = functional.constant_q_power(torch.from_numpy(signal), kernels=kernels)
    decibel = librosa.power_to_db(power.numpy(), ref=np.max)
    np.testing.assert_allclose(compute("cqt", signal)[0], decibel / 40 + 1, rtol=0, atol=1e-9)
