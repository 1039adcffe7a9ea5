"""The path of one prediction through the package stays short enough to be read."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def recorded():
    """Lines of ``scripts/call_path.py``, and the files that call each file, from a fresh interpreter."""
    code = (
        f"import json, sys; sys.path.insert(0, {str(ROOT / 'scripts')!r})\n"
        "import call_path; recorder = call_path.record()\n"
        "callers = {file: sorted(found) for file, found in recorder.callers.items()}\n"
        "print(json.dumps([call_path.lines(recorder), callers]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_at_most_eight_files_each_entered_from_at_most_two_others(recorded):
    lines, callers = recorded
    files = [line.partition(":")[0] for line in lines if not line.startswith("functional/")]
    assert 4 < len(files) <= 8, files
    assert {file: found for file, found in callers.items() if file in files and len(found) > 2} == {}


@pytest.mark.skipif(sys.version_info < (3, 11), reason="older versions do not know the qualified names of functions")
def test_the_documentation_shows_the_path(recorded):
    page = (ROOT / "docs" / "explanation" / "architecture.md").read_text(encoding="utf-8")
    assert "\n".join(recorded[0]) in page, "\n".join(recorded[0])
