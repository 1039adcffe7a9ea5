"""From windows to tracks, and from tracks to figures.

``track_probabilities`` makes one prediction of a track's windows; ``accuracy``, ``macro_f1``, ``confusion`` and
``genre_scores`` judge labels; ``top_k_accuracy``, ``reliability`` and ``expected_calibration_error`` judge
probabilities, and ``fit_temperature`` makes them mean what they say; ``accuracy_interval``, ``bootstrap_interval`` and
``mcnemar`` say how sure one can be.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
