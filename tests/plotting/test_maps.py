"""Pictures of saliency and of collections: what was drawn, in numbers, places and colours."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from scipy.spatial.distance import pdist
from sklearn.decomposition import PCA

from musgenre.core.errors import ParameterError, UnknownNameError
from musgenre.plotting import COLOURS, plot_embedding_map, plot_saliency


class TestSaliency:
    def draw(self, saliency, **options):
        cells = np.arange(np.size(saliency), dtype=float).reshape(np.shape(saliency))
        return plot_saliency(saliency, spectrogram=cells, seconds=(3.0, 6.0), **options)

    def test_what_counts_covers_the_spectrogram_and_what_does_not_leaves_it(self):
        ax = self.draw([[0.0, 1.0], [-2.0, 0.0]])
        spectrogram, saliency = ax.images
        assert spectrogram.get_array().tolist() == [[0, 1], [2, 3]]
        assert saliency.get_array().tolist() == [[0, 1], [-2, 0]]
        alpha = saliency.get_alpha()
        assert alpha[0, 0] == alpha[1, 1] == 0
        assert alpha[1, 0] > alpha[0, 1] > 0.3

    def test_for_is_orange_and_against_is_violet(self):
        image = self.draw([[1.0, -1.0], [0.0, 0.0]]).images[1]
        speaking_for, against = (image.cmap(image.norm(value))[:3] for value in (1.0, -1.0))
        assert speaking_for[0] > speaking_for[2]
        assert against[2] > against[0]
        low, high = image.get_clim()
        assert low == -high

    def test_one_cell_does_not_pale_all_others(self):
        saliency = np.ones((40, 50))
        saliency[0, 0] = 1_000
        assert self.draw(saliency).images[1].get_clim()[1] < 10

    @pytest.mark.parametrize("value", [0.0, 3.0])
    def test_an_even_map_can_be_drawn(self, value):
        ax = self.draw(np.full((3, 4), value))
        ax.figure.canvas.draw()
        assert np.isfinite(ax.images[1].get_clim()).all()
        assert ax.images[1].get_alpha().max() == (0 if value == 0 else pytest.approx(0.85))

    def test_the_loud_is_dark_in_a_drawn_picture(self):
        figure = Figure(figsize=(2, 2), dpi=50)
        ax = figure.add_axes((0, 0, 1, 1))
        assert plot_saliency(np.zeros((2, 1)), spectrogram=[[0.0], [1.0]], seconds=(0, 1), ax=ax) is ax
        ax.set_axis_off()
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        rows = np.asarray(canvas.buffer_rgba())[:, 50, 0]
        assert rows[10] < 50
        assert rows[-10] > 200

    def test_frequencies_stand_beside_their_bins(self):
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
    def test_refuses_what_does_not_fit(self, saliency, spectrogram, bins_hz):
        with pytest.raises(ParameterError):
            plot_saliency(saliency, spectrogram=spectrogram, seconds=(0, 1), bins_hz=bins_hz)


class TestEmbeddingMap:
    @pytest.fixture
    def songs(self):
        random = np.random.default_rng(0)
        centres = {"jazz": 0.0, "metal": 6.0, "$pop$": -6.0}
        labels = [label for label in centres for _ in range(12)]
        return np.stack([centres[label] + random.normal(size=20) for label in labels]), labels

    def points(self, ax):
        return {drawn.get_label(): np.asarray(drawn.get_offsets()) for drawn in ax.collections}

    def test_pca_is_scikit_learns(self, songs):
        vectors, labels = songs
        given = Figure().subplots()
        ax = plot_embedding_map(vectors, labels, ax=given)
        assert ax is given
        expected = PCA(2).fit_transform(vectors)
        for label, points in self.points(ax).items():
            chosen = expected[[other == label for other in labels]]
            # Directions have no sign of their own, so distances are compared.
            np.testing.assert_allclose(pdist(points), pdist(chosen), rtol=1e-6)
        share = PCA(2).fit(vectors).explained_variance_ratio_[0]
        assert f"{share:.0%}" in ax.get_xlabel()

    @pytest.mark.parametrize("method", ["pca", "tsne"])
    def test_songs_that_are_alike_lie_together(self, songs, method):
        ax = plot_embedding_map(*songs, method=method)
        points = self.points(ax)
        centres = {label: rows.mean(axis=0) for label, rows in points.items()}
        for label, rows in points.items():
            for row in rows:
                nearest = min(centres, key=lambda other: np.linalg.norm(row - centres[other]))
                assert nearest == label

    def test_genres_are_named_and_coloured_in_order(self, songs):
        ax = plot_embedding_map(*songs)
        assert [text.get_text() for text in ax.get_legend().get_texts()] == ["$pop$", "jazz", "metal"]
        colours = [tuple(drawn.get_facecolor()[0]) for drawn in ax.collections]
        assert colours == [to_rgba(colour) for colour in COLOURS[:3]]
        ax.figure.canvas.draw()

    def test_an_eleventh_genre_has_another_marker(self):
        vectors = np.random.default_rng(0).normal(size=(11, 3))
        drawn = plot_embedding_map(vectors, [f"genre {number:02}" for number in range(11)]).collections
        assert tuple(drawn[10].get_facecolor()[0]) == tuple(drawn[0].get_facecolor()[0])
        assert drawn[10].get_paths()[0].vertices.shape != drawn[0].get_paths()[0].vertices.shape

    def test_the_same_songs_give_the_same_map(self, songs):
        first, second = (self.points(plot_embedding_map(*songs, method="tsne")) for _ in range(2))
        for label, points in first.items():
            np.testing.assert_array_equal(points, second[label])

    @pytest.mark.parametrize("method", ["pca", "tsne"])
    def test_songs_that_are_all_alike_can_be_drawn(self, method):
        plot_embedding_map(np.ones((4, 3)), ["a", "a", "b", "b"], method=method).figure.canvas.draw()

    @pytest.mark.parametrize(
        ("vectors", "labels"),
        [
            (np.ones((2, 3)), ["a", "b"]),
            (np.ones((3, 3)), ["a", "b"]),
            (np.ones((3, 1)), ["a", "b", "c"]),
            (np.ones(3), ["a", "b", "c"]),
            (np.array([[1, 2], [np.nan, 1], [0, 1]]), ["a", "b", "c"]),
        ],
    )
    def test_refuses_what_makes_no_map(self, vectors, labels):
        with pytest.raises(ParameterError):
            plot_embedding_map(vectors, labels)

    def test_a_wrong_method_is_answered_with_close_ones(self, songs):
        with pytest.raises(UnknownNameError, match="Did you mean 'tsne"):
            plot_embedding_map(*songs, method="t-sne")
