"""Metrics for genre classification.

- Aggregation of windows: ``track_probabilities``.
- Predicted labels: ``accuracy``, ``macro_f1``, ``confusion``, ``genre_scores``.
- Predicted probabilities: ``top_k_accuracy``, ``reliability``, ``expected_calibration_error``; temperature scaling with
  ``fit_temperature``.
- Uncertainty: ``accuracy_interval``, ``bootstrap_interval``, ``mcnemar``.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
