"""Pure functions that compute spectrograms and other features from waveforms.

Each function takes a tensor first and its parameters by keyword, accepts any leading dimensions, preserves dtype and
device, and is differentiable unless its docstring states otherwise. Names, defaults and results follow librosa (McFee
et al., "librosa: Audio and Music Signal Analysis in Python", 2015), with two exceptions: ``f_min_hz`` and ``f_max_hz``
carry their unit, and ``floor_db`` is librosa's ``top_db``.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
