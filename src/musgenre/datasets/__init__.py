"""Datasets: tracks with their genres, and splits that keep each artist on one side.

- :class:`GTZAN` and :class:`AudioFolder` find the tracks; both are a :class:`TrackDataset` of :class:`Track` records.
- :func:`holdout`, :func:`group_folds` and :func:`check_split` divide tracks, never windows.
- :data:`DATASETS` finds a dataset by name; :func:`register_dataset` adds one.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
