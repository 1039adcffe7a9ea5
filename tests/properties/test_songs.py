"""Properties of predictions for every track and network; the tests of each package contain its own properties."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from musgenre.audio import AudioWindows, load
from musgenre.core.config import AudioSpec

RATE = 8_000
SETTINGS = settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
Samples = npt.NDArray[np.float32]


@st.composite
def songs(draw: st.DrawFn, *, shortest: float = 0.1, longest: float = 1.7) -> Samples:
    """Noise and an amplitude-modulated tone, so that all windows differ."""
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    time = np.arange(draw(st.integers(int(shortest * RATE), int(longest * RATE)))) / RATE
    tone = np.sin(2 * np.pi * random.uniform(100, 3_500) * time) * np.sin(2 * np.pi * random.uniform(0.3, 4) * time)
    return (0.05 * random.normal(size=time.size) + 0.3 * tone).astype(np.float32)


def test_predictions_depend_on_the_window(classifier):
    """Otherwise the properties below would be trivial."""
    time = np.arange(4 * RATE) / RATE
    sweep = np.sin(2 * np.pi * (100 + 400 * time) * time).astype(np.float32)
    probabilities = classifier.predict((sweep, RATE)).windows.probabilities
    assert (probabilities.std(axis=0) > 0.05).any()
    assert len(set(probabilities.argmax(axis=1))) > 1


class TestPredictions:
    @SETTINGS
    @given(song=songs(), batch_size=st.integers(1, 12))
    def test_batch_size_does_not_matter(self, classifier, song, batch_size):
        single = classifier.predict((song, RATE), batch_size=1).windows
        together = classifier.predict((song, RATE), batch_size=batch_size).windows
        np.testing.assert_array_equal(together.start_seconds, single.start_seconds)
        np.testing.assert_allclose(together.probabilities, single.probabilities, atol=1e-4)

    @SETTINGS
    @given(several=st.lists(songs(), max_size=5))
    def test_tracks_are_independent(self, classifier, several):
        expected = [classifier.predict((song, RATE)) for song in several]
        for results in (
            classifier.predict([(song, RATE) for song in several]),
            list(classifier.predict_iter((song, RATE) for song in several)),
        ):
            assert [result.duration_seconds for result in results] == [single.duration_seconds for single in expected]
            for single, result in zip(expected, results, strict=True):
                np.testing.assert_allclose(single.windows.probabilities, result.windows.probabilities, atol=1e-4)

    @SETTINGS
    @given(song=songs(), channels=st.integers(2, 6))
    def test_equal_channels_equal_mono(self, classifier, song, channels):
        mono = classifier.predict((song, RATE))
        several = classifier.predict((np.tile(song, (channels, 1)), RATE))
        np.testing.assert_allclose(several.windows.probabilities, mono.windows.probabilities, atol=1e-4)
        assert several.duration_seconds == mono.duration_seconds

    @SETTINGS
    @given(song=songs(shortest=0.3), hops=st.integers(1, 4))
    def test_a_shift_by_hops_shifts_the_windows(self, classifier, song, hops):
        silence = np.zeros(hops * classifier.config.audio.hop_samples, np.float32)
        original = classifier.predict((song, RATE)).windows
        shifted = classifier.predict((np.concatenate((silence, song)), RATE)).windows
        np.testing.assert_allclose(shifted.start_seconds[hops:], original.start_seconds + silence.size / RATE)
        np.testing.assert_allclose(shifted.probabilities[hops:], original.probabilities, atol=1e-4)

    @SETTINGS
    @given(song=songs(), gain_db=st.floats(-40, 40))
    def test_gain_does_not_change_the_label(self, classifier, song, gain_db):
        original = classifier.predict((song, RATE))
        louder = classifier.predict((song * np.float32(10 ** (gain_db / 20)), RATE))
        np.testing.assert_allclose(louder.windows.probabilities, original.windows.probabilities, atol=1e-3)
        first, second = (probability for _, probability in original.top(2))
        assert louder.label == original.label or first - second < 2e-3

    @SETTINGS
    @given(song=songs())
    def test_probabilities_sum_to_one_in_the_order_of_the_labels(self, classifier, song):
        prediction = classifier.predict((song, RATE))
        assert tuple(prediction.probabilities) == classifier.labels
        np.testing.assert_allclose(prediction.windows.probabilities.sum(axis=1), 1, atol=1e-9)
        assert abs(sum(prediction.probabilities.values()) - 1) < 1e-9
        row = classifier.predict_proba([(song, RATE)])[0]
        np.testing.assert_array_equal(row, list(prediction.probabilities.values()))
        assert prediction.label == classifier.labels[row.argmax()]


class TestAudio:
    @SETTINGS
    @given(
        samples=st.integers(100, 4_000),
        window=st.integers(1, 500),
        hop_share=st.floats(0.01, 1),
    )
    def test_windows_cover_every_sample(self, samples, window, hop_share):
        spec = AudioSpec(1_000, window_seconds=window / 1_000, hop_seconds=max(1, int(hop_share * window)) / 1_000)
        song = np.arange(samples, dtype=np.float32) / samples
        covered = np.zeros(samples, bool)
        for start_seconds, window_samples in AudioWindows((song, 1_000), spec):
            start = round(start_seconds * 1_000)
            assert window_samples.shape == (window,)
            expected = song[start : start + window] if samples >= window else np.resize(song, window)
            np.testing.assert_array_equal(window_samples, expected)
            covered[start : start + window] = True
        assert covered.all()

    @SETTINGS
    @given(
        rates=st.tuples(*[st.sampled_from([8_000, 11_025, 16_000, 22_050, 32_000, 44_100, 48_000, 96_000])] * 2),
        share=st.floats(0.02, 0.9),
    )
    def test_resampling_preserves_the_frequency_of_a_tone(self, rates, share):
        rate, target_rate = rates
        frequency = share * min(rates) / 2
        time = np.arange(rate) / rate
        tone = load(((0.5 * np.sin(2 * np.pi * frequency * time)).astype(np.float32), rate), sample_rate=target_rate)
        assert tone.size == target_rate
        spectrum = np.abs(np.fft.rfft(tone * np.hanning(tone.size)))  # one second: bins of 1 Hz
        assert abs(int(spectrum.argmax()) - frequency) <= 1
        near = np.abs(np.arange(spectrum.size) - frequency) < 20
        assert np.square(spectrum[~near]).sum() < 1e-4 * np.square(spectrum).sum()
        middle = tone[target_rate // 4 : -target_rate // 4]
        assert abs(np.sqrt(np.square(middle).mean()) - 0.5 / np.sqrt(2)) < 0.01
