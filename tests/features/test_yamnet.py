from __future__ import annotations

import librosa
import numpy as np
import pytest
import torch

from musgenre.core.errors import ParameterError
from musgenre.features.base import FEATURES
from musgenre.features.spectral import YAMNetMel
from musgenre.features.yamnet import YAMNetLogMel

FEATURE = YAMNetLogMel(sample_rate=16_000)


@pytest.fixture(scope="module")
def signal() -> np.ndarray:
    """A chirp, clicks and noise of two seconds, in float64."""
    time = np.arange(32_000) / 16_000
    chirp = 0.4 * np.sin(2 * np.pi * (200 + 900 * time) * time)
    return chirp + 0.01 * np.random.default_rng(0).standard_normal(time.size) + 0.5 * (np.arange(32_000) % 5000 == 0)


def _hertz_to_mel(hertz):
    return 1127.0 * np.log(1.0 + hertz / 700.0)


def _linear_to_mel_weight_matrix() -> np.ndarray:
    """``tf.signal.linear_to_mel_weight_matrix`` for 64 bands of 257 bins, computed entry by entry."""
    edges = np.linspace(_hertz_to_mel(125.0), _hertz_to_mel(7500.0), 66)
    matrix = np.zeros((257, 64))
    for number in range(1, 257):  # the first bin remains zero
        mel = _hertz_to_mel(number * 8000.0 / 256)
        for band in range(64):
            lower, centre, upper = edges[band : band + 3]
            matrix[number, band] = max(0.0, min((mel - lower) / (centre - lower), (upper - mel) / (upper - centre)))
    return matrix


def _log_mel(signal: np.ndarray) -> np.ndarray:
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)
    starts = range(0, len(signal) - 400 + 1, 160)
    magnitude = [np.abs(np.fft.fft(np.append(signal[start : start + 400] * window, np.zeros(112)))) for start in starts]
    return np.log(np.array(magnitude)[:, :257] @ _linear_to_mel_weight_matrix() + 0.001)


def test_equals_tensorflow_formulas(signal):
    feature = FEATURE(torch.from_numpy(signal)[None])
    assert feature.shape == (1, 1, 64, 198)
    np.testing.assert_allclose(feature[0, 0].T.numpy(), _log_mel(signal), atol=1e-10)
    single = FEATURE(torch.from_numpy(signal).float()[None])
    assert single.dtype == torch.float32
    np.testing.assert_allclose(single[0, 0].T.numpy(), _log_mel(signal), atol=1e-3)


def test_is_close_to_librosa_htk_mel(signal):
    # librosa centres the 400 samples in the 512, and its triangles are linear in hertz.
    padded = np.pad(signal, 56)
    magnitude = np.abs(librosa.stft(padded, n_fft=512, win_length=400, hop_length=160, center=False))
    bank = librosa.filters.mel(sr=16_000, n_fft=512, n_mels=64, fmin=125, fmax=7500, htk=True, norm=None)
    expected = np.log(bank @ magnitude + 0.001)
    feature = FEATURE(torch.from_numpy(signal)[None])[0, 0].numpy()
    assert feature.shape == expected.shape
    assert np.corrcoef(feature.ravel(), expected.ravel())[0, 1] > 0.999
    assert np.abs(feature - expected).mean() < 0.05


def test_silence_and_level():
    assert torch.allclose(FEATURE(torch.zeros(1, 16_000)), torch.tensor(0.001).log())
    noise = torch.randn(1, 16_000, dtype=torch.float64)
    louder = FEATURE(10 * noise).exp() - 0.001
    torch.testing.assert_close(louder, 10 * (FEATURE(noise).exp() - 0.001))


@pytest.mark.parametrize(("samples", "frames"), [(399, 0), (400, 1), (559, 1), (560, 2), (15_600, 96), (48_000, 298)])
def test_frames(samples, frames):
    assert FEATURE.out_shape(samples) == (1, 64, frames)
    if frames:
        assert FEATURE(torch.randn(3, samples)).shape == (3, 1, 64, frames)
    else:
        with pytest.raises(ParameterError, match="shorter than a frame of 400"):
            FEATURE(torch.randn(3, samples))


