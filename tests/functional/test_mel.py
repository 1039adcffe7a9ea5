from __future__ import annotations

import math

import librosa
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from musgenre import functional
from musgenre.core.errors import MusgenreError, ParameterError

SETTINGS = settings(max_examples=40, deadline=None)


class TestMelFilterbank:
    @pytest.mark.parametrize(
        "invalid",
        [
            {"sample_rate": 0},
            {"n_mels": 0},
            {"n_fft": -2048},
            {"f_min_hz": -1.0},
            {"f_min_hz": 4000.0, "f_max_hz": 4000.0},
            {"f_max_hz": 11_026.0},
            {"f_max_hz": math.nan},
        ],
    )
    def test_invalid_parameters(self, invalid):
        with pytest.raises(ParameterError, match=next(iter(invalid))):
            functional.mel_filterbank(**{"sample_rate": 22_050} | invalid)

    @SETTINGS
    @given(
        sample_rate=st.sampled_from([8000, 16_000, 22_050, 44_100]),
        n_fft=st.sampled_from([63, 256, 512, 1024, 2048]),
        n_mels=st.integers(1, 140),
        f_min_hz=st.floats(0, 1500),
        f_max_hz=st.none() | st.floats(1600, 4000),
    )
    @pytest.mark.filterwarnings("ignore:Empty filters", "ignore:Some of")
    def test_equals_librosa_bit_for_bit(self, sample_rate, n_fft, n_mels, f_min_hz, f_max_hz):
        bank = functional.mel_filterbank(
            sample_rate=sample_rate, n_fft=n_fft, n_mels=n_mels, f_min_hz=f_min_hz, f_max_hz=f_max_hz
        )
        expected = librosa.filters.mel(sr=sample_rate, n_fft=n_fft, n_mels=n_mels, fmin=f_min_hz, fmax=f_max_hz)
        assert bank.dtype == torch.float64
        np.testing.assert_array_equal(bank.numpy(), expected)

    def test_warns_of_empty_bands_like_librosa(self):
        with pytest.warns(UserWarning, match="Empty filters"):
            librosa.filters.mel(sr=22_050, n_fft=256, n_mels=128)
        with pytest.warns(UserWarning, match="Some of 128 mel bands are empty with n_fft=256"):
            functional.mel_filterbank(sample_rate=22_050, n_fft=256, n_mels=128)

    @pytest.mark.parametrize("n_mels", [1, 20, 64, 128])
    def test_weights_outside_of_the_groups_are_zero(self, n_mels):
        bank = functional.mel_filterbank(sample_rate=22_050, n_mels=n_mels)
        covered = torch.zeros_like(bank)
        for bands, bins in functional.mel_groups(bank):
            covered[bands, bins] += 1
        assert covered.max() == 1
        assert bank[covered == 0].count_nonzero() == 0

    def test_different_numbers_of_bins(self):
        with pytest.raises(ParameterError, match=r"33 bins by frames, not \(32, 5\)"):
            functional.mel_spectrogram(torch.zeros(32, 5), filterbank=torch.zeros(4, 33))

    def test_errors_are_value_errors(self):
        assert issubclass(ParameterError, MusgenreError)
        assert issubclass(ParameterError, ValueError)


class TestMelPowerSpectrogram:
    @SETTINGS
    @given(
        shape=st.sampled_from([(1,), (900,), (2, 30_000), (3, 2, 5000)]),
        n_fft=st.sampled_from([16, 63, 256, 2048]),
        hop_length=st.integers(100, 700),
        n_mels=st.integers(1, 40),
    )
    @pytest.mark.filterwarnings("ignore:Some of")
    def test_equals_power_spectrogram_and_projection(self, shape, n_fft, hop_length, n_mels):
        waveform = torch.randn(shape, dtype=torch.float64)
        bank, window = functional.mel_filterbank(sample_rate=8000, n_fft=n_fft, n_mels=n_mels), torch.hann_window(n_fft)
        power = functional.power_spectrogram(waveform, n_fft=n_fft, hop_length=hop_length, window=window)
        mel = functional.mel_power_spectrogram(waveform, window=window, hop_length=hop_length, filterbank=bank)
        torch.testing.assert_close(mel, functional.mel_spectrogram(power, filterbank=bank))

    def test_gradients_equal_those_of_the_two_steps(self):
        waveform = torch.randn(1, 60_000, dtype=torch.float64, requires_grad=True)
        bank, window = functional.mel_filterbank(sample_rate=8000, n_fft=512, n_mels=8), torch.hann_window(512).double()
        power = functional.power_spectrogram(waveform, n_fft=512, hop_length=128, window=window)
        spectrograms = [
            functional.mel_power_spectrogram(waveform, window=window, hop_length=128, filterbank=bank),
            functional.mel_spectrogram(power, filterbank=bank),
        ]
        found, expected = (torch.autograd.grad(mel.log1p().sum(), waveform)[0] for mel in spectrograms)
        torch.testing.assert_close(found, expected)

    def test_filterbank_of_wrong_size(self):
        with pytest.raises(ParameterError, match="must have 33 bins, not 32"):
            functional.mel_power_spectrogram(
                torch.zeros(100), window=torch.ones(64), hop_length=16, filterbank=torch.zeros(4, 32)
            )

    def test_results_do_not_share_the_buffers(self):
        bank, window = functional.mel_filterbank(sample_rate=8000, n_fft=512, n_mels=8), torch.hann_window(512)
        first, second = torch.randn(2, 1, 400_000)
        kwargs = {"window": window, "hop_length": 128, "filterbank": bank}
        found = functional.mel_power_spectrogram(first, **kwargs)
        first_result = found.clone()
        functional.mel_power_spectrogram(second, **kwargs)
        assert torch.equal(found, first_result)
