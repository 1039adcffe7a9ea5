"""Aggregation of windows, and metrics of probabilities, compared with scikit-learn and torchmetrics."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.special
import sklearn.metrics
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchmetrics.functional.classification import multiclass_calibration_error

from musgenre.core.errors import ParameterError
from musgenre.metrics import (
    accuracy,
    expected_calibration_error,
    reliability,
    top_k_accuracy,
    track_probabilities,
)

SETTINGS = settings(deadline=None)


@st.composite
def window_rows(draw: st.DrawFn) -> np.ndarray:
    shape = draw(st.tuples(st.integers(1, 30), st.integers(1, 12)))
    logits = np.random.default_rng(draw(st.integers(0, 2**32 - 1))).normal(scale=3, size=shape)
    return scipy.special.softmax(logits, axis=1)


class TestTrackProbabilities:
    @SETTINGS
    @given(rows=window_rows())
    def test_mean_sums_to_one_and_lies_between_the_windows(self, rows):
        track = track_probabilities(rows)
        assert track.shape == (rows.shape[1],)
        assert track.sum() == pytest.approx(1, abs=1e-12)
        assert (track >= rows.min(axis=0) - 1e-12).all()
        assert (track <= rows.max(axis=0) + 1e-12).all()

    @SETTINGS
    @given(rows=window_rows(), seed=st.integers(0, 99))
    def test_order_of_windows_does_not_matter(self, rows, seed):
        shuffled = np.random.default_rng(seed).permutation(rows)
        np.testing.assert_allclose(track_probabilities(shuffled), track_probabilities(rows), rtol=1e-12)

    @SETTINGS
    @given(rows=window_rows())
    def test_order_of_classes_is_preserved(self, rows):
        np.testing.assert_allclose(track_probabilities(rows[:, ::-1]), track_probabilities(rows)[::-1])

    @SETTINGS
    @given(rows=window_rows())
    def test_single_and_repeated_windows_are_unchanged(self, rows):
        np.testing.assert_allclose(track_probabilities(rows[:1]), rows[0])
        np.testing.assert_allclose(track_probabilities(np.repeat(rows[:1], 7, axis=0)), rows[0])

    def test_single_precision_is_normalised(self):
        rows = np.full((3, 7), 1 / 7, dtype=np.float32)
        assert track_probabilities(rows).sum() == pytest.approx(1, abs=1e-15)

    @pytest.mark.parametrize("wrong", [np.zeros((0, 3)), np.ones(3), np.ones((1, 1, 1)), []])
    def test_shape_without_windows_is_an_error(self, wrong):
        with pytest.raises(ParameterError, match="at least one window"):
            track_probabilities(wrong)


class TestTopK:
    @SETTINGS
    @given(rows=window_rows(), k=st.integers(1, 14), seed=st.integers(0, 99))
    def test_top_k(self, rows, k, seed):
        classes = rows.shape[1]
        truth = np.random.default_rng(seed).integers(classes, size=len(rows))
        ours = top_k_accuracy(truth, rows, k=k)
        if k >= classes:
            assert ours == 1
        elif classes > 2:
            labels = range(classes)
            assert ours == pytest.approx(sklearn.metrics.top_k_accuracy_score(truth, rows, k=k, labels=labels))
        assert top_k_accuracy(truth, rows, k=1) == pytest.approx(accuracy(truth, rows.argmax(axis=1)))

    def test_ties_are_resolved_in_order(self):
        assert top_k_accuracy([0, 1, 2], [[1 / 3] * 3] * 3, k=2) == pytest.approx(2 / 3)
        assert top_k_accuracy(range(64), np.full((64, 64), 1 / 64), k=16) == 16 / 64


class TestCalibration:
    @SETTINGS
    @given(rows=window_rows(), bins=st.integers(1, 20), seed=st.integers(0, 99))
    def test_error_against_torchmetrics(self, rows, bins, seed):
        rows = np.hstack([rows, np.zeros((len(rows), 1))])  # at least two classes
        truth = np.random.default_rng(seed).integers(rows.shape[1], size=len(rows))
        rows = rows * (1 - 1e-9)  # torchmetrics puts a confidence of exactly 1 into a separate bin
        expected = multiclass_calibration_error(
            torch.tensor(rows), torch.tensor(truth), num_classes=rows.shape[1], n_bins=bins
        )
        assert expected_calibration_error(truth, rows, bins=bins) == pytest.approx(float(expected), abs=1e-5)

    def test_error_of_a_calibrated_and_of_an_overconfident_classifier(self):
        random = np.random.default_rng(0)
        first = random.uniform(0.5, 1, size=40_000)
        rows = np.stack([first, 1 - first], axis=1)
        truth = (random.random(40_000) > first).astype(int)
        assert expected_calibration_error(truth, rows) < 0.01
        overconfident = rows**3 / (rows**3).sum(axis=1, keepdims=True)
        assert expected_calibration_error(truth, overconfident) > 0.1

    @pytest.mark.parametrize("index", range(1, 16))
    def test_bins_include_their_upper_edge(self, index):
        table = reliability([0], [[index / 15, 0.0]], bins=15)
        assert np.flatnonzero(table[:, 0]).tolist() == [index - 1]

    @SETTINGS
    @given(rows=window_rows(), cut=st.integers(1, 29), seed=st.integers(0, 99))
    def test_tables_can_be_added(self, rows, cut, seed):
        truth = np.random.default_rng(seed).integers(rows.shape[1], size=len(rows))
        total = reliability(truth, rows)
        counts, confidence, correct = total.T
        assert counts.sum() == len(rows)
        assert confidence.sum() == pytest.approx(rows.max(axis=1).sum())
        assert correct.sum() == (rows.argmax(axis=1) == truth).sum()
        if cut < len(rows):
            parts = reliability(truth[:cut], rows[:cut]) + reliability(truth[cut:], rows[cut:])
            np.testing.assert_allclose(parts, total)

    def test_invalid_arguments(self):
        for measure in (top_k_accuracy, reliability, expected_calibration_error):
            for truth, rows in (([], np.zeros((0, 2))), ([0], [0.5, 0.5]), ([0, 1], [[0.5, 0.5]])):
                with pytest.raises(ParameterError, match="one row for each true label"):
                    measure(truth, rows)
        with pytest.raises(ParameterError, match="k must"):
            top_k_accuracy([0], [[1.0, 0.0]], k=0)
        with pytest.raises(ParameterError, match="bins must"):
            reliability([0], [[1.0, 0.0]], bins=0)
