"""mypy checks users' programs with the type hints of the installed package."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("mypy", reason="needs mypy, from the extra 'lint'")
HERE = Path(__file__).parent
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def errors(tmp_path_factory):
    """Errors of ``mypy --strict`` in both files, as file name to line number to error code, and its output."""
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file=", "--show-error-codes", "--no-color-output"]
    directory = tmp_path_factory.mktemp("user")
    done = subprocess.run(
        [*command, *HERE.glob("a_users_*.py")], capture_output=True, text=True, cwd=directory, timeout=600, check=False
    )
    assert done.returncode in (0, 1), done.stderr
    found: dict[str, dict[int, str]] = {}
    for path, line, code in re.findall(r"(\S+):(\d+): error: .*\[([\w-]+)\]", done.stdout):
        found.setdefault(Path(path).name, {})[int(line)] = code
    return found, done.stdout


def test_correct_program_passes(errors):
    found, output = errors
    assert "a_users_program.py" not in found, output
    assert set(found) == {"a_users_mistakes.py"}, output


def test_mistakes_are_reported(errors):
    found, output = errors
    lines = (HERE / "a_users_mistakes.py").read_text().splitlines()
    expected = {number: line.partition("  # ")[2] for number, line in enumerate(lines, start=1) if "  # " in line}
    assert found["a_users_mistakes.py"] == expected, output
