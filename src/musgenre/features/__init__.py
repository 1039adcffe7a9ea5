"""Feature extractors: modules from audio to what a backbone sees.

``FEATURES`` finds them by name, ``FeatureExtractor`` says what one is, and ``register_feature`` adds
one's own. Names are loaded when they are first touched, so that importing this package is cheap.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
