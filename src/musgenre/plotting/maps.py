"""Plots of embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from musgenre.core.errors import ParameterError
from musgenre.core.registry import unknown_name
from musgenre.plotting.figures import COLOURS, new_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Projection = Literal["pca", "tsne"]

_MIN_SONGS = 3
_PERPLEXITY = 30.0
_MARKERS = "oX^sDPv*"


def plot_embedding_map(
    embeddings: npt.ArrayLike, labels: Sequence[str], *, method: Projection = "pca", ax: Axes | None = None
) -> Axes:
    """Plots embeddings in two dimensions: each song is a point, and similar songs are close to each other.

    Args:
        embeddings: One embedding for each song, for instance from :meth:`GenreClassifier.embed
            <musgenre.models.classifier.GenreClassifier.embed>`.
        labels: Genre of each song. Colours are assigned to the genres in alphabetical order.
        method: Projection to two dimensions. ``"pca"`` shows the two directions of the largest variance; songs that are
            far apart in the plot are far apart in the embedding. ``"tsne"`` (van der Maaten and Hinton, 2008) preserves
            neighbourhoods, but not distances. Both are computed by scikit-learn and are deterministic.
        ax: Axes to draw on; ``None`` creates a new figure.

    Returns:
        The axes, with one collection of points for each genre. The points of ``"pca"`` have the scale of the
        embeddings.

    Raises:
        ParameterError: There are fewer than three songs, an embedding is not finite or has fewer than two dimensions,
            or the number of labels differs.
        UnknownNameError: The method is unknown.

    Shape:
        - embeddings: ``(songs, size)``

    Example:
        >>> ax = plot_embedding_map([[0, 0, 1], [0, 9, 0], [0, 8, 0]], ["jazz", "rock", "rock"])
        >>> [(points.get_label(), len(points.get_offsets())) for points in ax.collections]
        [('jazz', 1), ('rock', 2)]
    """
    vectors = np.asarray(embeddings, dtype=np.float64)
    if vectors.ndim != 2 or len(vectors) < _MIN_SONGS or vectors.shape[1] < 2 or len(labels) != len(vectors):
        raise ParameterError(
            f"Expected embeddings of the shape (songs, size) with {_MIN_SONGS} or more songs and a size of 2 or more, "
            f"and one label for each song; got {vectors.shape} and {len(labels)} label(s)."
        )
    if not np.isfinite(vectors).all():
        raise ParameterError("An embedding contains NaN or infinity. Leave out that song.")
    points, axis_labels = _project(vectors, method)
    ax = new_axes(7, 5) if ax is None else ax
    genres = sorted(set(labels))
    for index, genre in enumerate(genres):
        x, y = points[[label == genre for label in labels]].T
        colour, marker = COLOURS[index % len(COLOURS)], _MARKERS[index // len(COLOURS) % len(_MARKERS)]
        style: dict[str, Any] = {"s": 30, "marker": marker, "edgecolors": "white", "linewidths": 0.5}
        ax.scatter(x, y, color=colour, label=genre, **style)
    ax.set(xlabel=axis_labels[0], ylabel=axis_labels[1], aspect="equal", adjustable="datalim")
    if method == "tsne":
        ax.set(xticks=[], yticks=[])
    ax.set_title(f"{len(vectors)} songs", loc="left")
    legend = ax.legend(loc="center left", bbox_to_anchor=(1.005, 0.5), frameon=False, ncols=-(-len(genres) // 16))
    for text in legend.get_texts():
        text.set_parse_math(False)
    return ax


def _project(vectors: npt.NDArray[np.float64], method: Projection) -> tuple[npt.NDArray[np.float64], tuple[str, str]]:
    """Returns a point for each song, and the labels of both axes."""
    if method not in get_args(Projection):
        raise unknown_name(method, kind="projection", names=get_args(Projection))
    if not np.ptp(vectors, axis=0).any():
        # Identical embeddings have no variance, and would crash the process in scikit-learn's t-SNE.
        return np.zeros((len(vectors), 2)), ("All embeddings are equal", "")
    if method == "pca":
        from sklearn.decomposition import PCA

        pca = PCA(n_components=2, svd_solver="full")
        points = pca.fit_transform(vectors)
        first, second = pca.explained_variance_ratio_
        return points, (
            f"First principal component ({first:.0%} of the variance)",
            f"Second principal component ({second:.0%})",
        )
    from sklearn.manifold import TSNE

    perplexity = min(_PERPLEXITY, (len(vectors) - 1) / 3)
    return TSNE(perplexity=perplexity, init="pca", random_state=0).fit_transform(vectors), ("t-SNE", "")
