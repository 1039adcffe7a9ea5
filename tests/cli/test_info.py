"""``musgenre list``, ``musgenre info`` and ``musgenre check``."""

from __future__ import annotations

import importlib.metadata
import json
import re
import sys

import numpy as np
import pytest
from typer.testing import CliRunner

from musgenre.backbones.base import BACKBONES
from musgenre.cli.info import DEVELOPMENT_EXTRAS
from musgenre.cli.main import app
from musgenre.core.errors import UnknownNameError
from musgenre.features.base import FEATURES, FeatureExtractor


def run(*arguments: str):
    return CliRunner().invoke(app, list(arguments))


@pytest.fixture
def plugins(tmp_path, monkeypatch):
    """Installs a package with a working feature, and one whose backbone cannot be imported."""
    projects = {
        "good-pack": ("musgenre.features", "loud", "def make(*, sample_rate): ...\n"),
        "bad-pack": ("musgenre.backbones", "cracked", "import no_such_module\n"),
    }
    for project, (group, name, source) in projects.items():
        module = f"musgenre_tests_{name}"
        info = tmp_path / project / f"{project.replace('-', '_')}-2.5.dist-info"
        info.mkdir(parents=True)
        (tmp_path / project / f"{module}.py").write_text(source)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project}\nVersion: 2.5\n")
        (info / "entry_points.txt").write_text(f"[{group}]\n{name} = {module}:make\n")
        monkeypatch.syspath_prepend(tmp_path / project)


class TestList:
    def test_entries_have_an_origin_and_an_error(self, plugins):
        lines = [line.split() for line in run("list", "backbones").stdout.splitlines()]
        assert ["vgg16", "musgenre", "musgenre.backbones.vgg:VGG16"] in lines
        index = lines.index(["cracked", "bad-pack", "musgenre_tests_cracked:make"])
        assert lines[index + 1][0] == "broken:"
        assert "no_such_module" in " ".join(lines[index + 1])
        assert sum(line[0] == "broken:" for line in lines) == 1

    def test_json_lists_all_kinds(self, plugins):
        rows = json.loads(run("list", "--json").stdout)
        assert {row["kind"] for row in rows} == {"backbones", "features", "datasets"}
        named = {row["name"]: row for row in rows}
        assert named["loud"] == {
            "kind": "features",
            "name": "loud",
            "origin": "good-pack",
            "target": "musgenre_tests_loud:make",
            "error": None,
        }
        assert "ModuleNotFoundError" in named["cracked"]["error"]
        assert [row["name"] for row in rows if row["error"]] == ["cracked"]

    def test_each_kind_has_a_heading(self):
        lines = run("list").stdout.splitlines()
        assert [line for line in lines if line.endswith(":")] == ["backbones:", "features:", "datasets:"]


class TestInfo:
    def test_json_describes_the_environment(self, plugins, tmp_path, monkeypatch):
        monkeypatch.setenv("MUSGENRE_CACHE", str(tmp_path / "cache"))
        (tmp_path / "cache").mkdir()
        (tmp_path / "cache" / "file").write_bytes(b"\0" * 1_500_000)
        environment = json.loads(run("info", "--json").stdout)
        assert environment["python"].startswith(".".join(map(str, sys.version_info[:3])))
        assert any(line == f"numpy {np.__version__}" for line in environment["packages"])
        provided = set(importlib.metadata.metadata("musgenre").get_all("Provides-Extra"))
        assert {line.partition(":")[0] for line in environment["extras"]} == provided - DEVELOPMENT_EXTRAS
        assert not any("pytest" in line for line in environment["packages"] + environment["extras"])
        assert environment["cache"] == f"{tmp_path / 'cache'}, 1.5 MB (MUSGENRE_CACHE is {tmp_path / 'cache'})"
        assert environment["plugins"][0].startswith("cracked (backbones) of bad-pack 2.5: broken: ")
        assert environment["plugins"][1] == "loud (features) of good-pack 2.5: works"
        assert any(line.startswith("cpu") for line in environment["devices"])

    def test_text_has_one_line_for_each_value(self):
        text = run("info").stdout
        assert re.search(r"^musgenre +\d+\.\d+.* in /", text, re.MULTILINE)
        assert re.search(r"^plugins +none$", text, re.MULTILINE)


class TestCheck:
    @pytest.fixture(autouse=True)
    def registry(self):
        class Untrue(FeatureExtractor):
            def out_shape(self, samples):
                return 1, 3, samples // 512

            def forward(self, waveform):
                return waveform.unfold(-1, 512, 512).square().mean(dim=-1)[:, None, None]

        with FEATURES.temporary("untrue", Untrue):
            yield

    def test_violations_are_reported(self):
        result = run("check", "untrue", "--skip", "export", "--skip", "saving")
        assert result.exit_code == 2
        assert "fails 1 of 9 checks" in result.stdout
        assert "out_shape returns (1, 3, 129), but forward returns (2, 1, 1, 129)" in result.stdout
        assert "skipped: export, saving" in result.stdout

    def test_valid_feature_passes(self):
        result = run("check", "logmel", "--skip", "export", "--sample-rate", "16000")
        assert result.exit_code == 0
        assert "The feature 'logmel' passes 10 checks." in result.stdout

    def test_unknown_name_is_an_error(self):
        with pytest.raises(UnknownNameError, match="no backbone 'logmell'"):
            CliRunner().invoke(app, ["check", "logmell"], catch_exceptions=False)
        assert "logmell" not in BACKBONES
