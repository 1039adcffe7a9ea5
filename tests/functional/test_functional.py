from __future__ import annotations

import math

import hypothesis.extra.numpy as hnp
import librosa
import numpy as np
import pytest
import scipy.fft
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from musgenre import functional
from musgenre.core.errors import MusgenreError, ParameterError

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
        with pytest.raises(ParameterError, match=f"hop_length must be a whole number of at least 1, not {wrong}"):
            functional.frame(torch.zeros(10), frame_length=4, hop_length=wrong)


class TestPowerSpectrogram:
    def test_energy_of_a_frame_is_kept(self):
        # Parseval: the energy in time is the mean energy over the whole circle of frequencies.
        signal = torch.randn(64, dtype=torch.float64)
        power = functional.power_spectrogram(signal, n_fft=64, hop_length=32)[:, 1]
        energy = (signal * torch.hann_window(64, dtype=torch.float64)).square().sum()
        both_sides = 2 * power.sum() - power[0] - power[-1]
        assert both_sides / 64 == pytest.approx(energy.item())

    def test_own_window(self):
        signal = torch.randn(256, dtype=torch.float64)
        flat = functional.power_spectrogram(signal, n_fft=64, hop_length=16, window=torch.ones(64))
        expected = np.abs(librosa.stft(signal.numpy(), n_fft=64, hop_length=16, window="boxcar")) ** 2
        np.testing.assert_allclose(flat.numpy(), expected, rtol=1e-9, atol=1e-9)

    def test_window_that_does_not_fit(self):
        with pytest.raises(ParameterError, match=r"window must have the shape \(64,\), not \(32,\)"):
            functional.power_spectrogram(torch.zeros(100), n_fft=64, window=torch.ones(32))

    @pytest.mark.parametrize("wrong", [torch.zeros(0), torch.zeros(2, 0), torch.tensor(1.0), torch.zeros(9).int()])
    def test_no_samples(self, wrong):
        with pytest.raises(ParameterError, match="A waveform needs samples"):
            functional.power_spectrogram(wrong)

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_dtype_stays(self, dtype):
        assert functional.power_spectrogram(torch.zeros(100, dtype=dtype), n_fft=64).dtype == dtype


