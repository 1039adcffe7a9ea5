"""Maps of embeddings: positions, colours and labels."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from scipy.spatial.distance import pdist
from sklearn.decomposition import PCA

from musgenre.core.errors import ParameterError, UnknownNameError
from musgenre.plotting import COLOURS, plot_embedding_map


class TestEmbeddingMap:
    @pytest.fixture
    def songs(self):
        random = np.random.default_rng(0)
        centres = {"jazz": 0.0, "metal": 6.0, "$pop$": -6.0}
        labels = [label for label in centres for _ in range(12)]
        return np.stack([centres[label] + random.normal(size=20) for label in labels]), labels

    def points(self, ax):
        return {drawn.get_label(): np.asarray(drawn.get_offsets()) for drawn in ax.collections}

    def test_pca_equals_scikit_learns(self, songs):
        vectors, labels = songs
        given = Figure().subplots()
        ax = plot_embedding_map(vectors, labels, ax=given)
        assert ax is given
        expected = PCA(2).fit_transform(vectors)
        for label, points in self.points(ax).items():
            chosen = expected[[other == label for other in labels]]
            # The sign of a principal component is arbitrary, so distances are compared.
            np.testing.assert_allclose(pdist(points), pdist(chosen), rtol=1e-6)
        share = PCA(2).fit(vectors).explained_variance_ratio_[0]
        assert f"{share:.0%}" in ax.get_xlabel()

    @pytest.mark.parametrize("method", ["pca", "tsne"])
    def test_similar_songs_are_close_to_each_other(self, songs, method):
        ax = plot_embedding_map(*songs, method=method)
        points = self.points(ax)
        centres = {label: rows.mean(axis=0) for label, rows in points.items()}
        for label, rows in points.items():
            for row in rows:
                nearest = min(centres, key=lambda other: np.linalg.norm(row - centres[other]))
                assert nearest == label

    def test_genres_have_labels_and_colours_in_alphabetical_order(self, songs):
        ax = plot_embedding_map(*songs)
        assert [text.get_text() for text in ax.get_legend().get_texts()] == ["$pop$", "jazz", "metal"]
        colours = [tuple(drawn.get_facecolor()[0]) for drawn in ax.collections]
        assert colours == [to_rgba(colour) for colour in COLOURS[:3]]
        ax.figure.canvas.draw()

    def test_eleventh_genre_has_a_different_marker(self):
        vectors = np.random.default_rng(0).normal(size=(11, 3))
        drawn = plot_embedding_map(vectors, [f"genre {number:02}" for number in range(11)]).collections
        assert tuple(drawn[10].get_facecolor()[0]) == tuple(drawn[0].get_facecolor()[0])
        assert drawn[10].get_paths()[0].vertices.shape != drawn[0].get_paths()[0].vertices.shape

    def test_same_songs_give_the_same_map(self, songs):
        first, second = (self.points(plot_embedding_map(*songs, method="tsne")) for _ in range(2))
        for label, points in first.items():
            np.testing.assert_array_equal(points, second[label])

    @pytest.mark.parametrize("method", ["pca", "tsne"])
    def test_identical_embeddings_can_be_plotted(self, method):
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
    def test_invalid_embeddings_are_an_error(self, vectors, labels):
        with pytest.raises(ParameterError):
            plot_embedding_map(vectors, labels)

    def test_unknown_method_suggests_similar_names(self, songs):
        with pytest.raises(UnknownNameError, match="Did you mean 'tsne'"):
            plot_embedding_map(*songs, method="t-sne")
