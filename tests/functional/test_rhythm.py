from __future__ import annotations

import librosa
import numpy as np
import torch

from musgenre import functional

RATE = 22_050


def test_onset_strength_equals_librosa(signal):
    decibel = librosa.power_to_db(librosa.feature.melspectrogram(y=signal, sr=RATE))
    found = functional.onset_strength(torch.from_numpy(decibel))
    np.testing.assert_allclose(found, librosa.onset.onset_strength(y=signal, sr=RATE), rtol=0, atol=1e-9)
