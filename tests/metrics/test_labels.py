"""Metrics of labels, compared with scikit-learn."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import sklearn.metrics
from hypothesis import given, settings
from hypothesis import strategies as st

from musgenre.core.errors import ParameterError
from musgenre.metrics import accuracy, accuracy_interval, confusion, genre_scores, macro_f1

SETTINGS = settings(deadline=None)
CLASSES = 5
pairs = st.lists(st.tuples(st.integers(0, CLASSES - 1), st.integers(0, CLASSES - 1)), min_size=1, max_size=40)


def _split(both: list[tuple[int, int]]) -> tuple[list[int], list[int]]:
    return [truth for truth, _ in both], [predicted for _, predicted in both]


class TestAgainstScikitLearn:
    @SETTINGS
    @given(both=pairs)
    def test_accuracy(self, both):
        truth, predicted = _split(both)
        assert accuracy(truth, predicted) == pytest.approx(sklearn.metrics.accuracy_score(truth, predicted))

    @SETTINGS
    @given(both=pairs)
    def test_macro_f1(self, both):
        truth, predicted = _split(both)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            ours = macro_f1(truth, predicted)
        classes = sorted({*truth, *predicted})
        by_hand = []
        for label in classes:
            hits = sum(t == p == label for t, p in both)
            by_hand.append(2 * hits / (truth.count(label) + predicted.count(label)))
        assert ours == pytest.approx(np.mean(by_hand))
        assert ours == pytest.approx(
            sklearn.metrics.f1_score(truth, predicted, average="macro", labels=classes, zero_division=0)
        )

    @SETTINGS
    @given(both=pairs)
    def test_confusion(self, both):
        truth, predicted = _split(both)
        matrix = confusion(truth, predicted, classes=CLASSES)
        expected = sklearn.metrics.confusion_matrix(truth, predicted, labels=list(range(CLASSES)))
        np.testing.assert_array_equal(matrix, expected)
        assert matrix.sum() == len(both)
        assert np.trace(matrix) / matrix.sum() == pytest.approx(accuracy(truth, predicted))
        np.testing.assert_array_equal(matrix.sum(axis=1), np.bincount(truth, minlength=CLASSES))

    @SETTINGS
    @given(both=pairs)
    def test_genre_scores(self, both):
        truth, predicted = _split(both)
        ours = genre_scores(confusion(truth, predicted, classes=CLASSES))
        theirs = sklearn.metrics.precision_recall_fscore_support(
            truth, predicted, labels=list(range(CLASSES)), zero_division=0
        )
        np.testing.assert_allclose(ours, theirs[:3])

    def test_rows_of_the_confusion_matrix_are_true_labels(self):
        assert confusion([0, 0], [1, 1], classes=3).tolist() == [[0, 2, 0], [0, 0, 0], [0, 0, 0]]


@pytest.mark.parametrize(
    "measure",
    [accuracy, macro_f1, lambda t, p: confusion(t, p, classes=3), lambda t, p: accuracy_interval(t, p, groups=["a"])],
)
@pytest.mark.parametrize(("truth", "predicted"), [([], []), ([0, 1], [0]), ([0], [0, 1])])
def test_lengths_must_be_equal_and_positive(measure, truth, predicted):
    with pytest.raises(ParameterError, match=f"got {len(truth)} and {len(predicted)}"):
        measure(truth, predicted)


@pytest.mark.parametrize(("truth", "predicted"), [([0, 3], [0, 1]), ([0, 1], [0, -1]), ([7], [7])])
def test_label_out_of_range(truth, predicted):
    with pytest.raises(ParameterError, match="from 0 to 2"):
        confusion(truth, predicted, classes=3)
