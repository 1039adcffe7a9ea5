from .estimator import GenreEstimator as GenreEstimator
from .transformers import EmbeddingTransformer as EmbeddingTransformer
from .transformers import FeatureTransformer as FeatureTransformer
