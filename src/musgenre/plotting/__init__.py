"""Plots of audio, predictions, training and evaluation.

Every ``plot_`` function draws on the given axes, or on those of a new figure, and returns the axes, so that
``ax.figure.savefig(...)`` saves the plot and a notebook shows it. Nothing here imports ``matplotlib.pyplot``: the
backend, the open figures and the settings of the caller are not changed.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
