from __future__ import annotations

import copy
import pickle

import librosa
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from musgenre.core.errors import ParameterError
from musgenre.transforms import MFCC, MelSpectrogram, Resize, Spectrogram, ToDecibel

# Signals shorter than a frame and empty bands are tested on purpose.
pytestmark = [
    pytest.mark.filterwarnings("ignore:n_fft=.* is too large"),
    pytest.mark.filterwarnings("ignore:Empty filters detected"),
    pytest.mark.filterwarnings("ignore:Some of .* mel bands are empty"),
]
SETTINGS = settings(max_examples=60, deadline=None)


@st.composite
def signals(draw):
    """Noise, a tone, clicks or silence, at any level."""
    samples = draw(st.integers(1, 5000))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    time = np.arange(samples)
    signal = {
        "noise": rng.standard_normal(samples),
        "tone": np.sin(time * rng.uniform(0, np.pi)),
        "clicks": (time % 97 == 0).astype(float),
        "silence": np.zeros(samples),
    }[draw(st.sampled_from(["noise", "tone", "clicks", "silence"]))]
    return signal * 10.0 ** draw(st.integers(-5, 2))


@st.composite
def options(draw):
    """Options of the mel spectrogram with the names of musgenre, band edges, and options with the names of librosa."""
    sample_rate = draw(st.sampled_from([8000, 11_025, 16_000, 22_050, 44_100, 48_000]))
    ours = {
        "sample_rate": sample_rate,
        "n_fft": draw(st.sampled_from([16, 63, 64, 200, 256, 401, 512, 1024, 2048])),
        "hop_length": draw(st.integers(8, 700)),
        "n_mels": draw(st.integers(1, 80)),
    }
    edges = {"f_min_hz": draw(st.floats(0, 300)), "f_max_hz": draw(st.none() | st.floats(2000, sample_rate / 2))}
    theirs = {"sr": sample_rate} | {name: ours[name] for name in ("n_fft", "hop_length", "n_mels")}
    return ours, edges, theirs


def assert_equal_within_rounding(power, expected, *, signal, transform):
    """Compare mel magnitudes (roots of power) with a tolerance relative to the energy of each frame.

    The rounding error of a Fourier transform is proportional to the norm of the frame, not to the magnitude of a single
    bin: a tone outside of all mel bands adds an error to every band. The measured error is at most 1.1 times the
    machine epsilon of the dtype.
    """
    lengths = {"frame_length": transform.n_fft, "hop_length": transform.hop_length}
    frame_energy = transform.n_fft * librosa.feature.rms(y=signal, dtype=np.float64, **lengths)[0] ** 2
    spectrum_energy = transform.n_fft * frame_energy  # Parseval
    limits = torch.finfo(power.dtype)
    tolerance = 4 * limits.eps * np.sqrt(transform.filterbank.value.max().item() * spectrum_energy)
    error = np.abs(power.double().sqrt().numpy() - np.sqrt(expected))
    assert (error <= tolerance + np.sqrt(limits.tiny)).all()


class TestEqualsLibrosa:
    @SETTINGS
    @given(signal=signals(), options=options())
    def test_mel_spectrogram(self, signal, options):
        ours, edges, theirs = options
        expected = librosa.feature.melspectrogram(y=signal, fmin=edges["f_min_hz"], fmax=edges["f_max_hz"], **theirs)
        transform = MelSpectrogram(**ours, **edges)
        for dtype in (torch.float64, torch.float32):
            power = transform(torch.from_numpy(signal).to(dtype))
            assert power.dtype == dtype
            assert power.shape == expected.shape == (ours["n_mels"], transform.frame_count(len(signal)))
            assert_equal_within_rounding(power, expected, signal=signal, transform=transform)

    def test_tone_outside_of_all_mel_bands(self):
        # The bands only contain leakage, whose power is 17 orders of magnitude below that of the tone.
        signal = 100 * np.sin(np.arange(4096) * 2.5) * np.hanning(4096)  # 8.8 kHz
        transform = MelSpectrogram(sample_rate=22_050, f_max_hz=2000.0, n_mels=8)
        expected = librosa.feature.melspectrogram(y=signal, sr=22_050, fmax=2000.0, n_mels=8)
        for dtype in (torch.float64, torch.float32):
            power = transform(torch.from_numpy(signal).to(dtype))
            assert_equal_within_rounding(power, expected, signal=signal, transform=transform)

    @SETTINGS
    @given(signal=signals(), options=options(), data=st.data())
    def test_mfcc(self, signal, options, data):
        ours, _, theirs = options
        n_mfcc = data.draw(st.integers(1, ours["n_mels"]))
        coefficients = MFCC(n_mfcc=n_mfcc, **ours)(torch.from_numpy(signal))
        expected = librosa.feature.mfcc(y=signal, n_mfcc=n_mfcc, **theirs)
        assert np.abs(coefficients.numpy() - expected).max() <= 1e-5

    def test_defaults(self):
        signal = np.random.default_rng(0).standard_normal(30_000)
        waveform = torch.from_numpy(signal)
        mel = librosa.feature.melspectrogram(y=signal, sr=22_050)
        pairs = [
            (Spectrogram(), np.abs(librosa.stft(signal)) ** 2),
            (MelSpectrogram(sample_rate=22_050), mel),
            (nn.Sequential(MelSpectrogram(sample_rate=22_050), ToDecibel()), librosa.power_to_db(mel)),
            (MFCC(sample_rate=22_050), librosa.feature.mfcc(y=signal, sr=22_050)),
        ]
        for transform, expected in pairs:
            np.testing.assert_allclose(transform(waveform).numpy(), expected, rtol=1e-9, atol=1e-9)

    def test_float64_is_exact_after_conversion_to_half_precision(self):
        signal = np.sin(np.arange(9000) * 0.3)
        transform = MFCC(sample_rate=22_050).half().double()
        expected = librosa.feature.mfcc(y=signal, sr=22_050)
        np.testing.assert_allclose(transform(torch.from_numpy(signal)).numpy(), expected, atol=1e-9)


