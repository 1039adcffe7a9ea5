"""scikit-learn estimators: features and embeddings as transformers, fine-tuning as a classifier.

They work in a ``Pipeline``, ``cross_val_score`` or ``GridSearchCV`` like any other estimator. Their input is a sequence
of paths, or an array of waveforms ``(songs, samples)``.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
