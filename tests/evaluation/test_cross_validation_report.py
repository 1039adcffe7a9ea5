"""Means, deviations and pooled predictions of cross-validation reports."""

from __future__ import annotations

import numpy as np
import pytest

from musgenre.core.config import Component
from musgenre.evaluation import CrossValidationReport, cross_validate
from musgenre.training.config import FinetuneConfig
from musgenre.training.recipes import Recipe


def test_pooled_scores_are_those_of_all_tracks_at_once(trainings, report, make_dataset):
    pooled = cross_validate(make_dataset(), folds=4).pooled[0]
    for field in ("dataset", "leaky", "library_version", "tracks", "missing", "groups"):
        assert getattr(pooled, field) == getattr(report, field), field
    np.testing.assert_allclose(pooled.windows.reliability, report.windows.reliability)
    for one, two in ((pooled, report), (pooled.windows, report.windows)):
        assert one.confusion == two.confusion
        assert one.genres == two.genres
        assert one.top3_accuracy == two.top3_accuracy
        for metric in ("accuracy", "macro_f1", "calibration_error"):
            assert getattr(one, metric) == pytest.approx(getattr(two, metric)), metric


def test_mean_and_deviations(trainings, make_dataset):
    report = cross_validate(make_dataset(), folds=4, seeds=(0, 1, 2))
    values = np.reshape([row.accuracy for row in report.scores], (3, 4))
    assert report.accuracy.mean == pytest.approx(values.mean())
    assert report.accuracy.fold_deviation == pytest.approx(np.std(values, ddof=1))
    assert report.accuracy.seed_deviation == pytest.approx(np.std(values.mean(axis=1), ddof=1))
    assert report.accuracy.fold_deviation > report.accuracy.seed_deviation > 0
    assert report.calibration_error.mean == pytest.approx(np.mean([row.calibration_error for row in report.scores]))
    assert cross_validate(make_dataset(), folds=4).accuracy.seed_deviation is None


def test_round_trip(trainings, make_dataset, tmp_path):
    recipe = Recipe(Component("vgg16-slim", {"width": 0.1}), config=FinetuneConfig(hidden=(8, 4)))
    report = cross_validate(make_dataset(), recipe=recipe, folds=4)
    report.save(tmp_path / "report.json")
    assert CrossValidationReport.load(tmp_path / "report.json") == report
    assert report.recipe["config"]["hidden"] == (8, 4)
    text = report.to_markdown()
    assert text.startswith("# vgg16-slim on made: 4 folds")
    assert f"| accuracy | {report.accuracy.mean:.3f} | {report.accuracy.fold_deviation:.3f} |" in text
    assert text.count("\n## ") == 1