def small():
    return nn.Sequential(
        MelSpectrogram(sample_rate=8000, n_fft=128, hop_length=64, n_mels=12), ToDecibel(reference="max"), Resize(16)
    )


class TestModule:
    def test_tone_has_its_maximum_in_its_band(self):
        tone = torch.sin(2 * torch.pi * 1000 * torch.arange(22_050) / 22_050)
        band = MelSpectrogram(sample_rate=22_050)(tone).mean(-1).argmax().item()
        centres = librosa.mel_frequencies(n_mels=130, fmin=0, fmax=11_025)[1:-1]
        assert band == np.abs(centres - 1000).argmin()

    def test_leading_dimensions_and_batches(self):
        waveform = torch.randn(2, 3, 1000)
        batched = small()(waveform)
        assert batched.shape == (2, 3, 16, 16)
        one_by_one = torch.stack([torch.stack([small()(channel) for channel in example]) for example in waveform])
        torch.testing.assert_close(batched, one_by_one, rtol=1e-4, atol=1e-4)

    @pytest.mark.parametrize("samples", [1, 2, 63, 127])
    def test_waveform_shorter_than_a_frame(self, samples):
        assert small()(torch.ones(samples)).isfinite().all()

    def test_gradients_are_correct(self):
        waveform = torch.randn(2, 200, dtype=torch.float64, requires_grad=True)
        assert torch.autograd.gradcheck(small(), (waveform,), fast_mode=True)

    @pytest.mark.parametrize("level", [0.0, 1e-30, 1e30])
    def test_gradients_are_finite_at_extremes(self, level):
        waveform = torch.full((2, 500), level).requires_grad_()
        mel = MelSpectrogram(sample_rate=8000, n_fft=128, hop_length=64, n_mels=12)
        (ToDecibel()(mel(waveform / max(level, 1.0)))).sum().backward()
        assert waveform.grad.isfinite().all()

    def test_export(self):
        waveform = torch.randn(2, 1000)
        sizes = ({0: torch.export.Dim("batch", min=1, max=64), 1: torch.export.Dim("samples", min=128, max=100_000)},)
        exported = torch.export.export(small().eval(), (waveform,), dynamic_shapes=sizes).module()
        for shape in ((1, 500), (5, 3000)):
            waveform = torch.randn(shape)
            torch.testing.assert_close(exported(waveform), small()(waveform))

    def test_autocast_has_no_effect(self):
        waveform = 100 * torch.randn(1, 1000)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            power = small()(waveform)
        torch.testing.assert_close(power, small()(waveform))

    def test_devices(self):
        on_meta = small().to("meta")(torch.empty(2, 1000, device="meta"))
        assert on_meta.shape == (2, 16, 16)
        assert on_meta.device.type == "meta"
        if torch.cuda.is_available():
            waveform = torch.randn(2, 1000)
            on_gpu = small().cuda()(waveform.cuda())
            torch.testing.assert_close(on_gpu.cpu(), small()(waveform), rtol=1e-3, atol=1e-3)

    def test_constants_are_not_in_the_state_dict(self):
        assert small().state_dict() == {}
        assert list(MelSpectrogram(sample_rate=8000).buffers())

    def test_copies(self):
        waveform = torch.randn(1, 1000)
        for copied in (copy.deepcopy(small()), pickle.loads(pickle.dumps(small()))):
            torch.testing.assert_close(copied(waveform), small()(waveform))


@pytest.mark.parametrize(
    ("build", "named"),
    [
        (lambda: Spectrogram(n_fft=0), "n_fft"),
        (lambda: Spectrogram(hop_length=2.5), "hop_length"),
        (lambda: MelSpectrogram(sample_rate=-1), "sample_rate"),
        (lambda: MelSpectrogram(sample_rate=22_050, f_max_hz=20_000.0), "f_max_hz"),
        (lambda: ToDecibel(reference="mean"), "reference"),
        (lambda: ToDecibel(floor_db=-80.0), "floor_db"),
        (lambda: MFCC(sample_rate=22_050, n_mfcc=129), "n_mfcc"),
    ],
)
def test_invalid_parameters_are_named_at_construction(build, named):
    with pytest.raises(ParameterError, match=named):
        build()


@pytest.mark.parametrize("transform", [Spectrogram(), MelSpectrogram(sample_rate=22_050), MFCC(sample_rate=22_050)])
def test_empty_waveform(transform):
    with pytest.raises(ParameterError, match="A waveform needs floating-point samples"):
        transform(torch.zeros(2, 0))
