"""Fixtures and hooks that all tests share."""

from __future__ import annotations

import faulthandler
import functools
import gc
import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

# Limit of a test that is marked slow and has no limit of its own. "timeout" in pyproject.toml limits the others.
SLOW_TIMEOUT_SECONDS = 600
EXIT_TIMEOUT_SECONDS = 60


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Raise the time limit of the tests that are marked slow."""
    for item in items:
        if item.get_closest_marker("slow") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(SLOW_TIMEOUT_SECONDS))


def pytest_collection_finish() -> None:
    """Exclude the imported modules and the collected tests from garbage collection, which else takes seconds."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Seed PyTorch before each test, so that failures are reproducible."""
    torch.manual_seed(0)


def pytest_unconfigure() -> None:
    """Limit the time that the interpreter has to exit after the last test.

    At exit, Python waits for all threads that are not daemons. If one of them never ends, the process ends after
    ``EXIT_TIMEOUT_SECONDS`` with exit code 1 and prints the stacks of all threads. The watchdog is a native thread: it
    works while the interpreter shuts down, and forked processes do not inherit it.

    The watchdog is armed only if this process exits after the tests. A worker of pytest-xdist waits for the other
    workers, and is killed by pytest-xdist if it does not exit; a notebook that calls ``pytest.main`` continues.
    """
    gc.unfreeze()
    if "pytest" in sys.argv[0] and "PYTEST_XDIST_WORKER" not in os.environ:
        faulthandler.dump_traceback_later(EXIT_TIMEOUT_SECONDS, exit=True, file=sys.__stderr__)


@pytest.fixture
def saved_figures(monkeypatch):
    """The figures that were saved, in order."""
    from matplotlib.figure import Figure

    saved, save = [], Figure.savefig

    def record(self, *args, **kwargs):
        saved.append(self)
        return save(self, *args, **kwargs)

    monkeypatch.setattr(Figure, "savefig", record)
    return saved


@pytest.fixture(scope="session")
def waveform() -> np.ndarray:
    """Return six seconds of stereo at 44,100 Hz, ``(samples, channels)``: sweeps, a beat and noise."""
    rng = np.random.default_rng(0)
    time = np.arange(6 * 44_100) / 44_100
    left = 0.3 * np.sin(2 * np.pi * (220 + 40 * time) * time) * (0.6 + 0.4 * np.sign(np.sin(2 * np.pi * 2 * time)))
    right = 0.2 * np.sin(2 * np.pi * 1_300 * time) + 0.05 * rng.standard_normal(time.size)
    return np.stack((left, right), axis=1).astype(np.float32)


SIGNALS = ("chirp", "chord", "clicks", "noise", "demo", "short", "silence")


@functools.cache
def _signals() -> dict[str, np.ndarray]:
    import librosa

    import musgenre

    rate = 22_050
    rng = np.random.default_rng(0)
    time = np.arange(3 * rate) / rate
    chord = sum(np.sin(2 * np.pi * k * root * time) / k for root in (220, 277.18, 329.63) for k in (1, 2, 3))
    clicks = librosa.clicks(times=np.arange(0.1, 3, 0.5), sr=rate, length=3 * rate)
    demo, _ = librosa.load(Path(musgenre.__file__).parent / "assets" / "demo.ogg", sr=rate, offset=5, duration=6)
    signals = {
        "chirp": librosa.chirp(fmin=60, fmax=8000, duration=3, sr=rate),
        "chord": chord / 6,
        "clicks": clicks + 1e-4 * rng.normal(size=clicks.size),
        "noise": 0.2 * rng.normal(size=2 * rate),
        "demo": demo,
        "short": rng.normal(size=500),
        "silence": np.zeros(rate),
    }
    return {name: signal.astype(np.float64) for name, signal in signals.items()}


@pytest.fixture(params=SIGNALS)
def signal(request: pytest.FixtureRequest) -> np.ndarray:
    """A signal in float64 at 22,050 Hz for comparisons with librosa: tones, clicks, noise, music or silence."""
    return _signals()[request.param]


@pytest.fixture(scope="session")
def song(waveform: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Return a function that writes the waveform: ``song("WAV")``, ``song("MP3", bitrate_mode="VARIABLE")``.

    Files are shared between tests and must not be changed.
    """
    folder = tmp_path_factory.mktemp("songs")
    written: dict[str, Path] = {}

    def write(kind: str, **options: object) -> Path:
        key = f"{kind}{options}"
        if key not in written:
            written[key] = folder / f"{len(written)}.{kind.lower()}"
            soundfile.write(written[key], waveform, 44_100, format=kind, **options)
        return written[key]

    return write


@pytest.fixture(scope="session")
def gtzan_folder() -> Path:
    """Return the directory of real music in GTZAN's layout; skip if ``MUSGENRE_TEST_GTZAN`` is not set."""
    folder = os.environ.get("MUSGENRE_TEST_GTZAN")
    if not folder:
        pytest.skip("MUSGENRE_TEST_GTZAN is not set")
    return Path(folder)


@pytest.fixture(scope="session")
def genre_folder(tmp_path_factory):
    """Return a directory of two genres, each with four files of 2 s at 8 kHz: chords ("drone") and noise ("hiss")."""
    folder = tmp_path_factory.mktemp("genres")
    generator = np.random.default_rng(0)
    time = np.arange(2 * 8_000) / 8_000
    for number in range(4):
        chord = sum(np.sin(2 * np.pi * 110 * (number + 2) * step * time) for step in (1, 1.25, 1.5)) / 4
        for genre, song in (("drone", chord), ("hiss", generator.normal(scale=0.2, size=time.size))):
            path = folder / genre / f"{number}.wav"
            path.parent.mkdir(exist_ok=True)
            soundfile.write(path, song, 8_000)
    return folder


@pytest.fixture
def two_threads():
    """Let PyTorch use two threads, regardless of the number of cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)
