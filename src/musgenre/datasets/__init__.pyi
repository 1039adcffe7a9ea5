from .base import DATASETS as DATASETS
from .base import DatasetWarning as DatasetWarning
from .base import MissingTrack as MissingTrack
from .base import Track as Track
from .base import TrackDataset as TrackDataset
from .base import register_dataset as register_dataset
from .folder import AudioFolder as AudioFolder
from .gtzan import GTZAN as GTZAN
from .pictures import PictureFolder as PictureFolder
from .spectrograms import StoredSpectrogram as StoredSpectrogram
from .spectrograms import store_spectrograms as store_spectrograms
from .splits import check_split as check_split
from .splits import group_folds as group_folds
from .splits import holdout as holdout

__all__ = [
    "DATASETS",
    "GTZAN",
    "AudioFolder",
    "DatasetWarning",
    "MissingTrack",
    "PictureFolder",
    "StoredSpectrogram",
    "Track",
    "TrackDataset",
    "check_split",
    "group_folds",
    "holdout",
    "register_dataset",
    "store_spectrograms",
]
