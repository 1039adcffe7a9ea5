"""How good a classifier is, and how sure one can be of that.

- :func:`evaluate` measures a classifier on tracks; :class:`EvaluationReport` holds every figure and every prediction.
- :func:`cross_validate` trains and measures a :class:`Recipe` on folds that keep each artist on one side.
- :func:`compare` says whether two reports on the same tracks differ by more than chance.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
