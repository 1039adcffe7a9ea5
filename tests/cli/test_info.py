"""``musgenre list``, ``info``, ``check``, the help, the completion and the page that documents them."""

from __future__ import annotations

import csv
import importlib.metadata
import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import click
import numpy as np
import pytest
import typer.main
from typer.testing import CliRunner

from musgenre.backbones.base import BACKBONES
from musgenre.cli import environment, formatters
from musgenre.cli.main import app
from musgenre.core.config import Prediction, Windows
from musgenre.core.errors import AudioFileError, ParameterError, UnknownNameError
from musgenre.features.base import FEATURES, FeatureExtractor

COMMANDS: dict[str, click.Command] = typer.main.get_command(app).commands
PAGE = Path(__file__).parents[2] / "docs" / "reference" / "command-line.md"
ENVIRONMENT = {"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"}


def run(*arguments: str):
    return CliRunner().invoke(app, list(arguments), env=ENVIRONMENT)


@pytest.fixture
def plugins(tmp_path, monkeypatch):
    """A package with a feature that works, and one whose backbone cannot be imported."""
    made = {
        "good-pack": ("musgenre.features", "loud", "def make(*, sample_rate): ...\n"),
        "bad-pack": ("musgenre.backbones", "cracked", "import no_such_module\n"),
    }
    for project, (group, name, source) in made.items():
        module = f"musgenre_tests_{name}"
        info = tmp_path / project / f"{project.replace('-', '_')}-2.5.dist-info"
        info.mkdir(parents=True)
        (tmp_path / project / f"{module}.py").write_text(source)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project}\nVersion: 2.5\n")
        (info / "entry_points.txt").write_text(f"[{group}]\n{name} = {module}:make\n")
        monkeypatch.syspath_prepend(tmp_path / project)


class TestList:
    def test_origin_and_what_is_broken(self, plugins):
        lines = [line.split() for line in run("list", "backbones").stdout.splitlines()]
        assert ["vgg16", "musgenre", "musgenre.backbones.vgg:VGG16"] in lines
        place = lines.index(["cracked", "bad-pack", "musgenre_tests_cracked:make"])
        assert lines[place + 1][0] == "broken:"
        assert "no_such_module" in " ".join(lines[place + 1])
        assert sum(line[0] == "broken:" for line in lines) == 1

    def test_everything_in_json(self, plugins):
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

    def test_everything_under_headings(self):
        lines = run("list").stdout.splitlines()
        assert [line for line in lines if line.endswith(":")] == ["backbones:", "features:", "datasets:"]


class TestInfo:
    def test_what_a_bug_report_needs(self, plugins, tmp_path, monkeypatch):
        monkeypatch.setenv("MUSGENRE_CACHE", str(tmp_path / "cache"))
        (tmp_path / "cache").mkdir()
        (tmp_path / "cache" / "file").write_bytes(b"\0" * 1_500_000)
        found = json.loads(run("info", "--json").stdout)
        assert found["python"].startswith(".".join(map(str, sys.version_info[:3])))
        assert any(line == f"numpy {np.__version__}" for line in found["packages"])
        provided = set(importlib.metadata.metadata("musgenre").get_all("Provides-Extra"))
        assert {line.partition(":")[0] for line in found["extras"]} == provided - environment._OF_MUSGENRE
        assert not any("pytest" in line for line in found["packages"] + found["extras"])
        assert found["cache"] == f"{tmp_path / 'cache'}, 1.5 MB (MUSGENRE_CACHE is {tmp_path / 'cache'})"
        assert found["plugins"][0].startswith("cracked (backbones) of bad-pack 2.5: broken: ")
        assert found["plugins"][1] == "loud (features) of good-pack 2.5: works"
        assert any(line.startswith("cpu") for line in found["devices"])

    def test_for_people(self):
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

    def test_what_breaks_the_contract(self):
        done = run("check", "untrue", "--skip", "export", "--skip", "saving")
        assert done.exit_code == 2
        assert "breaks 1 of 9 checks" in done.stdout
        assert "out_shape says (1, 3, 129) and forward gives (2, 1, 1, 129)" in done.stdout
        assert "not checked: export, saving" in done.stdout

    def test_what_keeps_it(self):
        done = run("check", "logmel", "--skip", "export", "--sample-rate", "16000")
        assert done.exit_code == 0
        assert "The feature 'logmel' keeps the contract: 10 checks." in done.stdout

    def test_an_unknown_name(self):
        with pytest.raises(UnknownNameError, match="no backbone 'logmell'"):
            CliRunner().invoke(app, ["check", "logmell"], catch_exceptions=False)
        assert "logmell" not in BACKBONES


class TestHelp:
    def test_every_command_says_what_it_does(self):
        text = run("--help").stdout
        for name, command in COMMANDS.items():
            assert name in text
            assert command.help
            assert command.get_short_help_str(200).rstrip(".") in " ".join(command.help.split())
        assert "Exit codes: 0 all went well; 2" in text

    @pytest.mark.parametrize("name", COMMANDS)
    def test_every_option_is_explained(self, name):
        done = run(name, "-h")
        assert done.exit_code == 0
        for option in COMMANDS[name].params:
            assert option.help, f"{name} {option.name}"

    def test_version(self):
        from musgenre.cli import environment

        assert run("--version").stdout == f"musgenre {environment._version('musgenre')}\n"

    def test_a_wrong_option_is_exit_code_2(self):
        assert run("predict", "--jsn", "song.wav").exit_code == 2
        assert run("no-such-command").exit_code == 2


