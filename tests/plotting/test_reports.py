"""Confusion matrices and reliability diagrams: values, positions, colours and labels."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure

from musgenre.core.errors import ParameterError
from musgenre.metrics import expected_calibration_error, reliability
from musgenre.plotting import plot_confusion, plot_reliability


class TestConfusion:
    COUNTS = ((8, 2, 0), (1, 3, 0), (0, 0, 0))

    def test_colours_are_shares_of_the_row_and_numbers_are_counts(self):
        ax = plot_confusion(self.COUNTS, labels=("a", "b", "c"))
        np.testing.assert_allclose(ax.images[0].get_array(), [[0.8, 0.2, 0], [0.25, 0.75, 0], [0, 0, 0]])
        assert ax.images[0].get_clim() == (0, 1)
        written = {text.get_position(): text.get_text() for text in ax.texts}
        assert written == {(0, 0): "8", (1, 0): "2", (0, 1): "1", (1, 1): "3"}

    def test_numbers_contrast_with_their_background(self):
        ax = plot_confusion(self.COUNTS, labels=("a", "b", "c"))
        image = ax.images[0]
        for text in ax.texts:
            column, row = text.get_position()
            luminance = [
                np.dot(rgba[:3], (0.2126, 0.7152, 0.0722))
                for rgba in (image.cmap(image.norm(image.get_array()[row, column])), to_rgba(text.get_color()))
            ]
            assert abs(luminance[0] - luminance[1]) > 0.4

    def test_labels_of_rows_and_columns(self, tmp_path):
        labels = ("$5 & $\\frac", "_b_", "c")
        ax = plot_confusion(self.COUNTS, labels=labels)
        ax.figure.savefig(tmp_path / "figure.png")
        for axis in (ax.xaxis, ax.yaxis):
            assert [text.get_text() for text in axis.get_ticklabels()] == list(labels)
            assert axis.get_ticklocs().tolist() == [0, 1, 2]
        assert (ax.get_xlabel(), ax.get_ylabel()) == ("Predicted", "True")
        assert ax.get_ylim() == (2.5, -0.5)

    def test_given_axes_are_used(self):
        ax = Figure().subplots()
        assert plot_confusion(self.COUNTS, labels=("a", "b", "c"), ax=ax) is ax

    @pytest.mark.parametrize("matrix", [[[1, 2]], [1, 2], np.zeros((3, 3)), []])
    def test_different_shape_is_an_error(self, matrix):
        with pytest.raises(ParameterError, match="each of 2 labels"):
            plot_confusion(matrix, labels=("a", "b"))


class TestReliability:
    def test_bars_are_the_accuracy_of_their_bins(self):
        random = np.random.default_rng(0)
        rows = random.dirichlet((1, 1, 1), size=200)
        truth = random.integers(3, size=200)
        ax = plot_reliability(reliability(truth, rows, bins=10))
        confidence, correct = rows.max(axis=1), rows.argmax(axis=1) == truth
        bars = [bar for bar in ax.patches if bar.get_width() == pytest.approx(0.1)]
        assert len(bars) == 7
        for bar, text in zip(bars, ax.texts, strict=True):
            selected = (confidence > bar.get_x() + 1e-9) & (confidence <= bar.get_x() + 0.1 + 1e-9)
            assert bar.get_height() == pytest.approx(correct[selected].mean())
            assert text.get_text() == str(selected.sum())
        error = expected_calibration_error(truth, rows, bins=10)
        assert ax.get_title(loc="left") == f"Calibration error: {error:.3f}"

    def test_diagonal_shows_perfect_calibration(self):
        ax = plot_reliability([[0, 0, 0], [1, 0.9, 1]])
        assert [line.get_xydata().tolist() for line in ax.lines] == [[[0, 0], [1, 1]]]
        assert ax.get_xlim() == (0, 1)
        assert len(ax.patches) == 1
        assert (ax.get_xlabel(), ax.get_ylabel()) == ("Confidence", "Accuracy")

    def test_given_axes_are_used(self):
        ax = Figure().subplots()
        assert plot_reliability([[1, 0.5, 1]], ax=ax) is ax

    @pytest.mark.parametrize("table", [np.zeros((15, 3)), [[1, 2]], [1, 2, 3], []])
    def test_invalid_table_is_an_error(self, table):
        with pytest.raises(ParameterError, match="at least one prediction"):
            plot_reliability(table)
