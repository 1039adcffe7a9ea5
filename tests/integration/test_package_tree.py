"""The package tree of the architecture page, which is generated from the code."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

pytest.importorskip("sphinx", reason="needs the extra 'docs'")
EXTENSION = Path(__file__).parents[2] / "docs" / "_ext" / "layers.py"


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
