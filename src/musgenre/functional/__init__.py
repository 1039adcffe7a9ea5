"""Pure functions from waveforms to spectra and pictures.

Each takes a tensor first and the rest by keyword, accepts any leading dimensions, keeps the tensor's
dtype and device, and differentiates. Words, defaults and results are librosa's (McFee et al.,
"librosa: Audio and Music Signal Analysis in Python", 2015), but for two names: ``f_min_hz`` and
``f_max_hz`` carry their unit, and ``floor_db`` is librosa's ``top_db``.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
