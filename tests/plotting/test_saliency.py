"""Saliency maps: values, colours and labels."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from musgenre.core.errors import ParameterError
from musgenre.plotting import plot_saliency


class TestSaliency:
    def draw(self, saliency, **options):
        cells = np.arange(np.size(saliency), dtype=float).reshape(np.shape(saliency))
        return plot_saliency(saliency, spectrogram=cells, seconds=(3.0, 6.0), **options)

    def test_opacity_increases_with_saliency(self):
        ax = self.draw([[0.0, 1.0], [-2.0, 0.0]])
        spectrogram, saliency = ax.images
        assert spectrogram.get_array().tolist() == [[0, 1], [2, 3]]
        assert saliency.get_array().tolist() == [[0, 1], [-2, 0]]
        alpha = saliency.get_alpha()
        assert alpha[0, 0] == alpha[1, 1] == 0
        assert alpha[1, 0] > alpha[0, 1] > 0.3

    def test_positive_is_orange_and_negative_is_violet(self):
        image = self.draw([[1.0, -1.0], [0.0, 0.0]]).images[1]
        positive, negative = (image.cmap(image.norm(value))[:3] for value in (1.0, -1.0))
        assert positive[0] > positive[2]
        assert negative[2] > negative[0]
        low, high = image.get_clim()
        assert low == -high

    def test_outlier_does_not_make_other_cells_pale(self):
        saliency = np.ones((40, 50))
        saliency[0, 0] = 1_000
        assert self.draw(saliency).images[1].get_clim()[1] < 10

    @pytest.mark.parametrize("value", [0.0, 3.0])
    def test_constant_saliency(self, value):
        ax = self.draw(np.full((3, 4), value))
        ax.figure.canvas.draw()
        assert np.isfinite(ax.images[1].get_clim()).all()
        assert ax.images[1].get_alpha().max() == (0 if value == 0 else pytest.approx(0.85))

    def test_larger_values_are_darker(self):
        figure = Figure(figsize=(2, 2), dpi=50)
        ax = figure.add_axes((0, 0, 1, 1))
        assert plot_saliency(np.zeros((2, 1)), spectrogram=[[0.0], [1.0]], seconds=(0, 1), ax=ax) is ax
        ax.set_axis_off()
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        rows = np.asarray(canvas.buffer_rgba())[:, 50, 0]
        assert rows[10] < 50
        assert rows[-10] > 200

    def test_frequencies_label_their_bins(self):
        ax = self.draw(np.ones((5, 2)), bins_hz=[0, 256, 400, 512, 900])
        assert [text.get_text() for text in ax.get_yticklabels()] == ["0", "256", "512"]
        assert ax.get_yticks().tolist() == [0, 1, 3]

    @pytest.mark.parametrize(
        ("saliency", "spectrogram", "bins_hz"),
        [
            ([[1.0, 2.0]], [[1.0]], None),
            ([1.0], [1.0], None),
            (np.ones((0, 3)), np.ones((0, 3)), None),
            ([[np.nan]], [[1.0]], None),
            ([[1.0]], [[np.inf]], None),
            ([[1.0]], [[1.0]], [1.0, 2.0]),
        ],
    )
    def test_invalid_arguments(self, saliency, spectrogram, bins_hz):
        with pytest.raises(ParameterError):
            plot_saliency(saliency, spectrogram=spectrogram, seconds=(0, 1), bins_hz=bins_hz)
