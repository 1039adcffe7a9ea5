from __future__ import annotations

import librosa
import numpy as np
import pytest
import scipy.stats

from musgenre.features import FEATURES
from musgenre.features.stats import PITCHES

RATE = 22_050


def test_equals_librosa(signal, compute):
    names = FEATURES.build("stats", {"sample_rate": RATE}).names
    vector = dict(zip(names, compute("stats", signal)[0, :, 0], strict=True))
    chroma = librosa.feature.chroma_stft(y=signal, sr=RATE, tuning=0.0)
    contrast = librosa.feature.spectral_contrast(y=signal, sr=RATE)
    rows = {
        **{f"mfcc_{i}": row for i, row in enumerate(librosa.feature.mfcc(y=signal, sr=RATE))},
        **{f"chroma_{pitch}": row for pitch, row in zip(PITCHES, chroma, strict=True)},
        **{f"spectral_contrast_{i}": row for i, row in enumerate(contrast)},
        **{f"tonnetz_{i}": row for i, row in enumerate(librosa.feature.tonnetz(chroma=chroma))},
        "spectral_centroid": librosa.feature.spectral_centroid(y=signal, sr=RATE)[0],
        "spectral_bandwidth": librosa.feature.spectral_bandwidth(y=signal, sr=RATE)[0],
        "spectral_rolloff": librosa.feature.spectral_rolloff(y=signal, sr=RATE)[0],
        "spectral_flatness": librosa.feature.spectral_flatness(y=signal)[0],
        "zero_crossing_rate": librosa.feature.zero_crossing_rate(signal)[0],
        "rms": librosa.feature.rms(y=signal, dtype=np.float64)[0],
    }
    assert set(vector) == {f"{name}_{moment}" for name in rows for moment in ("mean", "std", "skew")} | {"tempo"}
    # The tempo of a constant tempogram is arbitrary.
    if signal.any() and signal.size > 500:
        assert vector["tempo"] == pytest.approx(librosa.feature.tempo(y=signal, sr=RATE)[0])
    for name, row in rows.items():
        scale = max(1.0, np.abs(row).max())
        assert vector[f"{name}_mean"] == pytest.approx(row.mean(), abs=1e-6 * scale), name
        assert vector[f"{name}_std"] == pytest.approx(row.std(), abs=1e-5 * scale), name
        if row.std() > 1e-6 * scale:  # otherwise, the skewness is that of rounding errors
            assert vector[f"{name}_skew"] == pytest.approx(scipy.stats.skew(row), abs=1e-3), name


def test_pitch_names():
    assert PITCHES == ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")