class TestCompletion:
    def _complete(self, words: str) -> list[str]:
        """What bash would be offered, from a process that must not need PyTorch for it."""
        code = "import sys; sys.modules['torch'] = None\nfrom musgenre.cli.main import app\napp(prog_name='musgenre')\n"
        asked = {
            "_MUSGENRE_COMPLETE": "complete_bash",
            "COMP_WORDS": words,
            "COMP_CWORD": str(len(words.split(" ")) - 1),
        }
        done = subprocess.run(
            [sys.executable, "-c", code], env={**os.environ, **asked}, capture_output=True, text=True, check=False
        )
        return done.stdout.split()

    def test_commands_and_options(self):
        assert {"predict", "finetune", "list", "info"} <= set(self._complete("musgenre "))
        assert {"--json", "--csv", "--model"} <= set(self._complete("musgenre predict --"))

    def test_a_shell_can_be_taught(self):
        code = "from musgenre.cli.main import app; app(prog_name='musgenre')"
        command = [sys.executable, "-c", code, "--show-completion", "zsh"]
        told = {**os.environ, "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
        shown = subprocess.run(command, env=told, capture_output=True, text=True, check=False)
        assert "#compdef musgenre" in shown.stdout


def _song(path: str, *probabilities: float) -> Prediction:
    windows = Windows(np.zeros(1), np.array([probabilities]))
    return Prediction(dict(zip(("jazz", "rock"), probabilities, strict=True)), windows, 83.4, path)


class TestPrinting:
    def _printed(self, capsys, **how) -> str:
        how = {"as_json": False, "as_csv": False, "labels": ("jazz", "rock"), "top": 3, **how}
        with formatters.shown(**how) as show:
            show(_song("a, b/[red].wav", 0.25, 0.75))
            show(_song("c.wav", 1.0, 0.0))
        return capsys.readouterr().out

    def test_csv_is_read_back(self, capsys):
        rows = list(csv.DictReader(io.StringIO(self._printed(capsys, as_csv=True))))
        assert rows[0] == {
            "path": "a, b/[red].wav",
            "label": "rock",
            "probability": "0.75",
            "duration_seconds": "83.4",
            "jazz": "0.25",
            "rock": "0.75",
        }
        assert [row["label"] for row in rows] == ["rock", "jazz"]

    def test_lines_and_json(self, capsys):
        assert self._printed(capsys).splitlines()[0] == "a, b/[red].wav: rock 75%, jazz 25%"
        assert json.loads(self._printed(capsys, as_json=True).splitlines()[1])["label"] == "jazz"

    def test_a_table_at_a_terminal(self, capsys, monkeypatch):
        monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
        monkeypatch.setenv("COLUMNS", "100")
        text = re.sub(r"\x1b\[[\d;]*m", "", self._printed(capsys))
        lines = [line.split() for line in text.splitlines()]
        assert lines == [
            ["song", "length", "1.", "2."],
            ["a,", "b/[red].wav", "1:23", "rock", "75%", "jazz", "25%"],
            ["c.wav", "1:23", "jazz", "100%", "rock", "0%"],
        ]

    def test_a_table_of_what_was_done_before_ctrl_c(self, capsys, monkeypatch):
        monkeypatch.setattr(sys.stdout, "isatty", lambda: True)

        def stopped():
            with formatters.shown(as_json=False, as_csv=False, labels=("jazz", "rock"), top=1) as show:
                show(_song("a.wav", 0.25, 0.75))
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            stopped()
        assert "a.wav" in capsys.readouterr().out

    def test_both_at_once_is_refused(self):
        with (
            pytest.raises(ParameterError, match="choose one"),
            formatters.shown(as_json=True, as_csv=True, labels=(), top=1),
        ):
            pass

    def test_a_bar_where_someone_can_see_it(self):
        class Terminal(io.StringIO):
            def isatty(self):
                return True

        for screen, free, seen in ((Terminal(), True, True), (Terminal(), False, False), (io.StringIO(), True, False)):
            results, complain = formatters.watched(iter("abc"), total=3, screen=screen, free=free)
            found = []
            for result in results:
                found.append(result)
                if result == "b":
                    complain(AudioFileError("[b].wav is :no: audio"))
            assert found == ["a", "b", "c"]
            assert ("Predicting" in screen.getvalue()) == seen
            assert "musgenre: [b].wav is :no: audio\n" in screen.getvalue()


def _sections() -> dict[str, str]:
    parts = re.split(r"^## musgenre ([\w-]+)$", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return dict(zip(parts[1::2], (part.partition("\n## ")[0] for part in parts[2::2]), strict=True))


class TestPage:
    def test_a_section_for_each_command(self):
        titles = re.findall(r"^## musgenre ([\w-]+)$", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
        assert sorted(titles) == sorted(COMMANDS)

    @pytest.mark.parametrize("name", COMMANDS)
    def test_every_option_and_no_other(self, name):
        words = {word for option in COMMANDS[name].params for word in option.opts}
        options = {word for word in words if word.startswith("--")} - {"--help"}
        text = _sections()[name]
        usage = re.search(r"```console\n(.*?)```", text, re.DOTALL)[1]
        assert set(re.findall(r"--[\w-]+", usage)) == options
        assert options <= set(re.findall(r"--[\w-]+", text.replace(usage, "")))

    def test_every_exit_code(self):
        codes = PAGE.read_text(encoding="utf-8").partition("## Exit codes")[2]
        assert re.findall(r"^\| (\d+) \|", codes, re.MULTILINE) == ["0", "1", "2", "130"]
