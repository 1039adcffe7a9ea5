"""A type checker reads the installed package's types, in a user's program."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("mypy", reason="needs mypy, which the extra 'lint' brings")
HERE = Path(__file__).parent
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def said(tmp_path_factory):
    """What ``mypy --strict`` says of both files: a dict of file name to what it says of its lines."""
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file=", "--show-error-codes", "--no-color-output"]
    place = tmp_path_factory.mktemp("somewhere")
    done = subprocess.run(
        [*command, *HERE.glob("a_users_*.py")], capture_output=True, text=True, cwd=place, timeout=600, check=False
    )
    assert done.returncode in (0, 1), done.stderr
    found: dict[str, dict[int, str]] = {}
    for path, line, code in re.findall(r"(\S+):(\d+): error: .*\[([\w-]+)\]", done.stdout):
        found.setdefault(Path(path).name, {})[int(line)] = code
    return found, done.stdout


def test_a_program_that_is_right_passes(said):
    found, text = said
    assert "a_users_program.py" not in found, text
    assert set(found) == {"a_users_mistakes.py"}, text


def test_mistakes_are_found(said):
    found, text = said
    lines = (HERE / "a_users_mistakes.py").read_text().splitlines()
    expected = {place: line.partition("  # ")[2] for place, line in enumerate(lines, start=1) if "  # " in line}
    assert found["a_users_mistakes.py"] == expected, text
