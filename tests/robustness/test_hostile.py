"""A sample of the inputs that nobody means well with; the programs beside this file try all of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="memory and paths are those of Linux"),
]
HERE = Path(__file__).parent


def run(program: str, *arguments: object) -> dict:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "COVERAGE_PROCESS_START": ""}
    command = [sys.executable, HERE / program, *map(str, arguments)]
    said = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300, env=environment)
    assert said.stdout, f"ended with {said.returncode}: {said.stderr[-2000:]}"
    summary = json.loads(said.stdout.splitlines()[-1])
    assert summary["failures"] == {}
    assert said.returncode == 0
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
