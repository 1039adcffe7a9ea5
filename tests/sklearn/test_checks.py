"""scikit-learn's own checks of its conventions, on every estimator.

They give tables of a few columns, which here are waveforms of a few samples. The transformers take them as they are;
for the classifier there is a feature that is the samples themselves, and a network of one layer, so that what is
checked is the estimator and not whether random numbers are music. All checks pass; one that audio does not allow would
be named with its reason among ``EXCEPTIONS``.
"""

from __future__ import annotations

import pytest
import torch
from sklearn.utils.estimator_checks import parametrize_with_checks
from torch import nn

from musgenre.backbones.base import BACKBONES, Backbone, InputSpec
from musgenre.core.config import AudioSpec
from musgenre.features.base import FEATURES, FeatureExtractor
from musgenre.sklearn import EmbeddingTransformer, FeatureTransformer, GenreEstimator

RATE = 100
pytestmark = pytest.mark.slow


class Samples(FeatureExtractor):
    """The waveform as it is."""

    def out_shape(self, samples: int) -> tuple[int, int, int]:
        return 1, 1, samples

    def forward(self, waveform: torch.Tensor) -> torch.Tensor:
        return waveform[:, None, None]


class Line(Backbone):
    """Every sample by itself."""

    def __init__(self, *, in_channels: int = 1) -> None:
        super().__init__()
        self.out_features = 12
        self.expects = InputSpec(channels=in_channels, size=(1, 12))
        self.scale = nn.Linear(12, 12)
        nn.init.eye_(self.scale.weight)

    def stages(self) -> list[nn.Module]:
        return [self.scale]

    def forward(self, feature: torch.Tensor) -> torch.Tensor:
        return self.scale(feature.flatten(start_dim=1))


@pytest.fixture(scope="module", autouse=True)
def plugins():
    with FEATURES.temporary("samples", Samples), BACKBONES.temporary("line", Line):
        yield


OPTIONS = {
    "audio": AudioSpec(RATE, window_seconds=0.12, hop_seconds=0.12),
    "head_epochs": 0,
    "epochs": 3,
    "head_learning_rate": 0.1,
    "dropout": 0.0,
    "batch_size": 32,
    "warmup": 0.0,
}
ESTIMATORS = [
    FeatureTransformer("stats", window_seconds=0.1),
    EmbeddingTransformer(device="cpu"),
    GenreEstimator("line", feature="samples", sample_rate=RATE, options=OPTIONS),
]


EXCEPTIONS: dict[str, str] = {}


@pytest.mark.filterwarnings("ignore:Each row is a song")
@parametrize_with_checks(ESTIMATORS, expected_failed_checks=lambda _: EXCEPTIONS)
def test_conventions(estimator, check):
    check(estimator)
