"""The package tree of the architecture page, which is generated from the code."""

from __future__ import annotations

import importlib
import importlib.util
import operator
import re
from pathlib import Path

import pytest

pytest.importorskip("sphinx", reason="needs the extra 'docs'")
DOCS = Path(__file__).parents[2] / "docs"
EXTENSION = DOCS / "_ext" / "layers.py"


@pytest.fixture(scope="module")
def layers():
    spec = importlib.util.spec_from_file_location("layers", EXTENSION)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_tree_lists_every_module_of_every_layer(layers):
    root = layers.package_root()
    packages = {package for layer in layers.read_layers() for package in layer}
    assert packages == {path.parent.name for path in root.glob("*/__init__.py")}
    modules = [path for path in root.rglob("*.py") if path.relative_to(root).parts[0] in packages]
    assert layers.package_tree().count("\n") == len(modules)


def test_every_module_has_a_summary(layers):
    lines = layers.package_tree().splitlines()
    assert [line for line in lines if len(line.split(maxsplit=1)) < 2] == []


def test_functions_of_the_call_path_exist():
    page = (DOCS / "explanation" / "architecture.md").read_text(encoding="utf-8")
    steps = re.findall(r"`([\w/]+)\.py:([\w.]+)`", page)
    assert len(steps) >= 8
    for module, function in steps:
        found = importlib.import_module(f"musgenre.{module.replace('/', '.')}")
        assert callable(operator.attrgetter(function)(found))
