"""The help, the shell completion and the documentation page describe every command and option."""

from __future__ import annotations

import importlib.metadata
import os
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest
import typer.main
from typer.testing import CliRunner

from musgenre.cli.main import app

COMMANDS: dict[str, click.Command] = typer.main.get_command(app).commands
PAGE = Path(__file__).parents[2] / "docs" / "reference" / "command-line.md"


def run(*arguments: str):
    return CliRunner().invoke(app, list(arguments), env={"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"})


class TestHelp:
    def test_every_command_has_a_description(self):
        text = run("--help").stdout
        for name, command in COMMANDS.items():
            assert name in text
            assert command.help
            assert command.get_short_help_str(200).rstrip(".") in " ".join(command.help.split())
        assert "Exit codes: 0 success; 1 internal error; 2" in text

    @pytest.mark.parametrize("name", COMMANDS)
    def test_every_option_has_a_description(self, name):
        result = run(name, "-h")
        assert result.exit_code == 0
        for parameter in COMMANDS[name].params:
            assert parameter.help, f"{name} {parameter.name}"

    def test_version(self):
        assert run("--version").stdout == f"musgenre {importlib.metadata.version('musgenre')}\n"

    def test_unknown_options_and_commands_exit_with_code_2(self):
        assert run("predict", "--jsn", "song.wav").exit_code == 2
        assert run("no-such-command").exit_code == 2


class TestCompletion:
    def _complete(self, words: str) -> list[str]:
        """Return the completions in bash, from a process that cannot import PyTorch."""
        code = "import sys; sys.modules['torch'] = None\nfrom musgenre.cli.main import app\napp(prog_name='musgenre')\n"
        variables = {
            "_MUSGENRE_COMPLETE": "complete_bash",
            "COMP_WORDS": words,
            "COMP_CWORD": str(len(words.split(" ")) - 1),
        }
        result = subprocess.run(
            [sys.executable, "-c", code], env={**os.environ, **variables}, capture_output=True, text=True, check=False
        )
        return result.stdout.split()

    def test_commands_and_options(self):
        assert {"predict", "finetune", "list", "info"} <= set(self._complete("musgenre "))
        assert {"--json", "--csv", "--model"} <= set(self._complete("musgenre predict --"))

    def test_show_completion_prints_a_shell_script(self):
        code = "from musgenre.cli.main import app; app(prog_name='musgenre')"
        command = [sys.executable, "-c", code, "--show-completion", "zsh"]
        variables = {**os.environ, "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
        result = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
        assert "#compdef musgenre" in result.stdout


def _sections() -> dict[str, str]:
    parts = re.split(r"^## musgenre ([\w-]+)$", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return dict(zip(parts[1::2], (part.partition("\n## ")[0] for part in parts[2::2]), strict=True))


class TestDocumentation:
    def test_every_command_has_a_section(self):
        titles = re.findall(r"^## musgenre ([\w-]+)$", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
        assert sorted(titles) == sorted(COMMANDS)

    @pytest.mark.parametrize("name", COMMANDS)
    def test_section_lists_exactly_the_options(self, name):
        words = {word for option in COMMANDS[name].params for word in (*option.opts, *option.secondary_opts)}
        options = {word for word in words if word.startswith("--")} - {"--help"}
        text = _sections()[name]
        usage = re.search(r"```console\n(.*?)```", text, re.DOTALL)[1]
        assert set(re.findall(r"--[\w-]+", usage)) == options
        assert options <= set(re.findall(r"--[\w-]+", text.replace(usage, "")))

    def test_every_exit_code_is_listed(self):
        codes = PAGE.read_text(encoding="utf-8").partition("## Exit codes")[2]
        assert re.findall(r"^\| (\d+) \|", codes, re.MULTILINE) == ["0", "1", "2", "130"]
