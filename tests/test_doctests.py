"""Runs the examples in the docstrings of every module of the installed package."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
from pathlib import Path

import pytest

import musgenre

FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def _fail(name: str) -> None:
    raise ImportError(f"{name} cannot be imported")


MODULES = [
    "musgenre",
    *(found.name for found in pkgutil.walk_packages(musgenre.__path__, prefix="musgenre.", onerror=_fail)),
]


@pytest.mark.parametrize("name", MODULES)
def test_examples(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    results = doctest.testmod(importlib.import_module(name), optionflags=FLAGS, report=True)
    assert results.failed == 0, f"{results.failed} of {results.attempted} examples of {name} fail; see above"


def test_every_module_is_looked_at():
    files = [path.relative_to(Path(musgenre.__file__).parent) for path in Path(musgenre.__file__).parent.rglob("*.py")]
    parts = {(*path.parent.parts, path.stem) if path.stem != "__init__" else path.parent.parts for path in files}
    assert {".".join(("musgenre", *part)) for part in parts} == set(MODULES)


def test_there_are_examples():
    finder = doctest.DocTestFinder(exclude_empty=True)
    counted = sum(len(test.examples) for name in MODULES for test in finder.find(importlib.import_module(name)))
    assert counted > 50


def test_a_wrong_example_fails():
    parser = doctest.DocTestParser()
    runner = doctest.DocTestRunner(optionflags=FLAGS)
    wrong = parser.get_doctest(">>> 1 + 1\n3\n", {}, "wrong", None, None)
    assert runner.run(wrong, out=lambda _: None).failed == 1
