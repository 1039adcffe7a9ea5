"""Musgenre's parts as scikit-learn's: features and embeddings as transformers, fine-tuning as a classifier.

They go into a ``Pipeline``, ``cross_val_score`` or ``GridSearchCV`` like any other estimator. What they are given is
songs: a sequence of paths, or a table of waveforms ``(songs, samples)``.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
