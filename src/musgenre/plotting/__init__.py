"""Pictures of what the library hears and what it concludes.

Every ``plot_`` function draws on the axes it is given or on a figure of its own, and returns the axes, so that
``ax.figure.savefig(...)`` or a notebook shows it. Nothing here imports ``matplotlib.pyplot``: the
caller's backend, open figures and settings stay as they are.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
