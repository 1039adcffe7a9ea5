"""The number of files that a prediction passes through, and its documented call path."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def recorded():
    """Pairs of file and function, and the files that call each file, recorded in a fresh interpreter."""
    code = (
        f"import json, sys; sys.path.insert(0, {str(ROOT / 'scripts')!r})\n"
        "import call_path; recorder = call_path.record()\n"
        "callers = {file: sorted(found) for file, found in recorder.callers.items()}\n"
        "print(json.dumps([list(recorder.functions), callers]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_at_most_eight_files_each_entered_from_at_most_two_others(recorded):
    functions, callers = recorded
    files = {file for file, _ in functions if not file.startswith("functional/")}
    assert 4 < len(files) <= 8, files
    assert {file: found for file, found in callers.items() if file in files and len(found) > 2} == {}


@pytest.mark.skipif(sys.version_info < (3, 11), reason="qualified names of code objects need Python 3.11")
def test_documented_path_matches_the_recorded_path(recorded):
    page = (ROOT / "docs" / "explanation" / "architecture.md").read_text(encoding="utf-8")
    section = page.partition("## Call path of a prediction")[2].partition("\n## ")[0]
    documented = re.findall(r"`([\w/]+\.py):([\w.]+)`", section)
    assert {file for file, _ in documented} == {file for file, _ in recorded[0] if not file.startswith("functional/")}
    for file, name in documented:
        assert any(file == found and (f"{function}.").startswith(f"{name}.") for found, function in recorded[0]), name
