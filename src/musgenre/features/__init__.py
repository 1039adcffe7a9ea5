"""Feature extractors: PyTorch modules that compute the input of a backbone from audio.

``FeatureExtractor`` defines the contract, ``FEATURES`` is the registry by name, and ``register_feature`` registers a
custom feature. Names are loaded on first access, so that importing this package is cheap.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
