"""Signals that features are compared on with librosa."""

from __future__ import annotations

from pathlib import Path

import librosa
import numpy as np
import pytest

import musgenre

RATE = 22_050


def _signals() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    time = np.arange(3 * RATE) / RATE
    chord = sum(np.sin(2 * np.pi * k * root * time) / k for root in (220, 277.18, 329.63) for k in (1, 2, 3))
    clicks = librosa.clicks(times=np.arange(0.1, 3, 0.5), sr=RATE, length=3 * RATE)
    demo, _ = librosa.load(Path(musgenre.__file__).parent / "assets" / "demo.ogg", sr=RATE, offset=5, duration=6)
    signals = {
        "chirp": librosa.chirp(fmin=60, fmax=8000, duration=3, sr=RATE),
        "chord": chord / 6,
        "clicks": clicks + 1e-4 * rng.normal(size=clicks.size),
        "noise": 0.2 * rng.normal(size=2 * RATE),
        "demo": demo,
        "short": rng.normal(size=500),
        "silence": np.zeros(RATE),
    }
    return {name: signal.astype(np.float64) for name, signal in signals.items()}


SIGNALS = _signals()


@pytest.fixture(params=SIGNALS)
def signal(request: pytest.FixtureRequest) -> np.ndarray:
    """A signal in float64 at 22,050 Hz: a chirp, a chord, clicks, noise, music; one of 500 samples, and silence."""
    return SIGNALS[request.param]
