"""Evaluation reports as JSON, Markdown and plots."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from musgenre.core.errors import ConfigError, ParameterError
from musgenre.evaluation import EvaluationReport, compare, evaluate


class TestJson:
    def test_round_trip(self, report, tmp_path):
        report.save(tmp_path / "report.json")
        assert EvaluationReport.load(tmp_path / "report.json") == report
        assert EvaluationReport.from_dict(report.to_dict()) == report
        assert json.loads((tmp_path / "report.json").read_text(encoding="utf-8")) == report.to_dict()
        assert [path.name for path in tmp_path.iterdir()] == ["report.json"]

    def test_keys(self, report):
        assert list(report.to_dict()) == [
            "accuracy", "accuracy_interval", "macro_f1", "macro_f1_interval", "top3_accuracy", "calibration_error",
            "genres", "confusion", "reliability", "model", "trained_on", "dataset", "leaky", "library_version",
            "labels", "tracks", "missing", "groups", "windows", "predictions",
        ]  # fmt: skip

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"accurracy": 0.5}, "accurracy"),
            ({"accuracy": "0.5"}, "accuracy"),
            ({"leaky": 1}, "leaky"),
            ({"tracks": True}, "tracks"),
            ({"accuracy_interval": [0.1]}, "accuracy_interval"),
            ({"predictions": {"000": "jazz"}}, "EvaluationReport"),
            ({"predictions": []}, "each of 60 tracks"),
            ({"labels": ["jazz", "metal", "pop", "rock"]}, "does not match the labels"),
            ({"confusion": [[1.5]]}, "confusion"),
        ],
    )
    def test_invalid_report_is_an_error(self, report, change, message):
        with pytest.raises(ConfigError, match=message):
            EvaluationReport.from_dict(report.to_dict() | change)

    def test_repeated_track_is_an_error(self, report):
        pairs = report.to_dict()
        pairs["predictions"][1] = pairs["predictions"][0]
        with pytest.raises(ConfigError, match="exactly one prediction"):
            EvaluationReport.from_dict(pairs)

    @pytest.mark.parametrize("text", [None, "{", "[]", "{}"])
    def test_unreadable_file_is_named(self, tmp_path, text):
        path = tmp_path / "report.json"
        if text is not None:
            path.write_text(text)
        with pytest.raises(ConfigError, match=r"report\.json"):
            EvaluationReport.load(path)

    def test_failed_write_leaves_the_old_file(self, report, tmp_path, monkeypatch):
        path = tmp_path / "report.json"
        path.write_text("old")

        def fill_the_disk(self, text, **kwargs):
            self.write_bytes(text[:10].encode())
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(Path, "write_text", fill_the_disk)
        with pytest.raises(ParameterError, match="No space left"):
            report.save(path)
        assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("report.json", "old")]


def test_markdown_contains_all_scores(report):
    text = report.to_markdown()
    low, high = report.accuracy_interval
    accuracy = f"| accuracy | {100 * report.accuracy:.1f} % | {100 * low:.1f} – {100 * high:.1f} % |"
    assert f"{accuracy} {100 * report.windows.accuracy:.1f} % |" in text
    low, high = report.macro_f1_interval
    assert f"| macro F1 | {report.macro_f1:.3f} | {low:.3f} – {high:.3f} |" in text
    assert f"| top-3 accuracy | {100 * report.top3_accuracy:.1f} % |  | " in text
    jazz, windows = report.genres["jazz"], report.windows.genres["jazz"]
    row = f"| jazz | {100 * jazz.precision:.1f} % | {100 * jazz.recall:.1f} % | {jazz.f1:.3f} | 12 |"
    assert f"{row} {100 * windows.precision:.1f} % |" in text
    assert f"| {windows.f1:.3f} | {windows.support} |\n" in text
    assert "20 groups" in text
    assert f"| jazz | {' | '.join(map(str, report.confusion[1]))} |" in text
    assert "Model: trained on 12 other tracks." in text


def test_plot_shows_confusion_and_calibration(report, tmp_path, saved_figures, labels):
    report.plot(tmp_path / "report.png")
    assert (tmp_path / "report.png").read_bytes().startswith(b"\x89PNG")
    left, right = saved_figures[0].axes
    counts = np.array(report.confusion)
    np.testing.assert_allclose(left.images[0].get_array(), counts / counts.sum(axis=1, keepdims=True))
    assert [text.get_text() for text in left.get_yticklabels()] == list(labels)
    assert right.get_title(loc="left") == f"Calibration error: {report.calibration_error:.3f}"


class TestLeakage:
    def test_leaky_report_is_marked_everywhere(self, report, fake_classifier, make_dataset, tmp_path, saved_figures):
        data = make_dataset()
        leaky = evaluate(fake_classifier(), data, trained_on=data.select(["000", "001"]), allow_leakage=True)
        assert leaky.leaky
        assert json.loads(leaky.to_json())["leaky"] is True
        assert leaky.to_markdown().splitlines()[0] == "# fake on made (leaky)"
        assert "**Leaky" in leaky.to_markdown()
        leaky.plot(tmp_path / "leaky.png")
        assert "leaky" in saved_figures[0].get_suptitle()
        assert compare(leaky, report).leaky
        assert compare(report, leaky).leaky

    def test_clean_report_is_not_marked(self, report, fake_classifier, make_dataset, tmp_path, saved_figures):
        data = make_dataset()
        train = data.select(["010", "020"])
        clean = evaluate(fake_classifier(), data.select(["000"]), trained_on=train, allow_leakage=True)
        assert not clean.leaky
        assert "leaky" not in (clean.to_markdown() + report.to_markdown()).lower()
        report.plot(tmp_path / "clean.png")
        assert saved_figures[0].get_suptitle() == "fake on made"
        assert not compare(report, report).leaky
