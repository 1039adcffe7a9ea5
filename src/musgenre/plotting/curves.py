"""Plots of training histories."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from musgenre.core.errors import ParameterError
from musgenre.plotting.figures import new_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_LOSSES = {"train_loss": ("training loss", "#0072B2"), "valid_loss": ("validation loss", "#D55E00")}
_ACCURACY, _ACCURACY_COLOUR = "valid_accuracy", "#009E73"


def plot_history(history: Sequence[Mapping[str, Any]], *, ax: Axes | None = None) -> Axes:
    """Plots learning curves: losses and validation accuracy by epoch, over all training stages.

    Args:
        history: One mapping for each epoch, as in the attribute ``history`` of
            :class:`~musgenre.training.finetune.FinetuneResult`.
        ax: Axes to draw on; ``None`` creates a new figure.

    Returns:
        The axes, with epochs from 1 on the x-axis and the loss on the y-axis. A second y-axis on the right shows the
        accuracy, in [0, 1], and dotted vertical lines separate the stages.

    Raises:
        ParameterError: The history is empty.

    Example:
        >>> epochs = [{"stage": "head", "train_loss": 1.5}, {"stage": "backbone", "train_loss": 0.5}]
        >>> ax = plot_history(epochs)
        >>> ax.lines[0].get_ydata().tolist(), [text.get_text() for text in ax.texts]
        ([1.5, 0.5], ['head', 'backbone'])
    """
    from matplotlib.ticker import MaxNLocator, PercentFormatter

    if not history:
        raise ParameterError("The history is empty: learning curves need at least one finished epoch.")
    ax = new_axes(8, 4) if ax is None else ax
    for metric, (label, colour) in _LOSSES.items():
        if points := _points(history, metric):
            ax.plot(*points, marker=".", color=colour, label=label)
    if points := _points(history, _ACCURACY):
        right = ax.twinx()
        right.plot(*points, marker=".", color=_ACCURACY_COLOUR)
        # An empty line, so that both axes share one legend.
        ax.plot([], [], marker=".", color=_ACCURACY_COLOUR, label="validation accuracy")
        right.set(ylim=(0, 1), ylabel="Track accuracy")
        right.yaxis.set_major_formatter(PercentFormatter(xmax=1, symbol=" %"))
    stages = [row["stage"] for row in history]
    starts = [index for index in range(len(stages)) if index == 0 or stages[index] != stages[index - 1]]
    for start in starts:
        if start:
            ax.axvline(start + 0.5, color="grey", linestyle=":")
        ax.text(
            start + 0.55, 1.01, stages[start], transform=ax.get_xaxis_transform(), fontsize="small", parse_math=False
        )
    ax.set(xlim=(0.5, len(history) + 0.5), xlabel="Epoch", ylabel="Loss")
    ax.set_ylim(bottom=0)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.legend(loc="upper right")
    return ax


def _points(history: Sequence[Mapping[str, Any]], metric: str) -> tuple[list[int], list[float]] | None:
    found = [(epoch, row[metric]) for epoch, row in enumerate(history, start=1) if metric in row]
    return ([epoch for epoch, _ in found], [value for _, value in found]) if found else None
