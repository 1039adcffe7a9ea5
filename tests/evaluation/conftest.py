"""A classifier with known predictions, datasets that need no files, and stand-ins for training and saving figures."""

from __future__ import annotations

import zlib
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from musgenre.core.config import Prediction, Windows
from musgenre.datasets import Track, TrackDataset
from musgenre.evaluation import cross_validation, evaluate
from musgenre.evaluation import report as report_module
from musgenre.metrics import track_probabilities

LABELS = ("blues", "jazz", "metal", "pop", "rock")


class FakeClassifier:
    """Predicts probabilities that depend on the file name only; ``predicted_paths`` records the calls."""

    def __init__(self, labels=LABELS, *, salt=0, name="fake"):
        self.labels = labels
        self.config = SimpleNamespace(name=name, split="trained on 12 other tracks")
        self.salt = salt
        self.predicted_paths = []

    def window_probabilities(self, path):
        random = np.random.default_rng([zlib.crc32(str(path).encode()), self.salt])
        # Drawn for sorted labels, so that the order of the labels does not change the probabilities.
        drawn = random.dirichlet(np.full(len(self.labels), 0.6), size=random.integers(1, 5))
        return drawn[:, [sorted(self.labels).index(label) for label in self.labels]]

    def predict(self, path):
        self.predicted_paths.append(path)
        windows = self.window_probabilities(path)
        probabilities = dict(zip(self.labels, track_probabilities(windows).tolist(), strict=True))
        return Prediction(probabilities, Windows(3.0 * np.arange(len(windows)), windows), 9.0)


def _track(number, *, label, group=None):
    return Track(f"{number:03d}", Path(f"{number:03d}.wav"), label, group, duration_seconds=9.0)


def _dataset(size=60, *, per_group=3, labels=LABELS):
    tracks = [
        _track(n, label=labels[n // per_group % len(labels)], group=f"artist {n // per_group}") for n in range(size)
    ]
    return TrackDataset(tracks, labels=labels, name="made")


@pytest.fixture(scope="session")
def labels():
    return LABELS


@pytest.fixture(scope="session")
def fake_classifier():
    """The class of fake classifiers."""
    return FakeClassifier


@pytest.fixture(scope="session")
def make_track():
    """Creates a track: ``make_track(7, label="jazz", group="artist 2")``."""
    return _track


@pytest.fixture(scope="session")
def make_dataset():
    """Creates a dataset of five genres with three tracks for each artist: ``make_dataset(60)``."""
    return _dataset


@pytest.fixture(scope="session")
def report():
    """The report of the fake classifier on the dataset of 60 tracks."""
    return evaluate(FakeClassifier(), _dataset())


@pytest.fixture
def trainings(monkeypatch):
    """Replaces fine-tuning by a fake classifier and skips the intervals; the training set and seed of each call."""
    calls = []
    monkeypatch.setattr(report_module, "bootstrap_interval", lambda *_, **__: (0.0, 1.0))

    def finetune(train, *, backbone, feature, config, **options):
        calls.append((train, config.seed))
        finetune.options.append(options)
        return SimpleNamespace(classifier=FakeClassifier())

    finetune.options = []
    monkeypatch.setattr(cross_validation, "finetune", finetune)
    return calls


@pytest.fixture(scope="session")
def order_free():
    """Returns the values of scores that do not depend on the order of tracks or labels."""

    def values(scores):
        intervals = (*scores.accuracy_interval, *scores.macro_f1_interval)
        metrics = (scores.accuracy, scores.macro_f1, scores.top3_accuracy, scores.calibration_error)
        return (scores.count, *metrics, *intervals)

    return values
