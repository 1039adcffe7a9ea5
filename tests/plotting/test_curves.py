"""Learning curves."""

import pytest
from matplotlib.figure import Figure

from musgenre.core.errors import ParameterError
from musgenre.plotting import plot_history

HISTORY = [
    {"stage": "head", "epoch": 1, "train_loss": 2.0, "valid_loss": 2.2, "valid_accuracy": 0.2},
    {"stage": "head", "epoch": 2, "train_loss": 1.5, "valid_loss": 2.0, "valid_accuracy": 0.4},
    {"stage": "backbone", "epoch": 1, "train_loss": 1.0, "valid_loss": 1.8, "valid_accuracy": 0.5},
]


def test_every_metric_has_a_curve_over_all_stages():
    given_ax = Figure().subplots()
    ax = plot_history(HISTORY, ax=given_ax)
    assert ax is given_ax
    right = next(other for other in ax.figure.axes if other is not ax)
    drawn = {line.get_label(): line for line in ax.lines}
    for label, metric in (("training loss", "train_loss"), ("validation loss", "valid_loss")):
        assert list(drawn[label].get_xdata()) == [1, 2, 3]
        assert list(drawn[label].get_ydata()) == [row[metric] for row in HISTORY]
    assert list(right.lines[0].get_ydata()) == [0.2, 0.4, 0.5]
    assert right.get_ylim() == (0, 1)
    assert [text.get_text() for text in ax.texts] == ["head", "backbone"]
    assert [line.get_xdata()[0] for line in ax.lines if line.get_linestyle() == ":"] == [2.5]
    assert {text.get_text() for text in ax.get_legend().get_texts()} == {
        "training loss", "validation loss", "validation accuracy"
    }  # fmt: skip


def test_without_validation_there_is_a_single_curve():
    ax = plot_history([{"stage": "$head$", "train_loss": 1.0}])
    assert ax.figure.axes == [ax]
    ax.figure.canvas.draw()


def test_empty_history_is_an_error():
    with pytest.raises(ParameterError, match="history is empty"):
        plot_history([])
