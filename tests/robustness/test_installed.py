"""The tests import the installed package, and the wheel is complete."""

from __future__ import annotations

import importlib.metadata
import json
import re
import zipfile
from pathlib import Path

import pytest

import musgenre

ROOT = Path(__file__).parents[2]
PACKAGE = Path(musgenre.__file__).parent


def is_editable() -> bool:
    origin = importlib.metadata.distribution("musgenre").read_text("direct_url.json")
    return bool(json.loads(origin or "{}").get("dir_info", {}).get("editable"))


def test_the_package_under_test_is_the_installed_one() -> None:
    if is_editable():
        assert PACKAGE == ROOT / "src" / "musgenre"
    else:
        assert not PACKAGE.is_relative_to(ROOT / "src")
        installed = {Path(str(file.locate())) for file in importlib.metadata.files("musgenre") or ()}
        assert PACKAGE / "__init__.py" in installed


def test_the_wheel_contains_the_complete_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build = pytest.importorskip("hatchling.build")
    if not (ROOT / "src").is_dir():
        pytest.skip("there is no source directory beside the tests")
    monkeypatch.chdir(ROOT)
    with zipfile.ZipFile(tmp_path / build.build_wheel(str(tmp_path))) as wheel:
        packaged = {name for name in wheel.namelist() if not re.match(r"musgenre-[^/]+\.dist-info/", name)}
    files = [
        path for path in (ROOT / "src" / "musgenre").rglob("*") if path.is_file() and "__pycache__" not in path.parts
    ]
    assert packaged == {path.relative_to(ROOT / "src").as_posix() for path in files}
    assert {"musgenre/py.typed", "musgenre/assets/model.safetensors", "musgenre/__init__.pyi"} <= packaged


def test_no_upper_bounds() -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    dependencies = text[text.index("dependencies = [") : text.index("[project.scripts]")]
    assert not re.search(r'"[\w.\[\],-]+[^"]*(?:<|==|~=|!=)', dependencies)
    assert all(
        ">=" in line or "musgenre[" in line for line in re.findall(r'"([\w.-]+(?:\[[^"]*)?[^"]*)"', dependencies)
    )
