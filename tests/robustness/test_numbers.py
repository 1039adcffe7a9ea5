"""The same song gives the same figures, however the work is divided."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from musgenre.models.classifier import GenreClassifier

ROOT = Path(__file__).parents[2]
PROGRAM = ROOT / "scripts" / "check_versions.py"


def songs() -> list[tuple[np.ndarray, int]]:
    time = np.arange(20 * 22_050) / 22_050
    noise = np.random.default_rng(0).normal(scale=0.1, size=time.size)
    beat = (time % 0.5 < 0.05) * noise * 4
    chord = sum(np.sin(2 * np.pi * 110 * step * time) for step in (1, 1.25, 1.5)) * 0.2
    return [((chord + beat).astype(np.float32), 22_050), (noise.astype(np.float32), 22_050)]


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def test_batches_and_threads_change_nothing_that_matters(threads) -> None:
    classifier = GenreClassifier.from_pretrained(device="cpu")
    found, windows, vectors = [], [], []
    for count, size in ((1, 1), (1, 3), (1, 64), (2, 1), (2, 5), (4, 5)):
        threads(count)
        predictions = classifier.predict(songs(), batch_size=size)
        found.append([list(prediction.probabilities.values()) for prediction in predictions])
        windows.append(np.concatenate([prediction.windows.probabilities for prediction in predictions]))
        vectors.append(classifier.embed(songs(), batch_size=size))
    assert np.ptp(found, axis=0).max() < 1e-4
    assert np.ptp(windows, axis=0).max() < 1e-4
    assert np.ptp(vectors, axis=0).max() < 1e-4 * np.abs(vectors).max()


@pytest.mark.slow
def test_the_program_that_compares_versions_agrees_with_itself(tmp_path: Path) -> None:
    command, kept = [sys.executable, PROGRAM], tmp_path / "figures.json"
    subprocess.run([*command, "write", kept], check=True, timeout=300)
    figures = json.loads(kept.read_text())
    assert figures["versions"]["torch"] == torch.__version__.partition("+")[0]
    for change, code, said in ((0.0, 0, "at most 0 apart"), (0.0011, 1, "at most 0.0011 apart")):
        figures["probabilities"]["noise"][0] += change
        kept.write_text(json.dumps(figures))
        again = subprocess.run([*command, "compare", kept], check=False, timeout=300, capture_output=True, text=True)
        assert again.returncode == code, again.stderr
        assert said in again.stdout
