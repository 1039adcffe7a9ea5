"""Contract checks for the tests of custom features and backbones.

``check_feature("name")`` and ``check_backbone("name")`` build the component that is registered under a name, check the
entire contract on which musgenre relies, and raise one error that lists all violations.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