def test_batch_equals_one_by_one():
    waveforms = torch.randn(3, 16_000) * torch.tensor([[1.0], [0.01], [0.0]])
    single = torch.cat([FEATURE(waveform[None]) for waveform in waveforms])
    torch.testing.assert_close(FEATURE(waveforms), single)


def test_gradient_is_finite_in_silence():
    waveforms = torch.zeros(1, 16_000).requires_grad_()
    FEATURE(waveforms).sum().backward()
    assert waveforms.grad.isfinite().all()


def test_other_sample_rates_are_rejected():
    with pytest.raises(ParameterError, match=r"requires sample_rate 16000, not 22050.*AudioSpec\(sample_rate=16_000"):
        FEATURES.build("yamnet-logmel", {"sample_rate": 22_050})
    assert isinstance(FEATURES.build("yamnet-logmel", {"sample_rate": 16_000}), YAMNetLogMel)


def test_state_dict_is_empty():
    assert FEATURE.state_dict() == {}


def _noise_and_chords() -> np.ndarray:
    """Ten seconds of pink noise and of harmonic tones with a slow envelope, at 44,100 Hz."""
    rate, generator = 44_100, np.random.default_rng(3)
    time = np.arange(10 * rate) / rate
    spectrum = generator.normal(size=len(time) // 2 + 1) + 1j * generator.normal(size=len(time) // 2 + 1)
    noise = np.fft.irfft(spectrum / np.sqrt(np.arange(len(spectrum)) + 20.0), len(time))
    tones = sum(np.sin(2 * np.pi * 220 * k * time) / k for k in range(1, 12)) * (1 + np.sin(2 * np.pi * 0.3 * time))
    return noise / noise.std() + tones / tones.std()


def test_bands_of_a_mel_spectrogram_are_close_to_yamnets():
    wave = _noise_and_chords()
    own = YAMNetMel(sample_rate=22_050)(torch.from_numpy(wave[::2].copy())[None])[0, 0]
    low = librosa.resample(wave, orig_sr=44_100, target_sr=16_000)
    peak = librosa.feature.melspectrogram(y=wave[::2], sr=22_050, n_mels=128).max()
    theirs = FEATURE(torch.from_numpy(low * np.sqrt(10**3.8 / peak))[None])[0, 0]
    # Averages over time: single frames differ, because one is 93 ms long and the other 25 ms, and so do the valleys
    # between harmonics.
    difference = (own.exp().mean(dim=1) / theirs.exp().mean(dim=1)).log()
    assert difference.abs().median() < 0.15
    assert np.corrcoef(own.mean(dim=1), theirs.mean(dim=1))[0, 1] > 0.9


def test_mel_bands_do_not_depend_on_the_level_and_have_a_floor():
    feature = YAMNetMel(sample_rate=22_050, hop_length=1708)
    noise = torch.randn(2, 50_000, dtype=torch.float64)
    torch.testing.assert_close(feature(noise), feature(0.01 * noise))
    power = torch.full((1, 128, 40), 1e-9)
    power[0, 5, 7] = 10.0
    lower = power.clone()
    lower[power < 1] = 0.0
    torch.testing.assert_close(feature(power), feature(lower))
    assert feature(torch.zeros(1, 30_000)).isfinite().all()


def test_mel_bands_of_stored_power_equal_those_of_audio():
    feature = YAMNetMel(sample_rate=22_050, hop_length=1708)
    noise = torch.randn(1, 60_000)
    torch.testing.assert_close(feature(feature.mel(noise)), feature(noise))
    assert feature(noise).shape[1:] == feature.out_shape(60_000)
    torch.testing.assert_close(feature.bins_hz(), FEATURE.bins_hz().double(), rtol=1e-6, atol=0)
