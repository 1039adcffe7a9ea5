"""The library logs to ``logging.getLogger("musgenre")`` and configures no logging."""

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
def test_importing_configures_no_logging():
    code = (
        "import logging, musgenre, musgenre.models.classifier, musgenre.core.download\n"
        "root = logging.getLogger('musgenre')\n"
        "print([h for h in root.handlers if type(h) is not logging.NullHandler], root.level, root.propagate)\n"
        "print(logging.getLogger().handlers)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=300)
    assert done.stdout.splitlines() == ["[] 0 True", "[]"]


def test_loading_a_model_is_logged(caplog):
    with caplog.at_level(logging.DEBUG, logger="musgenre"):
        GenreClassifier.from_pretrained()
    records = [record for record in caplog.records if record.name.startswith("musgenre.")]
    assert any("yamnet-mel-gtzan" in record.getMessage() for record in records)
    assert all(record.levelno <= logging.INFO for record in records)


def test_every_logger_is_below_musgenre():
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "logging.getLogger":
                (name,) = map(ast.unparse, node.args)
                # Lightning's logger is silenced by name during training.
                assert name in ("__name__", "'musgenre'", "'lightning.pytorch'"), path
