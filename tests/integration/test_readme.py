"""The example of the README, run as doctest."""

from __future__ import annotations

import doctest
from pathlib import Path

README = Path(__file__).parents[2] / "README.md"


def test_example_prints_the_documented_output(monkeypatch):
    monkeypatch.chdir(README.parent)
    # The closing fence of Markdown would otherwise be part of the expected output.
    text = README.read_text(encoding="utf-8").replace("```", "")
    test = doctest.DocTestParser().get_doctest(text, {}, README.name, str(README), 0)
    assert test.examples
    assert doctest.DocTestRunner().run(test).failed == 0
