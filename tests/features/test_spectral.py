from __future__ import annotations

import librosa
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from musgenre.core.errors import ParameterError
from musgenre.features import LogMel, LogMelImage, Mfcc

MAKERS = [
    lambda: LogMel(sample_rate=8000, n_fft=256, hop_length=100, n_mels=24),
    lambda: Mfcc(sample_rate=8000, n_fft=256, hop_length=100, n_mels=24),
    lambda: LogMelImage(sample_rate=8000, size=32, n_fft=256, hop_length=100, n_mels=24),
]


@pytest.mark.parametrize("make", MAKERS)
class TestAllFeatures:
    @settings(max_examples=20, deadline=None)
    @given(samples=st.integers(1, 3000), batch=st.integers(1, 3))
    def test_shape_equals_out_shape(self, make, samples, batch):
        feature = make()
        image = feature(torch.randn(batch, samples))
        assert image.shape == (batch, *feature.out_shape(samples))
        assert image.isfinite().all()

    def test_silence_and_its_gradients_are_finite(self, make):
        waveform = torch.zeros(2, 1000, requires_grad=True)
        image = make()(waveform)
        image.sum().backward()
        assert image.isfinite().all()
        assert waveform.grad.isfinite().all()

    def test_batch_equals_one_by_one(self, make):
        waveform = torch.randn(3, 2000) * torch.tensor([[1e-3], [1.0], [0.0]])
        one_by_one = torch.cat([make()(example[None]) for example in waveform])
        torch.testing.assert_close(make()(waveform), one_by_one, rtol=1e-4, atol=1e-4)

    def test_export(self, make):
        sizes = ({0: torch.export.Dim("batch", min=1, max=64)},)
        exported = torch.export.export(make().eval(), (torch.randn(2, 2000),), dynamic_shapes=sizes).module()
        for batch in (1, 5):
            waveform = torch.randn(batch, 2000)
            torch.testing.assert_close(exported(waveform), make()(waveform))

    def test_state_dict_is_empty(self, make):
        assert make().state_dict() == {}

    def test_on_a_gpu(self, make):
        if not torch.cuda.is_available():
            pytest.skip("needs a GPU")
        waveform = torch.randn(2, 2000)
        torch.testing.assert_close(make().cuda()(waveform.cuda()).cpu(), make()(waveform), rtol=1e-3, atol=1e-3)


class TestLogMel:
    def test_equals_librosa(self):
        signal = np.random.default_rng(0).standard_normal(66_150)
        spectrogram = LogMel(sample_rate=22_050)(torch.from_numpy(signal)[None])
        mel = librosa.feature.melspectrogram(y=signal, sr=22_050)
        expected = librosa.power_to_db(mel, ref=np.max) / 40 + 1
        np.testing.assert_allclose(spectrogram[0, 0].numpy(), expected, atol=1e-9)

    @settings(max_examples=20, deadline=None)
    @given(gain_db=st.floats(-40, 40))
    def test_gain_has_no_effect(self, gain_db):
        waveform = torch.randn(1, 3000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        feature = LogMel(sample_rate=8000)
        torch.testing.assert_close(feature(waveform * 10 ** (gain_db / 20)), feature(waveform))

    def test_range(self):
        waveform = torch.cat([torch.randn(1, 4000), torch.zeros(1, 4000)], dim=1)
        spectrogram = LogMel(sample_rate=8000)(waveform)
        assert spectrogram.max().item() == 1
        assert spectrogram.min().item() == -1

    def test_silence_is_constant(self):
        assert (LogMel(sample_rate=8000)(torch.zeros(1, 4000)) == 1).all()

    def test_low_frequencies_come_first(self):
        time = torch.arange(22_050) / 22_050
        low, high = LogMel(sample_rate=22_050)(torch.sin(2 * torch.pi * torch.tensor([[100.0], [8000.0]]) * time))
        assert low.mean(-1).argmax() < 10
        assert high.mean(-1).argmax() > 100


class TestLogMelImage:
    def test_channels_are_equal_before_normalisation(self):
        image = LogMelImage(sample_rate=22_050)(torch.randn(2, 66_150))
        mean = torch.tensor([0.485, 0.456, 0.406])[:, None, None]
        std = torch.tensor([0.229, 0.224, 0.225])[:, None, None]
        pixels = image * std + mean
        torch.testing.assert_close(pixels[:, 0], pixels[:, 1])
        torch.testing.assert_close(pixels[:, 0], pixels[:, 2])
        assert pixels.min() >= -1e-5
        assert pixels.max() <= 1 + 1e-5

    def test_equals_resized_logmel(self):
        waveform = torch.randn(1, 66_150)
        image = LogMelImage(sample_rate=22_050, size=64)(waveform)[:, :1] * 0.229 + 0.485
        logmel = (LogMel(sample_rate=22_050)(waveform) + 1) / 2
        resized = torch.nn.functional.interpolate(logmel, (64, 64), mode="bilinear", antialias=True)
        torch.testing.assert_close(image, resized, rtol=1e-4, atol=1e-4)

    @pytest.mark.parametrize(
        "invalid", [{"mean": 1}, {"std": ["a"]}, {"mean": []}, {"mean": [0.5]}, {"std": [1, 1, 0]}]
    )
    def test_invalid_normalisation(self, invalid):
        with pytest.raises(ParameterError):
            LogMelImage(sample_rate=22_050, **invalid)


def test_mfcc_equals_librosa():
    signal = np.random.default_rng(0).standard_normal(30_000)
    coefficients = Mfcc(sample_rate=22_050)(torch.from_numpy(signal)[None])
    np.testing.assert_allclose(coefficients[0, 0].numpy(), librosa.feature.mfcc(y=signal, sr=22_050), atol=1e-9)
