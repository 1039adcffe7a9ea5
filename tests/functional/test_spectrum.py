from __future__ import annotations

import librosa
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from musgenre import functional
from musgenre.core.errors import ParameterError

SETTINGS = settings(max_examples=40, deadline=None)


class TestFrame:
    @SETTINGS
    @given(samples=st.integers(1, 300), frame_length=st.integers(1, 60), hop_length=st.integers(1, 70))
    def test_equals_librosa(self, samples, frame_length, hop_length):
        signal = torch.arange(samples)
        if samples < frame_length:
            with pytest.raises(ParameterError, match="shorter than a frame"):
                functional.frame(signal, frame_length=frame_length, hop_length=hop_length)
            return
        frames = functional.frame(signal, frame_length=frame_length, hop_length=hop_length)
        expected = librosa.util.frame(signal.numpy(), frame_length=frame_length, hop_length=hop_length)
        np.testing.assert_array_equal(frames.numpy(), expected.T)

    def test_leading_dimensions(self):
        assert functional.frame(torch.zeros(2, 3, 10), frame_length=4, hop_length=3).shape == (2, 3, 3, 4)

    @pytest.mark.parametrize("wrong", [0, -1, 2.0, True, None])
    def test_wrong_length(self, wrong):
        with pytest.raises(ParameterError, match=f"hop_length must be a positive integer, not {wrong}"):
            functional.frame(torch.zeros(10), frame_length=4, hop_length=wrong)


class TestPowerSpectrogram:
    def test_parseval(self):
        # The energy of the windowed frame is the mean of its power over all frequencies, positive and negative.
        signal = torch.randn(64, dtype=torch.float64)
        power = functional.power_spectrogram(signal, n_fft=64, hop_length=32)[:, 1]
        energy = (signal * torch.hann_window(64, dtype=torch.float64)).square().sum()
        two_sided = 2 * power.sum() - power[0] - power[-1]
        assert two_sided / 64 == pytest.approx(energy.item())

    def test_custom_window(self):
        signal = torch.randn(256, dtype=torch.float64)
        rectangular = functional.power_spectrogram(signal, n_fft=64, hop_length=16, window=torch.ones(64))
        expected = np.abs(librosa.stft(signal.numpy(), n_fft=64, hop_length=16, window="boxcar")) ** 2
        np.testing.assert_allclose(rectangular.numpy(), expected, rtol=1e-9, atol=1e-9)

    def test_window_of_wrong_length(self):
        with pytest.raises(ParameterError, match=r"window must have the shape \(64,\), not \(32,\)"):
            functional.power_spectrogram(torch.zeros(100), n_fft=64, window=torch.ones(32))

    @pytest.mark.parametrize("wrong", [torch.zeros(0), torch.zeros(2, 0), torch.tensor(1.0), torch.zeros(9).int()])
    def test_invalid_waveform(self, wrong):
        with pytest.raises(ParameterError, match="A waveform needs floating-point samples"):
            functional.power_spectrogram(wrong)

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_dtype_is_preserved(self, dtype):
        assert functional.power_spectrogram(torch.zeros(100, dtype=dtype), n_fft=64).dtype == dtype
