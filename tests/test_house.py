"""The rules of the house that no linter knows: sizes, signatures, and what an import may load."""

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
FILES = sorted(PACKAGE.rglob("*.py"))
MAX_FILE_LINES, MAX_FUNCTION_LINES, MAX_PARAMETERS, MAX_POSITIONAL = 300, 40, 6, 2
Function = ast.FunctionDef | ast.AsyncFunctionDef


def _functions(tree: ast.Module) -> Iterator[tuple[Function, bool]]:
    """Every function, and whether it is a method with ``self`` or ``cls``."""
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


def _code_lines(function: Function, source: list[str]) -> int:
    """Lines from ``def`` on, without blank lines and docstrings."""
    counted = {line for line in range(function.lineno, function.end_lineno + 1) if source[line - 1].strip()}
    for node in ast.walk(function):
        if isinstance(node, Function | ast.ClassDef) and ast.get_docstring(node) is not None:
            docstring = node.body[0]
            counted -= set(range(docstring.lineno, docstring.end_lineno + 1))
    return len(counted)


def offences(text: str) -> list[str]:
    """What in a source file is against the rules of the house."""
    source = text.splitlines()
    tree = ast.parse(text)
    found = [f"{len(source)} lines"] if len(source) >= MAX_FILE_LINES else []
    for function, bound in _functions(tree):
        taken = function.args
        positional = len(taken.posonlyargs) + len(taken.args) - bound
        parameters = positional + len(taken.kwonlyargs) + (taken.vararg is not None) + (taken.kwarg is not None)
        if (lines := _code_lines(function, source)) >= MAX_FUNCTION_LINES:
            found.append(f"{function.name}: {lines} lines")
        if parameters > MAX_PARAMETERS:
            found.append(f"{function.name}: {parameters} parameters")
        if positional > MAX_POSITIONAL:
            found.append(f"{function.name}: {positional} positional parameters")
    for node in ast.walk(tree):
        if isinstance(node, ast.Assert):
            found.append(f"line {node.lineno}: assert")
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print":
            found.append(f"line {node.lineno}: print")
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_sizes_and_habits(path):
    assert offences(path.read_text(encoding="utf-8")) == []


BODY = "\n".join("    x = 1" for _ in range(38))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("\n" * 300, ["300 lines"]),
        ("\n" * 299, []),
        (f"def f():\n{BODY}\n", []),
        (f"def f():\n{BODY}\n    x = 1\n", ["f: 40 lines"]),
        (f'def f():\n    """One.\n\n    Two.\n    """\n\n{BODY}\n', []),
        (f'class A:\n  def f(self):\n    """One."""\n{BODY}\n    x = 1\n', ["f: 40 lines"]),
        ("def f(a, b, *, c, d, e, g): pass", []),
        ("def f(a, *, b, c, d, e, g, h): pass", ["f: 7 parameters"]),
        ("def f(*a, b, c, d, e, g, **h): pass", ["f: 7 parameters"]),
        ("def f(a, b, c): pass", ["f: 3 positional parameters"]),
        ("class A:\n  def f(self, a, b): pass", []),
        ("class A:\n  @staticmethod\n  def f(a, b, c): pass", ["f: 3 positional parameters"]),
        ("class A:\n  async def f(self, a, b, c): pass", ["f: 3 positional parameters"]),
        ("def f():\n  def g(a, b, c): pass", ["g: 3 positional parameters"]),
        ("assert 1\nprint(2)", ["line 1: assert", "line 2: print"]),
        ('"""print(1); assert 2"""', []),
    ],
)
def test_the_rules_see_what_breaks_them(text, expected):
    assert offences(text) == expected


def _loaded(code: str, *suspects: str) -> set[str]:
    """Which of the suspects a fresh interpreter has loaded after the code."""
    tail = f"\nimport sys, json; print(json.dumps([name for name in {suspects!r} if name in sys.modules]))"
    said = subprocess.run([sys.executable, "-c", code + tail], capture_output=True, text=True, check=False, timeout=300)
    assert said.returncode == 0, said.stderr
    return set(json.loads(said.stdout.splitlines()[-1]))


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
def test_importing_the_package_is_cheap(code):
    assert _loaded(code, *HEAVY) == set()


def test_the_check_sees_what_is_loaded():
    assert _loaded("import musgenre; musgenre.AudioSpec", *HEAVY) == {"numpy"}


def test_predicting_needs_nothing_of_training(tmp_path):
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
    needless = ("lightning", "pytorch_lightning", "torchvision", "sklearn", "matplotlib", "ray", "huggingface_hub")
    assert _loaded(code, "torch", "soundfile", *needless) == {"torch", "soundfile"}


def test_listing_is_cheap():
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


def test_what_the_documentation_promises_is_public():
    promised = {"GenreClassifier", "finetune", "datasets", "register_backbone", "register_feature", "features"}
    assert promised <= set(musgenre.__all__)


@pytest.mark.parametrize(
    "code",
    [
        "import musgenre.training.finetune; import musgenre",
        "import musgenre; musgenre.finetune; import musgenre.training.finetune",
    ],
)
def test_the_order_of_imports_does_not_matter(code):
    check = (
        "\nimport types; import musgenre.training.finetune as module"
        "\nif not isinstance(musgenre.finetune, types.FunctionType): raise SystemExit(type(musgenre.finetune))"
        "\nif musgenre.finetune is not module.finetune: raise SystemExit('another finetune')"
    )
    assert _loaded(code + check, "musgenre.training.finetune") == {"musgenre.training.finetune"}


def test_no_public_name_is_a_modules_too():
    # Importing a submodule sets it as an attribute of its package, over whatever has the same name.
    for name in ("", ".features", ".backbones", ".datasets", ".transforms", ".training"):
        package = importlib.import_module(f"musgenre{name}")
        for public in getattr(package, "__all__", []):
            if importlib.util.find_spec(f"{package.__name__}.{public}") is not None:
                assert getattr(package, public) is importlib.import_module(f"{package.__name__}.{public}")
