"""PyTorch modules for spectrograms, image shapes and random augmentation, based on :mod:`musgenre.functional`.

Transforms store their constants, compose with ``torch.nn.Sequential``, accept batches, are differentiable and move
between devices. Names are loaded on first access, so that importing this package is cheap.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
