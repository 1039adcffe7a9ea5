"""Read a file, a file object or samples as mono float32 at one sample rate.

``AudioWindows`` iterates over windows and ``blocks`` over blocks; ``load`` reads everything, ``read_window`` one
section.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
