"""Project rules that no linter checks: positional parameters, debugging code, cheap imports and mirrored tests."""

from __future__ import annotations

import ast
import importlib.util
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

import musgenre
from musgenre.core.config import AudioSpec, Component, ModelConfig
from musgenre.models import serialization as weights
from musgenre.models.network import GenreNetwork

PACKAGE = Path(musgenre.__file__).parent
TESTS = Path(__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))
SUBPACKAGES = sorted(path.parent.name for path in PACKAGE.glob("*/__init__.py"))
MAX_POSITIONAL = 2
Function = ast.FunctionDef | ast.AsyncFunctionDef


def _functions(tree: ast.Module) -> Iterator[tuple[Function, bool]]:
    """Yield every function, and whether it is a method with ``self`` or ``cls``."""
    methods = {
        id(child)
        for parent in ast.walk(tree)
        if isinstance(parent, ast.ClassDef)
        for child in parent.body
        if isinstance(child, Function) and "staticmethod" not in {ast.unparse(mark) for mark in child.decorator_list}
    }
    for node in ast.walk(tree):
        if isinstance(node, Function):
            yield node, id(node) in methods


def find_violations(source: str) -> list[str]:
    """Return the violations of the project rules in the source code of a module."""
    tree = ast.parse(source)
    found = []
    for function, is_method in _functions(tree):
        positional = len(function.args.posonlyargs) + len(function.args.args) - is_method
        if positional > MAX_POSITIONAL:
            found.append(f"{function.name}: {positional} positional parameters")
    for node in ast.walk(tree):
        if isinstance(node, ast.Assert):
            found.append(f"line {node.lineno}: assert")
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print":
            found.append(f"line {node.lineno}: print")
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_source_follows_the_rules(path):
    assert find_violations(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("\n" * 1000, []),
        ("def f(a, b, *, c, d, e, g, h, i): pass", []),
        ("def f(*a, b, c, d, e, g, **h): pass", []),
        ("def f(a, b, c): pass", ["f: 3 positional parameters"]),
        ("def f(a, b, /, c): pass", ["f: 3 positional parameters"]),
        ("class A:\n  def f(self, a, b): pass", []),
        ("class A:\n  @staticmethod\n  def f(a, b, c): pass", ["f: 3 positional parameters"]),
        ("class A:\n  async def f(self, a, b, c): pass", ["f: 3 positional parameters"]),
        ("def f():\n  def g(a, b, c): pass", ["g: 3 positional parameters"]),
        ("assert 1\nprint(2)", ["line 1: assert", "line 2: print"]),
        ('"""print(1); assert 2"""', []),
    ],
)
def test_violations_are_found(source, expected):
    assert find_violations(source) == expected


def test_every_package_has_a_test_directory():
    missing = [name for name in SUBPACKAGES if not any((TESTS / name).glob("test_*.py"))]
    assert missing == []


def _loaded(code: str, *modules: str) -> set[str]:
    """Return which of the modules a new interpreter has loaded after running the code."""
    tail = f"\nimport sys, json; print(json.dumps([name for name in {modules!r} if name in sys.modules]))"
    done = subprocess.run([sys.executable, "-c", code + tail], capture_output=True, text=True, check=False, timeout=110)
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


HEAVY = ("torch", "torchvision", "lightning", "librosa", "sklearn", "matplotlib", "scipy", "huggingface_hub", "numpy")


@pytest.mark.parametrize(
    "code",
    [
        "import musgenre",
        "import musgenre; dir(musgenre), musgenre.features, musgenre.backbones, musgenre.datasets, musgenre.transforms",
        "import musgenre.core.registry, musgenre.core.errors",
    ],
    ids=["package", "subpackages", "registry"],
)
def test_importing_loads_no_heavy_module(code):
    assert _loaded(code, *HEAVY) == set()


def test_loaded_modules_are_found():
    assert _loaded("import musgenre; musgenre.AudioSpec", *HEAVY) == {"numpy"}


def test_predicting_loads_no_training_module(tmp_path):
    component = Component("vgg16-slim", {"width": 0.05, "dense_units": 8})
    config = ModelConfig("tiny", ("jazz", "rock"), AudioSpec(), Component("logmel"), component)
    weights.save(tmp_path / "model", config=config, network=GenreNetwork.from_config(config))
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 44_100 * 4)
    soundfile.write(tmp_path / "song.wav", noise, 44_100)
    code = (
        "import musgenre\n"
        f"classifier = musgenre.GenreClassifier.from_pretrained({str(tmp_path / 'model')!r})\n"
        f"print(classifier.predict({str(tmp_path / 'song.wav')!r}).label)\n"
    )
    unused = ("lightning", "pytorch_lightning", "torchvision", "sklearn", "matplotlib", "ray", "huggingface_hub")
    assert _loaded(code, "torch", "soundfile", *unused) == {"torch", "soundfile"}


def test_listing_loads_no_implementation():
    code = "from musgenre.backbones.base import BACKBONES; from musgenre.features.base import FEATURES\n"
    listing = "print(BACKBONES.names(), FEATURES.entries())"
    assert _loaded(code + listing, "musgenre.backbones.vgg", "musgenre.features.spectral", "torchvision") == set()


@pytest.mark.parametrize(
    "name", ["", ".features", ".backbones", ".datasets", ".transforms"], ids=lambda name: f"musgenre{name}"
)
def test_every_public_name_resolves(name):
    package = importlib.import_module(f"musgenre{name}")
    assert len(package.__all__) == len(set(package.__all__)) > 0
    for public in package.__all__:
        assert getattr(package, public) is not None
        assert public in dir(package)
    with pytest.raises(AttributeError):
        package.not_a_name  # noqa: B018


def test_documented_names_are_public():
    documented = {"GenreClassifier", "finetune", "datasets", "register_backbone", "register_feature", "features"}
    assert documented <= set(musgenre.__all__)


@pytest.mark.slow
@pytest.mark.parametrize(
    "code",
    [
        "import musgenre.training.finetune; import musgenre",
        "import musgenre; musgenre.finetune; import musgenre.training.finetune",
    ],
)
def test_finetune_is_a_function_whatever_is_imported_first(code):
    check = (
        "\nimport types; import musgenre.training.finetune as module"
        "\nif not isinstance(musgenre.finetune, types.FunctionType): raise SystemExit(type(musgenre.finetune))"
        "\nif musgenre.finetune is not module.finetune: raise SystemExit('two functions called finetune')"
    )
    assert _loaded(code + check, "musgenre.training.finetune") == {"musgenre.training.finetune"}


def test_no_public_name_equals_that_of_a_submodule():
    # Importing a submodule sets it as an attribute of its package, and replaces an attribute of the same name.
    for name in ("", ".features", ".backbones", ".datasets", ".transforms", ".training"):
        package = importlib.import_module(f"musgenre{name}")
        for public in getattr(package, "__all__", []):
            if importlib.util.find_spec(f"{package.__name__}.{public}") is not None:
                assert getattr(package, public) is importlib.import_module(f"{package.__name__}.{public}")
