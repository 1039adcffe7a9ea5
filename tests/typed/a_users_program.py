"""What a user of musgenre might write, with types; ``mypy --strict`` finds nothing wrong with it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
from torch import Tensor, nn
from typing_extensions import assert_type

import musgenre
from musgenre.backbones import Backbone, InputSpec
from musgenre.features import FeatureExtractor
from musgenre.testing import ContractReport, check_backbone
from musgenre.transforms import MelSpectrogram


@musgenre.register_feature("my-bands")
class MyBands(FeatureExtractor):
    """A mel spectrogram."""

    def __init__(self, *, sample_rate: int, n_mels: int = 24) -> None:
        super().__init__(sample_rate=sample_rate)
        self.mel = MelSpectrogram(sample_rate=sample_rate, n_mels=n_mels)

    def out_shape(self, samples: int) -> tuple[int, int, int]:
        return 1, self.mel.n_mels, self.mel.frame_count(samples)

    def forward(self, waveform: Tensor) -> Tensor:
        picture: Tensor = self.mel(waveform)
        return picture[:, None]


@musgenre.register_backbone("my-net")
class MyNet(Backbone):
    """One convolution."""

    default_feature = "my-bands"

    def __init__(self, *, in_channels: int, width: int = 8) -> None:
        super().__init__()
        self.expects, self.out_features = InputSpec(channels=in_channels), width
        self.layer = nn.Conv2d(in_channels, width, 3)

    def stages(self) -> list[nn.Module]:
        return [self.layer]

    def forward(self, feature: Tensor) -> Tensor:
        vector: Tensor = self.layer(feature)
        return vector.mean(dim=(-2, -1))


def train(folder: Path) -> musgenre.GenreClassifier:
    """Trains, measures and saves."""
    data = musgenre.datasets.AudioFolder(folder, groups=folder / "artists.csv")
    learn, test = musgenre.datasets.holdout(data, fraction=0.2)
    options: musgenre.FinetuneOptions = {"seed": 1, "directory": folder / "run", "resume": True, "epochs": 3}
    component = musgenre.Component("my-net", {"width": 4})
    result = musgenre.finetune(learn, valid=test, backbone=component, **options)
    assert_type(result.classifier, musgenre.GenreClassifier)
    report = musgenre.evaluate(result.classifier, test, trained_on=learn)
    assert_type(report.accuracy, float)
    result.classifier.save_pretrained(folder / "model")
    assert_type(result.classifier.push_to_hub("me/my-model", private=True), str)
    return result.classifier


def use(classifier: musgenre.GenreClassifier, songs: list[Path]) -> list[str]:
    """Predicts."""
    one = classifier.predict(songs[0])
    assert_type(one, musgenre.Prediction)
    assert_type(one.probabilities, dict[str, float])
    assert_type(classifier.predict(songs), list[musgenre.Prediction])
    assert_type(classifier.predict_proba(songs), npt.NDArray[np.float64])
    assert_type(classifier.embed(songs), npt.NDArray[np.float32])
    labels = []
    for answer in classifier.predict(songs, on_error="return"):
        if isinstance(answer, musgenre.MusgenreError):
            continue
        labels.append(answer.label)
    return labels


def load() -> musgenre.GenreClassifier:
    """Loads a model from the hub."""
    return musgenre.GenreClassifier.from_pretrained("org/name", revision="v1", token=False, local_files_only=True)


def test_contract() -> None:
    """Holds the network to the contract."""
    assert_type(check_backbone("my-net"), ContractReport)
