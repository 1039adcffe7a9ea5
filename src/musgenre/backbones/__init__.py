"""Backbones: networks that map a feature to one vector, on which the head classifies.

``BACKBONES`` is the registry, ``Backbone`` the contract and ``register_backbone`` the decorator.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
