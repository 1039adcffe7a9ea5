"""The contract of features and backbones, for the tests of those who write one.

``check_feature("name")`` and ``check_backbone("name")`` build what is registered under the name, hold it to everything
that musgenre relies on, and raise one error that says in words all that it breaks.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
