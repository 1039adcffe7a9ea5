"""Pictures of many songs at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from musgenre.core.errors import ParameterError
from musgenre.core.registry import unknown_name
from musgenre.plotting.figures import COLOURS, own_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Projection = Literal["pca", "tsne"]

_FEWEST = 3
_PERPLEXITY = 30.0
_MARKERS = "oX^sDPv*"


def plot_embedding_map(
    embeddings: npt.ArrayLike, labels: Sequence[str], *, method: Projection = "pca", ax: Axes | None = None
) -> Axes:
    """Draws a map of a collection: each song a point, songs that sound alike near each other.

    Args:
        embeddings: A vector a song, such as :meth:`GenreClassifier.embed
            <musgenre.models.classifier.GenreClassifier.embed>` gives of a list.
        labels: The genre of each song; genres are coloured in the order of their names.
        method: ``"pca"`` shows the two directions in which the songs differ most: what is far apart on it is far apart.
            ``"tsne"`` (van der Maaten and Hinton, 2008) keeps neighbours together, and its distances say nothing more.
            Both are scikit-learn's, and the same songs always give the same map.
        ax: Where to draw; by default on a new figure.

    Returns:
        The axes, with one collection of points a genre. Those of ``"pca"`` have the embeddings' scale.

    Raises:
        ParameterError: There are fewer than three songs, a vector is not finite or has fewer than two numbers, or there
            is not one label for each.
        UnknownNameError: There is no such method.

    Shape:
        - embeddings: ``(songs, size)``

    Example:
        >>> ax = plot_embedding_map([[0, 0, 1], [0, 9, 0], [0, 8, 0]], ["jazz", "rock", "rock"])
        >>> [(points.get_label(), len(points.get_offsets())) for points in ax.collections]
        [('jazz', 1), ('rock', 2)]
    """
    vectors = np.asarray(embeddings, dtype=np.float64)
    if vectors.ndim != 2 or len(vectors) < _FEWEST or vectors.shape[1] < 2 or len(labels) != len(vectors):
        raise ParameterError(
            f"A map needs at least {_FEWEST} songs, each a vector of two numbers or more with a label, not the shape "
            f"{vectors.shape} with {len(labels)} label(s)."
        )
    if not np.isfinite(vectors).all():
        raise ParameterError("An embedding holds what is no finite number: leave that song out.")
    points, names = _projected(vectors, method)
    ax = own_axes(7, 5) if ax is None else ax
    genres = sorted(set(labels))
    for place, genre in enumerate(genres):
        chosen = points[[label == genre for label in labels]]
        colour, marker = COLOURS[place % len(COLOURS)], _MARKERS[place // len(COLOURS) % len(_MARKERS)]
        look: dict[str, Any] = {"s": 30, "marker": marker, "edgecolors": "white", "linewidths": 0.5}
        ax.scatter(chosen[:, 0], chosen[:, 1], color=colour, label=genre, **look)
    ax.set(xlabel=names[0], ylabel=names[1], aspect="equal", adjustable="datalim")
    if method == "tsne":
        ax.set(xticks=[], yticks=[])
    ax.set_title(f"{len(vectors)} songs", loc="left")
    legend = ax.legend(loc="center left", bbox_to_anchor=(1.005, 0.5), frameon=False, ncols=-(-len(genres) // 16))
    for text in legend.get_texts():
        text.set_parse_math(False)
    return ax


def _projected(vectors: npt.NDArray[np.float64], method: Projection) -> tuple[npt.NDArray[np.float64], tuple[str, str]]:
    """Returns a point a song, and what the two axes are."""
    if method not in get_args(Projection):
        raise unknown_name(method, kind="projection", names=get_args(Projection))
    if not np.ptp(vectors, axis=0).any():
        # Songs that are all alike have no direction, and scikit-learn's t-SNE would end the process.
        return np.zeros((len(vectors), 2)), ("All songs are alike", "")
    if method == "pca":
        from sklearn.decomposition import PCA

        pca = PCA(n_components=2, svd_solver="full")
        points = pca.fit_transform(vectors)
        first, second = pca.explained_variance_ratio_
        return points, (f"First direction ({first:.0%} of the variance)", f"Second direction ({second:.0%})")
    from sklearn.manifold import TSNE

    perplexity = min(_PERPLEXITY, (len(vectors) - 1) / 3)
    return TSNE(perplexity=perplexity, init="pca", random_state=0).fit_transform(vectors), ("t-SNE", "")
