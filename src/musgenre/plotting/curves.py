"""Pictures of how a network has learnt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from musgenre.core.errors import ParameterError
from musgenre.plotting.figures import own_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_LOSSES = {"train_loss": ("training loss", "#0072B2"), "valid_loss": ("validation loss", "#D55E00")}
_ACCURACY, _GREEN = "valid_accuracy", "#009E73"


def plot_history(history: Sequence[Mapping[str, Any]], *, ax: Axes | None = None) -> Axes:
    """Draws learning curves: loss, and accuracy where it was validated, by epoch over all stages.

    Args:
        history: What :class:`~musgenre.training.finetune.FinetuneResult` holds as ``history``: a mapping an epoch.
        ax: Where to draw; by default on a new figure.

    Returns:
        The axes: epochs from 1 across, the loss upwards. The accuracy, in [0, 1], is on a second axis at the right;
        dotted lines part the stages.

    Raises:
        ParameterError: There is no epoch.

    Example:
        >>> epochs = [{"stage": "head", "train_loss": 1.5}, {"stage": "backbone", "train_loss": 0.5}]
        >>> ax = plot_history(epochs)
        >>> ax.lines[0].get_ydata().tolist(), [text.get_text() for text in ax.texts]
        ([1.5, 0.5], ['head', 'backbone'])
    """
    from matplotlib.ticker import MaxNLocator, PercentFormatter

    if not history:
        raise ParameterError("There are no learning curves before the first epoch has ended.")
    ax = own_axes(8, 4) if ax is None else ax
    for figure, (label, colour) in _LOSSES.items():
        if points := _points(history, figure):
            ax.plot(*points, marker=".", color=colour, label=label)
    if points := _points(history, _ACCURACY):
        right = ax.twinx()
        right.plot(*points, marker=".", color=_GREEN)
        ax.plot([], [], marker=".", color=_GREEN, label="validation accuracy")  # for the one legend
        right.set(ylim=(0, 1), ylabel="Accuracy of tracks")
        right.yaxis.set_major_formatter(PercentFormatter(xmax=1, symbol=" %"))
    stages = [row["stage"] for row in history]
    starts = [place for place in range(len(stages)) if place == 0 or stages[place] != stages[place - 1]]
    for place in starts:
        if place:
            ax.axvline(place + 0.5, color="grey", linestyle=":")
        ax.text(
            place + 0.55, 1.01, stages[place], transform=ax.get_xaxis_transform(), fontsize="small", parse_math=False
        )
    ax.set(xlim=(0.5, len(history) + 0.5), xlabel="Epoch", ylabel="Loss")
    ax.set_ylim(bottom=0)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.legend(loc="upper right")
    return ax


def _points(history: Sequence[Mapping[str, Any]], figure: str) -> tuple[list[int], list[float]] | None:
    found = [(epoch, row[figure]) for epoch, row in enumerate(history, start=1) if figure in row]
    return ([epoch for epoch, _ in found], [value for _, value in found]) if found else None
