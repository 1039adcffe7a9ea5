"""Results do not depend on the batch size or the number of threads."""

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


def test_batch_size_and_threads_do_not_matter(threads) -> None:
    classifier = GenreClassifier.from_pretrained(device="cpu")
    probabilities, windows, embeddings = [], [], []
    for count, size in ((1, 1), (1, 3), (1, 64), (2, 1), (2, 5), (4, 5)):
        threads(count)
        predictions = classifier.predict(songs(), batch_size=size)
        probabilities.append([list(prediction.probabilities.values()) for prediction in predictions])
        windows.append(np.concatenate([prediction.windows.probabilities for prediction in predictions]))
        embeddings.append(classifier.embed(songs(), batch_size=size))
    assert np.ptp(probabilities, axis=0).max() < 1e-4
    assert np.ptp(windows, axis=0).max() < 1e-4
    assert np.ptp(embeddings, axis=0).max() < 1e-4 * np.abs(embeddings).max()


@pytest.mark.slow
def test_check_versions_compares_with_its_own_output(tmp_path: Path) -> None:
    command, path = [sys.executable, PROGRAM], tmp_path / "figures.json"
    subprocess.run([*command, "write", path], check=True, timeout=300)
    figures = json.loads(path.read_text())
    assert figures["versions"]["torch"] == torch.__version__.partition("+")[0]
    for change, code, message in (
        (0.0, 0, "maximum difference of the probabilities 0\n"),
        (0.0011, 1, "maximum difference of the probabilities 0.0011\n"),
    ):
        figures["probabilities"]["noise"][0] += change
        path.write_text(json.dumps(figures))
        completed = subprocess.run(
            [*command, "compare", path], check=False, timeout=300, capture_output=True, text=True
        )
        assert completed.returncode == code, completed.stderr
        assert message in completed.stdout
