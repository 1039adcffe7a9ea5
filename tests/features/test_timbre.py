from __future__ import annotations

import librosa
import numpy as np

RATE = 22_050


def test_spectral_contrast_equals_librosa(signal, compute):
    expected = librosa.feature.spectral_contrast(y=signal, sr=RATE)
    np.testing.assert_allclose(compute("spectral-contrast", signal)[0], expected, rtol=0, atol=1e-5)


def test_other_bands(signal, compute):
    options = {"n_fft": 1024, "n_bands": 4, "quantile": 0.1}
    expected = librosa.feature.spectral_contrast(y=signal, sr=RATE, fmin=150.0, **options)
    found = compute("spectral-contrast", signal, f_min_hz=150.0, **options)[0]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
