"""From a file, a file object or samples to mono float32 at one rate: the only way in, and the only resampler.

``AudioWindows`` gives a song window by window, ``blocks`` block by block, ``load`` at once; ``read_window`` seeks.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
