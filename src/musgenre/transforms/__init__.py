"""Modules over :mod:`musgenre.functional`: spectra, shapes and random augmentation.

They hold their constants, compose with ``torch.nn.Sequential``, take batches, differentiate and move between devices.
Names are loaded when they are first touched, so that importing this package is cheap.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
