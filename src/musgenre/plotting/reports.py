"""Plots of evaluation results."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from musgenre.core.errors import ParameterError
from musgenre.metrics.probabilities import calibration_error
from musgenre.plotting.figures import new_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def plot_confusion(matrix: npt.ArrayLike, *, labels: Sequence[str], ax: Axes | None = None) -> Axes:
    """Plots a confusion matrix: cells contain counts, colours show the shares of each row.

    Args:
        matrix: Counts; rows are true labels, columns are predicted labels.
        labels: Genres, in the order of the rows.
        ax: Axes to draw on; ``None`` creates a new figure.

    Returns:
        The axes, with predicted labels on the x-axis and true labels on the y-axis. Colours range from 0 to 1.

    Raises:
        ParameterError: The matrix is not square with a row for each label.

    Shape:
        - matrix: ``(labels, labels)``

    Example:
        >>> ax = plot_confusion([[3, 1], [0, 2]], labels=["jazz", "rock"])
        >>> ax.images[0].get_array().tolist()
        [[0.75, 0.25], [0.0, 1.0]]
    """
    counts = np.asarray(matrix)
    if counts.shape != (len(labels), len(labels)):
        raise ParameterError(
            f"Expected a square matrix with a row for each of {len(labels)} labels, got the shape {counts.shape}."
        )
    side = max(4.0, 0.6 * len(labels) + 2)
    ax = new_axes(side, side) if ax is None else ax
    totals = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, totals, out=np.zeros(counts.shape), where=totals > 0)
    ax.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (row, column), count in np.ndenumerate(counts):
        if count:
            colour = "white" if shares[row, column] > 0.5 else "black"
            ax.text(column, row, f"{count}", ha="center", va="center", color=colour)
    ax.set_xticks(range(len(labels)), labels, rotation=45, ha="right", rotation_mode="anchor", parse_math=False)
    ax.set_yticks(range(len(labels)), labels, parse_math=False)
    ax.set(xlabel="Predicted", ylabel="True")
    ax.set_title("Confusion matrix: tracks", loc="left")
    return ax


def plot_reliability(table: npt.ArrayLike, *, ax: Axes | None = None) -> Axes:
    """Plots a reliability diagram: accuracy against confidence.

    A bar that ends below the dashed diagonal shows overconfidence, one that ends above it underconfidence. The number
    above each bar is its number of predictions.

    Args:
        table: Table of :func:`musgenre.metrics.reliability`.
        ax: Axes to draw on; ``None`` creates a new figure.

    Returns:
        The axes, with the confidence on the x-axis and the accuracy on the y-axis, both in [0, 1].

    Raises:
        ParameterError: The table does not have three columns, or contains no prediction.

    Shape:
        - table: ``(bins, 3)``

    Example:
        >>> ax = plot_reliability([[0, 0.0, 0], [4, 3.2, 3]])
        >>> [float(bar.get_height()) for bar in ax.patches], ax.get_title(loc="left")
        ([0.75], 'Calibration error: 0.050')
    """
    from matplotlib.ticker import PercentFormatter

    bins = np.asarray(table, dtype=np.float64)
    if bins.ndim != 2 or bins.shape[1] != 3 or not bins[:, 0].sum() > 0:
        raise ParameterError(f"Expected a table of the shape (bins, 3) with at least one prediction, got {bins.shape}.")
    ax = new_axes(5, 5) if ax is None else ax
    width = 1 / len(bins)
    filled = np.flatnonzero(bins[:, 0])
    counts, _, correct = bins[filled].T
    bars = ax.bar((filled + 0.5) * width, correct / counts, width=width, color="#56B4E9", edgecolor="white")
    ax.bar_label(bars, [f"{count:.0f}" for count in counts], fontsize="small", padding=1)
    ax.plot([0, 1], [0, 1], color="black", linestyle="--", linewidth=1)
    ax.set(xlim=(0, 1), ylim=(0, 1.05), aspect="equal", xlabel="Confidence", ylabel="Accuracy")
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_formatter(PercentFormatter(xmax=1, symbol=" %"))
    ax.set_title(f"Calibration error: {calibration_error(bins):.3f}", loc="left")
    return ax
