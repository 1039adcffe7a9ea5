"""Evaluation of classifiers: reports, cross-validation and comparison.

- :func:`evaluate` evaluates a classifier on a dataset; :class:`EvaluationReport` holds all scores and predictions.
- :func:`cross_validate` trains and evaluates a :class:`Recipe` on folds that keep the tracks of an artist together.
- :func:`compare` tests whether two reports on the same tracks differ significantly.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
