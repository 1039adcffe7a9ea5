"""Explanations, compared with networks of known saliency and with the properties of each method."""

from __future__ import annotations

import copy
import importlib.util
import sys
import threading

import librosa
import numpy as np
import pytest
import torch
from torch import nn

import musgenre
from musgenre.backbones.base import BACKBONES, Backbone, InputSpec
from musgenre.core.config import AudioSpec, Component, ModelConfig
from musgenre.core.errors import AudioFileError, ParameterError, UnknownNameError
from musgenre.features import LogMel
from musgenre.models import explain as explaining
from musgenre.models.explain import Explainer, Explanation, noise_baseline

pytest.importorskip("captum", reason="needs the extra 'explain'")

RATE = 8_000
AUDIO = AudioSpec(RATE, window_seconds=1.0, hop_seconds=1.0)
METHODS = ("grad-cam", "integrated-gradients")
BINS = 32


class Halves(nn.Module):
    """Splits a spectrogram into its upper and its lower half."""

    def __init__(self) -> None:
        super().__init__()
        upper = (torch.arange(BINS) >= BINS // 2).float()
        self.register_buffer("masks", torch.stack((upper, 1 - upper))[:, :, None])

    def forward(self, spectrogram):
        return (spectrogram + 1) * self.masks


class TwoBands(Backbone):
    """Computes the mean level of the upper and of the lower half of the bins."""

    def __init__(self) -> None:
        super().__init__()
        self.expects, self.out_features = InputSpec(channels=1), 2
        self.halves = nn.Sequential(Halves(), nn.ReLU(inplace=True))

    def stages(self):
        return [self.halves]

    def forward(self, feature):
        return self.halves(feature).mean(dim=(-2, -1))


@pytest.fixture(scope="module")
def two_bands():
    """A classifier whose logits grow with the level of the upper bins ("hiss") and of the lower bins ("hum")."""
    head = nn.Linear(2, 2, bias=False)
    with torch.no_grad():
        head.weight.copy_(5 * torch.eye(2))
    feature = LogMel(sample_rate=RATE, n_fft=512, hop_length=128, n_mels=BINS)
    config = ModelConfig("two-bands", ("hiss", "hum"), AUDIO, Component("logmel"), Component("two-bands"))
    return musgenre.GenreClassifier(musgenre.GenreNetwork(feature, TwoBands(), head=head), config)


@pytest.fixture(scope="module")
def song():
    """Three seconds: hum, then hum and hiss, then hum."""
    time = np.arange(3 * RATE) / RATE
    hum = 0.3 * np.sin(2 * np.pi * 150 * time)
    hiss = np.random.default_rng(0).normal(size=time.size)
    spectrum = np.fft.rfft(hiss)
    spectrum[np.fft.rfftfreq(time.size, 1 / RATE) < 2_000] = 0
    hiss = 0.3 * np.fft.irfft(spectrum, n=time.size)
    return hum + hiss * ((time >= 1) & (time < 2)), RATE


@pytest.fixture(scope="module")
def bundled():
    return musgenre.GenreClassifier.from_pretrained()


@pytest.fixture(scope="module")
def recording(waveform):
    return waveform.T, 44_100


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("label", ["hiss", "hum"])
def test_saliency_is_limited_to_the_bins_that_the_network_uses(two_bands, song, method, label):
    explanation = two_bands.explain(song, method=method, label=label, window=1)
    magnitudes = np.abs(explanation.saliency)
    used = slice(BINS // 2, None) if label == "hiss" else slice(BINS // 2)
    assert magnitudes[used].sum() > 0
    unused = magnitudes.sum() - magnitudes[used].sum()
    # Grad-CAM interpolates its maps to the size of the spectrogram; here the maps already have that size.
    assert unused <= 1e-6 * magnitudes.sum()
    assert explanation.label == label


def test_most_confident_window_is_explained_by_default(two_bands, song):
    prediction = two_bands.predict(song)
    assert two_bands.explain(song).label == prediction.label
    hiss, hum = (two_bands.explain(song, label=label) for label in ("hiss", "hum"))
    assert hiss.start_seconds == 1.0
    assert hum.start_seconds in (0.0, 2.0)
    column = list(prediction.probabilities).index("hiss")
    assert hiss.probability == pytest.approx(prediction.windows.probabilities[1, column])
    assert hiss.window_seconds == 1.0
    selected = two_bands.explain(song, label="hiss", window=2)
    assert selected.start_seconds == 2.0
    assert selected.probability == pytest.approx(prediction.windows.probabilities[2, column])


def test_spectrogram_is_the_feature_of_the_window(two_bands, song):
    explanation = two_bands.explain(song, window=1)
    samples = torch.from_numpy(song[0][RATE : 2 * RATE].astype(np.float32))
    np.testing.assert_allclose(explanation.spectrogram, two_bands.network.feature(samples[None])[0, 0], atol=1e-5)
    assert explanation.saliency.shape == explanation.spectrogram.shape == (BINS, 63)
    expected = librosa.mel_frequencies(n_mels=BINS + 2, fmin=0, fmax=RATE / 2)[1:-1]
    np.testing.assert_allclose(explanation.bins_hz, expected, atol=RATE / 512)  # one FFT bin


def test_integrated_gradients_of_a_linear_network_are_weight_times_difference(song):
    class Flat(Backbone):
        def __init__(self) -> None:
            super().__init__()
            self.expects, self.out_features = InputSpec(channels=1), BINS * 63

        def stages(self):
            return []

        def forward(self, feature):
            return feature.flatten(1)

    torch.manual_seed(0)
    feature = LogMel(sample_rate=RATE, n_fft=512, hop_length=128, n_mels=BINS)
    head = nn.Linear(BINS * 63, 3)
    config = ModelConfig("flat", ("a", "b", "c"), AUDIO, Component("logmel"), Component("flat"))
    classifier = musgenre.GenreClassifier(musgenre.GenreNetwork(feature, Flat(), head=head), config)
    explanation = classifier.explain(song, method="integrated-gradients", label="b", window=1)
    samples = torch.from_numpy(song[0][RATE : 2 * RATE].astype(np.float32))
    difference = feature(samples[None]) - noise_baseline(feature, samples)
    expected = head.weight[1].detach().reshape(BINS, 63) * difference[0, 0]
    np.testing.assert_allclose(explanation.saliency, expected, atol=1e-5)
    with pytest.raises(ParameterError, match="integrated-gradients"):
        classifier.explain(song, method="grad-cam")


def test_integrated_gradients_add_up_to_the_difference_of_the_logits(bundled, recording):
    window = next(iter(musgenre.audio.AudioWindows(recording, bundled.config.audio)))[1]
    samples = torch.from_numpy(window)
    feature, classify = bundled.network.feature, bundled.network.classify
    with torch.no_grad():
        logits, baseline_logits = classify(feature(samples[None]))[0], classify(noise_baseline(feature, samples))[0]
    for label in ("classical", "metal"):
        explanation = bundled.explain(recording, method="integrated-gradients", label=label, window=0)
        index = bundled.labels.index(label)
        difference = float(logits[index] - baseline_logits[index])
        assert explanation.saliency.sum(dtype=np.float64) == pytest.approx(
            difference, abs=0.05 + 0.03 * abs(difference)
        )


@pytest.mark.parametrize("method", METHODS)
def test_silence_has_finite_saliency(bundled, two_bands, method):
    silence = (np.zeros(RATE * 2), RATE)
    for classifier in (two_bands, bundled):
        explanation = classifier.explain(silence, method=method)
        assert np.ptp(explanation.spectrogram, axis=1).max() == 0  # YAMNet's bands differ in width
        assert np.isfinite(explanation.saliency).all()
        explanation.plot().figure.canvas.draw()
        if method == "integrated-gradients":
            # The baseline has the level of the window, so it is silent as well.
            np.testing.assert_allclose(explanation.saliency, 0, atol=1e-6)


def test_noise_baseline_falls_by_3_db_per_octave_and_has_the_level_of_the_window(song):
    received = []

    class Recorder(nn.Module):
        def forward(self, noise):
            received.append(noise)
            return noise[:, None, None]

    samples = torch.from_numpy(song[0].astype(np.float32))
    noise_baseline(Recorder(), samples)
    noise = received[0].double()
    assert noise.square().mean(dim=1).sqrt().numpy() == pytest.approx(float(samples.square().mean().sqrt()), rel=1e-4)
    power = torch.fft.rfft(noise).abs().square().mean(dim=0)
    frequencies = torch.fft.rfftfreq(noise.shape[1], 1 / RATE)
    octaves = [
        power[(frequencies >= low) & (frequencies < 2 * low)].mean().log10() * 10
        for low in (125, 250, 500, 1_000, 2_000)
    ]
    np.testing.assert_allclose(np.diff(octaves), -3.0, atol=0.4)


BACKBONE_CASES = [
    ("vgg16-slim", {"width": 0.1, "dense_units": 16}),
    ("torchvision/shufflenet_v2_x0_5", {}),
    ("torchvision/squeezenet1_1", {}),
    ("yamnet", {}),
    *([("timm/test_resnet", {}), ("timm/test_vit", {})] if importlib.util.find_spec("timm") else []),
]


@pytest.mark.parametrize(("name", "options"), BACKBONE_CASES, ids=[name for name, _ in BACKBONE_CASES])
def test_any_backbone_can_be_explained(name, options, song, monkeypatch):
    monkeypatch.setattr(explaining, "_STEPS", 4)  # for speed; the accuracy is tested above
    factory = BACKBONES.get(name)
    weights = {"weights": None} if BACKBONES.accepts(name, "weights") else {}
    audio = AudioSpec(16_000 if name == "yamnet" else RATE, window_seconds=3.0)
    feature, backbone = Component.of(factory.default_feature), Component(name, {**options, **weights})
    config = ModelConfig("random", ("a", "b", "c"), audio, feature, backbone)
    torch.manual_seed(0)
    classifier = musgenre.GenreClassifier(musgenre.GenreNetwork.from_config(config), config)
    shape = classifier.network.feature.out_shape(audio.window_samples)[1:]
    for method in METHODS:
        explanation = classifier.explain(song, method=method)
        assert explanation.saliency.shape == explanation.spectrogram.shape == shape
        assert np.isfinite(explanation.saliency).all()
        if method == "grad-cam":
            assert explanation.saliency.min() >= 0
        else:
            assert np.ptp(explanation.saliency) > 0
    bins_hz = explanation.bins_hz
    assert bins_hz.shape == (shape[0],)
    assert (np.diff(bins_hz) >= 0).all()
    assert 0 <= bins_hz[0] < bins_hz[-1] <= audio.sample_rate / 2


@pytest.mark.parametrize(
    ("name", "options"),
    [("vgg16-slim", {}), ("yamnet", {"weights": None}), ("yamnet", {"weights": None, "patches": False})],
)
def test_upsampled_map_cells_cover_their_receptive_field(name, options):
    torch.manual_seed(0)
    backbone = BACKBONES.build(name, {"in_channels": 1, **options}).eval()
    spectrogram = torch.randn(1, 1, 64, 298).requires_grad_()
    maps = []
    # A backbone may call the layers of a stage instead of the stage.
    hooks = [
        layer.register_forward_hook(lambda _, __, output: maps.append(output))
        for layer in backbone.stages()[3].modules()
    ]
    backbone(spectrogram)
    for hook in hooks:
        hook.remove()
    feature_map = maps[-1]
    for patch, row, column in [(0, 1, 1), (len(feature_map) - 1, feature_map.shape[2] - 2, feature_map.shape[3] - 2)]:
        (gradient,) = torch.autograd.grad(feature_map[patch, :, row, column].sum(), spectrogram, retain_graph=True)
        # Normalising the input gives every cell small gradients for the entire input.
        field = gradient[0, 0].abs() * (gradient[0, 0].abs() > 0.1 * gradient.abs().max())
        cell = torch.zeros(len(feature_map), 1, *feature_map.shape[2:])
        cell[patch, 0, row, column] = 1
        upsampled = backbone.upsample_maps(cell, size=(64, 298))
        assert upsampled.shape == (64, 298)
        for axis, cells in ((0, 64), (1, 298)):
            other = 1 - axis
            centres = [
                float((side.sum(dim=other) * torch.arange(cells)).sum() / side.sum()) for side in (field, upsampled)
            ]
            assert centres[0] == pytest.approx(centres[1], abs=16)


def test_explaining_does_not_change_the_classifier(bundled, recording):
    before = bundled.predict(recording).windows.probabilities
    state = copy.deepcopy(bundled.network.state_dict())
    failures = []

    def predict():
        if not np.array_equal(bundled.predict(recording).windows.probabilities, before):
            failures.append("prediction changed")

    thread = threading.Thread(target=predict)
    thread.start()
    first = bundled.explain(recording)
    thread.join()
    assert failures == []
    np.testing.assert_array_equal(bundled.predict(recording).windows.probabilities, before)
    assert all(torch.equal(tensor, state[name]) for name, tensor in bundled.network.state_dict().items())
    assert all(parameter.grad is None for parameter in bundled.network.parameters())
    assert not any(module._forward_hooks for module in bundled.network.modules())
    with torch.inference_mode():
        np.testing.assert_array_equal(bundled.explain(recording).saliency, first.saliency)


def test_messages_suggest_similar_names(two_bands, song, tmp_path):
    with pytest.raises(UnknownNameError, match=r"explanation method 'gradcam'. Did you mean 'grad-cam'"):
        two_bands.explain(song, method="gradcam")
    with pytest.raises(UnknownNameError, match=r"label 'his'. Did you mean 'hiss'"):
        two_bands.explain(song, label="his")
    for window in (3, -1):
        with pytest.raises(ParameterError, match="from 0 to 2"):
            two_bands.explain(song, window=window)
    with pytest.raises(AudioFileError):
        two_bands.explain(tmp_path / "missing.wav")


def test_message_without_captum_names_the_extra(two_bands, song, monkeypatch):
    monkeypatch.setitem(sys.modules, "captum.attr", None)
    with pytest.raises(ParameterError, match=r"musgenre\[explain\]"):
        Explainer(two_bands.network, two_bands.config)


def test_plot_shows_spectrogram_and_saliency_over_time_and_frequency(two_bands, song):
    explanation = two_bands.explain(song, label="hiss")
    ax = explanation.plot()
    spectrogram, saliency = ax.images
    np.testing.assert_allclose(spectrogram.get_array(), explanation.spectrogram)
    np.testing.assert_allclose(saliency.get_array(), explanation.saliency)
    assert spectrogram.get_extent() == saliency.get_extent() == [1.0, 2.0, -0.5, BINS - 0.5]
    assert ax.get_xlim() == (1.0, 2.0)
    assert ax.get_title(loc="left").startswith("Saliency for hiss (")
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("Time (s)", "Frequency (Hz)")
    labels_hz = [float(text.get_text().replace(",", "")) for text in ax.get_yticklabels()]
    np.testing.assert_allclose(np.interp(ax.get_yticks(), np.arange(BINS), explanation.bins_hz), labels_hz, rtol=1e-6)


def test_rows_without_frequencies_are_labelled_as_bins():
    explanation = Explanation("a", 0.5, 0.0, 1.0, np.ones((4, 6)), np.ones((4, 6)), "grad-cam")
    assert explanation.plot().get_ylabel() == "Bin"
