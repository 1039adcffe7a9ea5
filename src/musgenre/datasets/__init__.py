"""Datasets: tracks with genre labels, and splits that keep the tracks of each artist together.

- :class:`GTZAN` and :class:`AudioFolder` find tracks on disk; each is a :class:`TrackDataset` of :class:`Track`.
- :func:`holdout` and :func:`group_folds` split tracks, never windows; :func:`check_split` detects leakage.
- :data:`DATASETS` is the registry of datasets; :func:`register_dataset` adds one.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
