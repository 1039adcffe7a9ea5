"""The library speaks through ``logging.getLogger("musgenre")`` and sets nothing up."""

from __future__ import annotations

import ast
import logging
import subprocess
import sys
from pathlib import Path

import pytest

import musgenre
from musgenre.models.classifier import GenreClassifier

PACKAGE = Path(musgenre.__file__).parent


@pytest.mark.slow
def test_importing_sets_nothing_up():
    code = (
        "import logging, musgenre, musgenre.models.classifier, musgenre.core.download\n"
        "ours = logging.getLogger('musgenre')\n"
        "print([h for h in ours.handlers if type(h) is not logging.NullHandler], ours.level, ours.propagate)\n"
        "print(logging.getLogger().handlers)\n"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=300)
    assert said.stdout.splitlines() == ["[] 0 True", "[]"]


def test_loading_a_model_is_told(caplog):
    with caplog.at_level(logging.DEBUG, logger="musgenre"):
        GenreClassifier.from_pretrained()
    told = [record for record in caplog.records if record.name.startswith("musgenre.")]
    assert any("vgg16-slim-gtzan" in record.getMessage() for record in told)
    assert all(record.levelno <= logging.INFO for record in told)


def test_every_logger_is_under_ours():
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "logging.getLogger":
                (name,) = map(ast.unparse, node.args)
                # Lightning's is quietened while it trains, by name.
                assert name in ("__name__", "'musgenre'", "'lightning.pytorch'"), path
