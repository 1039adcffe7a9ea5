from __future__ import annotations

import librosa
import numpy as np
import pytest

RATE = 22_050


@pytest.mark.parametrize("win_length", [384, 101])
def test_tempogram_equals_librosa(signal, win_length, compute):
    expected = librosa.feature.tempogram(y=signal, sr=RATE, win_length=win_length)
    found = compute("tempogram", signal, win_length=win_length)[0]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9)


def test_harmonic_percussive_equals_librosa(signal, compute):
    components = librosa.decompose.hpss(np.abs(librosa.stft(signal)))
    bands = np.concatenate([librosa.feature.melspectrogram(S=magnitude**2, sr=RATE) for magnitude in components])
    expected = librosa.power_to_db(bands, ref=np.max) / 40 + 1
    np.testing.assert_allclose(compute("hpss", signal).reshape(bands.shape), expected, rtol=0, atol=1e-6)