class TestMelFilterbank:
    @pytest.mark.parametrize(
        "wrong",
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
    def test_wrong_parameters(self, wrong):
        with pytest.raises(ParameterError, match=next(iter(wrong))):
            functional.mel_filterbank(**{"sample_rate": 22_050} | wrong)

    @SETTINGS
    @given(
        sample_rate=st.sampled_from([8000, 16_000, 22_050, 44_100]),
        n_fft=st.sampled_from([63, 256, 512, 1024, 2048]),
        n_mels=st.integers(1, 140),
        f_min_hz=st.floats(0, 1500),
        f_max_hz=st.none() | st.floats(1600, 4000),
    )
    @pytest.mark.filterwarnings("ignore:Empty filters", "ignore:Some of")
    def test_is_librosas_bit_for_bit(self, sample_rate, n_fft, n_mels, f_min_hz, f_max_hz):
        bank = functional.mel_filterbank(
            sample_rate=sample_rate, n_fft=n_fft, n_mels=n_mels, f_min_hz=f_min_hz, f_max_hz=f_max_hz
        )
        expected = librosa.filters.mel(sr=sample_rate, n_fft=n_fft, n_mels=n_mels, fmin=f_min_hz, fmax=f_max_hz)
        assert bank.dtype == torch.float64
        np.testing.assert_array_equal(bank.numpy(), expected)

    def test_warns_of_silent_bands_as_librosa_does(self):
        with pytest.warns(UserWarning, match="Empty filters"):
            librosa.filters.mel(sr=22_050, n_fft=256, n_mels=128)
        with pytest.warns(UserWarning, match="Some of 128 mel bands are empty with n_fft=256"):
            functional.mel_filterbank(sample_rate=22_050, n_fft=256, n_mels=128)

    @pytest.mark.parametrize("n_mels", [1, 20, 64, 128])
    def test_nothing_is_heard_outside_of_the_groups(self, n_mels):
        bank = functional.mel_filterbank(sample_rate=22_050, n_mels=n_mels)
        covered = torch.zeros_like(bank)
        for bands, bins in functional.mel_groups(bank):
            covered[bands, bins] += 1
        assert covered.max() == 1
        assert bank[covered == 0].count_nonzero() == 0

    def test_bands_that_do_not_fit(self):
        with pytest.raises(ParameterError, match=r"33 bins by frames, not \(32, 5\)"):
            functional.mel_spectrogram(torch.zeros(32, 5), filterbank=torch.zeros(4, 33))

    def test_errors_are_caught_by_both_names(self):
        assert issubclass(ParameterError, MusgenreError)
        assert issubclass(ParameterError, ValueError)


class TestMelPowerSpectrogram:
    """In blocks and at once."""

    @SETTINGS
    @given(
        shape=st.sampled_from([(1,), (900,), (2, 30_000), (3, 2, 5000)]),
        n_fft=st.sampled_from([16, 63, 256, 2048]),
        hop_length=st.integers(100, 700),
        n_mels=st.integers(1, 40),
    )
    @pytest.mark.filterwarnings("ignore:Some of")
    def test_is_the_two_steps(self, shape, n_fft, hop_length, n_mels):
        waveform = torch.randn(shape, dtype=torch.float64)
        bank, window = functional.mel_filterbank(sample_rate=8000, n_fft=n_fft, n_mels=n_mels), torch.hann_window(n_fft)
        power = functional.power_spectrogram(waveform, n_fft=n_fft, hop_length=hop_length, window=window)
        mel = functional.mel_power_spectrogram(waveform, window=window, hop_length=hop_length, filterbank=bank)
        torch.testing.assert_close(mel, functional.mel_spectrogram(power, filterbank=bank))

    def test_many_blocks_have_gradients(self):
        waveform = torch.randn(1, 60_000, dtype=torch.float64, requires_grad=True)
        bank, window = functional.mel_filterbank(sample_rate=8000, n_fft=512, n_mels=8), torch.hann_window(512).double()
        power = functional.power_spectrogram(waveform, n_fft=512, hop_length=128, window=window)
        twice = [
            functional.mel_power_spectrogram(waveform, window=window, hop_length=128, filterbank=bank),
            functional.mel_spectrogram(power, filterbank=bank),
        ]
        found, expected = (torch.autograd.grad(mel.log1p().sum(), waveform)[0] for mel in twice)
        torch.testing.assert_close(found, expected)

    def test_a_filterbank_that_does_not_fit(self):
        with pytest.raises(ParameterError, match="needs 33 bins, not 32"):
            functional.mel_power_spectrogram(
                torch.zeros(100), window=torch.ones(64), hop_length=16, filterbank=torch.zeros(4, 32)
            )


class TestPieces:
    """What is worked on piece by piece, against the same at once, which is what gradients need."""

    @pytest.mark.parametrize("reference", ["max", 2.0])
    @pytest.mark.parametrize("floor_db", [30.0, None])
    @pytest.mark.parametrize("shape", [(300, 2000), (2, 3, 200, 700), (3, 5, 7)])
    def test_decibels(self, shape, reference, floor_db):
        power = torch.rand(shape) ** 8
        kept = power.clone()
        at_once = functional.to_decibel(power.clone().requires_grad_(), reference=reference, floor_db=floor_db)
        found = functional.to_decibel(power, reference=reference, floor_db=floor_db)
        assert torch.equal(power, kept)
        assert torch.equal(found, at_once)
        overwritten = functional.to_decibel(power, reference=reference, floor_db=floor_db, inplace=True)
        assert overwritten.data_ptr() == power.data_ptr()
        assert torch.equal(overwritten, found)

    def test_decibels_of_what_lies_apart_in_memory(self):
        power = torch.rand(600, 900, 2)[..., 0]
        assert torch.equal(functional.to_decibel(power), functional.to_decibel(power.contiguous()))

    @pytest.mark.parametrize("channels", [1, 3])
    def test_normalise(self, channels):
        picture, mean, std = torch.rand(2, channels, 300, 400), torch.rand(channels), 1 + torch.rand(channels)
        expected = functional.normalise(picture, mean=mean, std=std)
        assert not torch.equal(picture, expected)
        assert torch.equal(functional.normalise(picture, mean=mean, std=std, inplace=True), expected)

    def test_memory_that_is_used_again_is_no_memory_of_the_results(self):
        bank, window = functional.mel_filterbank(sample_rate=8000, n_fft=512, n_mels=8), torch.hann_window(512)
        first, second = torch.randn(2, 1, 400_000)
        kwargs = {"window": window, "hop_length": 128, "filterbank": bank}
        found = functional.mel_power_spectrogram(first, **kwargs)
        kept = found.clone()
        functional.mel_power_spectrogram(second, **kwargs)
        assert torch.equal(found, kept)


class TestToDecibel:
    @SETTINGS
    @given(
        power=hnp.arrays(np.float64, (5, 7), elements=st.floats(0, 1e8)),
        reference=st.sampled_from(["max"]) | st.floats(1e-12, 1e6),
        amin=st.floats(1e-15, 1e-3),
        floor_db=st.none() | st.floats(0, 200),
    )
    def test_equals_librosa(self, power, reference, amin, floor_db):
        decibel = functional.to_decibel(torch.from_numpy(power), reference=reference, amin=amin, floor_db=floor_db)
        librosas = np.max if reference == "max" else reference
        expected = librosa.power_to_db(power, ref=librosas, amin=amin, top_db=floor_db)
        assert np.abs(decibel.numpy() - expected).max() <= 1e-6

    def test_each_example_has_its_own_maximum(self):
        power = torch.tensor([[[1.0, 0.1]], [[1e6, 1e-9]]])
        decibel = functional.to_decibel(power, reference="max", floor_db=60.0)
        torch.testing.assert_close(decibel, torch.tensor([[[0.0, -10.0]], [[0.0, -60.0]]]))

    @pytest.mark.parametrize(
        "wrong",
        [
            {"reference": "maximum"},
            {"reference": 0.0},
            {"reference": math.inf},
            {"reference": None},
            {"amin": 0.0},
            {"amin": math.nan},
            {"floor_db": -1.0},
            {"floor_db": math.nan},
        ],
    )
    def test_wrong_parameters(self, wrong):
        with pytest.raises(ParameterError, match=next(iter(wrong))):
            functional.to_decibel(torch.ones(2, 2), **wrong)

    def test_needs_bins_and_frames(self):
        with pytest.raises(ParameterError, match=r"\(\.\.\., bins, frames\), not \(3,\)"):
            functional.to_decibel(torch.ones(3))


class TestMfcc:
    @SETTINGS
    @given(n_mels=st.integers(1, 90), data=st.data())
    def test_equals_scipy(self, n_mels, data):
        n_mfcc = data.draw(st.integers(1, n_mels))
        decibel = np.random.default_rng(n_mels).uniform(-80, 40, (2, n_mels, 3))
        expected = scipy.fft.dct(decibel, axis=-2, type=2, norm="ortho")[:, :n_mfcc]
        np.testing.assert_allclose(functional.mfcc(torch.from_numpy(decibel), n_mfcc=n_mfcc), expected, atol=1e-9)

    def test_given_matrix(self):
        decibel = torch.randn(16, 3)
        matrix = functional.dct_matrix(n_mfcc=8, n_mels=16)
        given = functional.mfcc(decibel, n_mfcc=5, dct=matrix)
        torch.testing.assert_close(given, functional.mfcc(decibel, n_mfcc=5))

    def test_more_coefficients_than_bands(self):
        with pytest.raises(ParameterError, match=r"n_mfcc \(20\) must not exceed n_mels \(16\)"):
            functional.mfcc(torch.zeros(16, 3))


class TestResize:
    def test_a_ramp_stays_a_ramp(self):
        ramp = torch.linspace(0, 1, 8, dtype=torch.float64).expand(2, 3, 4, 8)
        wide = functional.resize(ramp, size=(4, 16))
        assert wide.shape == (2, 3, 4, 16)
        assert wide.dtype == torch.float64
        steps = wide[0, 0, 0].diff()
        torch.testing.assert_close(steps[1:-1], torch.full_like(steps[1:-1], 1 / 14))

    def test_shrinking_uses_every_frame(self):
        picture = torch.rand(3, 90, requires_grad=True)
        functional.resize(picture, size=(3, 10)).sum().backward()
        assert (picture.grad > 0).all()

    def test_same_size_changes_nothing(self):
        picture = torch.rand(5, 7)
        torch.testing.assert_close(functional.resize(picture, size=(5, 7)), picture)

    def test_wrong_size(self):
        with pytest.raises(ParameterError, match="width must be"):
            functional.resize(torch.zeros(2, 2), size=(1, 0))

    def test_wrong_shape(self):
        with pytest.raises(ParameterError, match=r"height, width\), not \(2,\)"):
            functional.resize(torch.zeros(2), size=(1, 1))


def test_normalise():
    picture = torch.tensor([[[1.0, 2.0]], [[3.0, 4.0]]])
    scaled = functional.normalise(picture, mean=torch.tensor([1.0, 2.0]), std=torch.tensor([1.0, 0.5]))
    torch.testing.assert_close(scaled, torch.tensor([[[0.0, 1.0]], [[2.0, 4.0]]]))
