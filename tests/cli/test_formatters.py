"""Output formats of predictions and errors, and the progress bar."""

from __future__ import annotations

import csv
import io
import json
import re
import sys

import numpy as np
import pytest

from musgenre.cli.formatters import prediction_printer, progress_bar
from musgenre.core.config import Prediction, Windows
from musgenre.core.errors import AudioFileError, ParameterError


def _prediction(path: str, *probabilities: float) -> Prediction:
    windows = Windows(np.zeros(1), np.array([probabilities]))
    return Prediction(dict(zip(("jazz", "rock"), probabilities, strict=True)), windows, 83.4, path)


class TestPredictionPrinter:
    def _print(self, capsys, **options) -> str:
        options = {"as_json": False, "as_csv": False, "labels": ("jazz", "rock"), "top": 3, **options}
        with prediction_printer(**options) as print_prediction:
            print_prediction(_prediction("a, b/[red].wav", 0.25, 0.75))
            print_prediction(_prediction("c.wav", 1.0, 0.0))
        return capsys.readouterr().out

    def test_csv_can_be_parsed(self, capsys):
        rows = list(csv.DictReader(io.StringIO(self._print(capsys, as_csv=True))))
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
        assert self._print(capsys).splitlines()[0] == "a, b/[red].wav: rock 75%, jazz 25%"
        assert json.loads(self._print(capsys, as_json=True).splitlines()[1])["label"] == "jazz"

    def test_table_on_a_terminal(self, capsys, monkeypatch):
        monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
        monkeypatch.setenv("COLUMNS", "100")
        text = re.sub(r"\x1b\[[\d;]*m", "", self._print(capsys))
        lines = [line.split() for line in text.splitlines()]
        assert lines == [
            ["song", "length", "1.", "2."],
            ["a,", "b/[red].wav", "1:23", "rock", "75%", "jazz", "25%"],
            ["c.wav", "1:23", "jazz", "100%", "rock", "0%"],
        ]

    def test_table_is_printed_after_ctrl_c(self, capsys, monkeypatch):
        monkeypatch.setattr(sys.stdout, "isatty", lambda: True)

        def interrupted():
            with prediction_printer(as_json=False, as_csv=False, labels=("jazz", "rock"), top=1) as print_prediction:
                print_prediction(_prediction("a.wav", 0.25, 0.75))
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            interrupted()
        assert "a.wav" in capsys.readouterr().out

    def test_json_and_csv_cannot_be_combined(self):
        with (
            pytest.raises(ParameterError, match="cannot be combined"),
            prediction_printer(as_json=True, as_csv=True, labels=(), top=1),
        ):
            pass


class _Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(
    ("stream", "visible", "expected"), [(_Terminal, True, True), (_Terminal, False, False), (io.StringIO, True, False)]
)
def test_progress_bar_is_shown_on_a_terminal(stream, visible, expected):
    output = stream()
    with progress_bar(total=3, stream=output, visible=visible) as advance:
        for name in "abc":
            advance(AudioFileError("[b].wav is :no: audio") if name == "b" else None)
    assert ("Predicting" in output.getvalue()) == expected
    assert "error: [b].wav is :no: audio\n" in output.getvalue()
