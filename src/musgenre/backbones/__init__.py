"""Backbones: the networks between a feature and the head.

``BACKBONES`` is the registry, ``Backbone`` the contract, ``register_backbone`` the decorator.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
