from .base import FEATURES as FEATURES
from .base import FeatureExtractor as FeatureExtractor
from .base import register_feature as register_feature
from .spectral import LogMel as LogMel
from .spectral import LogMelImage as LogMelImage
from .spectral import Mfcc as Mfcc
from .yamnet import YAMNetLogMel as YAMNetLogMel
