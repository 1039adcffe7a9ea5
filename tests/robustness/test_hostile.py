"""A sample of malicious inputs; the programs in this directory test all of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="needs the memory figures and paths of Linux"),
]
HERE = Path(__file__).parent


def run(program: str, *arguments: object) -> dict:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "COVERAGE_PROCESS_START": ""}
    command = [sys.executable, HERE / program, *map(str, arguments)]
    completed = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300, env=environment)
    assert completed.stdout, f"exited with {completed.returncode}: {completed.stderr[-2000:]}"
    summary = json.loads(completed.stdout.splitlines()[-1])
    assert summary["failures"] == {}
    assert completed.returncode == 0
    return summary


def test_hostile_audio(tmp_path: Path) -> None:
    summary = run("hostile_audio.py", "--every", 20, "--folder", tmp_path)
    assert summary["inputs"] > 500
    assert {"Prediction", "AudioFileError", "AudioError"} == set(summary["results"])
    assert all(count > 20 for count in summary["results"].values())


def test_hostile_models() -> None:
    summary = run("hostile_models.py", "--count", 300)
    assert summary["inputs"] == 300
    assert {"Prediction", "ConfigError", "WeightsError"} <= set(summary["results"])
