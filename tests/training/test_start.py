"""Fine-tuning from a trained model: its feature and backbone, a new head."""

from __future__ import annotations

import pytest
import torch
from sklearn.linear_model import LogisticRegression

import musgenre
from musgenre.core.config import AudioSpec
from musgenre.core.errors import ConfigError, MusgenreError, ParameterError, WeightsError
from musgenre.datasets import AudioFolder, holdout
from musgenre.datasets.embeddings import TrackVectors


@pytest.fixture(scope="module", autouse=True)
def temporary_cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MUSGENRE_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def bundled():
    return musgenre.GenreClassifier.from_pretrained(device="cpu")


@pytest.fixture
def split(genre_folder):
    return holdout(AudioFolder(genre_folder), fraction=0.25)


def finetune(train, **options):
    return musgenre.finetune(train, progress=False, **{"head_epochs": 2, "windows_per_track": 1, "views": 1, **options})


@pytest.mark.slow
def test_default_model(split, bundled):
    train, valid = split
    result = musgenre.finetune(train, valid=valid, start="default", progress=False)
    classifier = result.classifier
    assert classifier.labels == train.labels
    assert classifier.config.audio == bundled.config.audio
    assert classifier.config.split.startswith(f"started from {bundled.config.name}; trained on")
    assert [stage.name for stage in result.plan] == ["head"]
    for before, after in zip(
        bundled.network.backbone.state_dict().values(), classifier.network.backbone.state_dict().values(), strict=True
    ):
        assert torch.equal(before, after)
    assert [classifier.predict(track.path).label for track in valid] == [track.label for track in valid]


def test_not_worse_than_logistic_regression(split, bundled):
    train, valid = split
    result = finetune(train, start=bundled, head_epochs=8, head_learning_rate=0.02)
    inputs, others = (bundled.embed([track.path for track in data]) for data in split)
    reference = LogisticRegression(max_iter=1000).fit(inputs, train.label_indices())
    report = musgenre.evaluate(result.classifier, valid)
    assert report.accuracy >= reference.score(others, valid.label_indices())


def test_a_directory_and_a_classifier_give_the_same_weights(split, bundled, tmp_path):
    train, _ = split
    bundled.save_pretrained(tmp_path / "model")
    one, other = (finetune(train, start=start).classifier.network for start in (bundled, tmp_path / "model"))
    for name, tensor in one.state_dict().items():
        assert torch.equal(tensor, other.state_dict()[name]), name


def test_the_backbone_is_trained_and_the_start_is_not_changed(split, bundled):
    train, _ = split
    before = {name: tensor.clone() for name, tensor in bundled.network.state_dict().items()}
    result = finetune(train, start=bundled, freeze="none", epochs=1, learning_rate=1e-3)
    assert [stage.name for stage in result.plan] == ["head", "backbone"]
    after = result.classifier.network.backbone.state_dict()
    assert any(not torch.equal(before[f"backbone.{name}"], tensor) for name, tensor in after.items())
    assert all(torch.equal(before[name], tensor) for name, tensor in bundled.network.state_dict().items())


def test_a_run_is_not_resumed_from_another_start(split, bundled, tmp_path):
    train, _ = split
    first = finetune(train, start=bundled, directory=tmp_path).classifier
    again = finetune(train, start=bundled, directory=tmp_path, resume=True).classifier
    assert torch.equal(first.network.head[1].weight, again.network.head[1].weight)
    other = musgenre.GenreClassifier.from_pretrained(device="cpu")
    with torch.no_grad():
        next(other.network.backbone.parameters()).add_(1e-3)
    with pytest.raises(ConfigError, match="start"):
        finetune(train, start=other, directory=tmp_path, resume=True)


@pytest.mark.parametrize("options", [{"backbone": "vgg16-slim"}, {"feature": "logmel"}, {"preset": "paper"}])
def test_contradicting_options(split, bundled, options):
    with pytest.raises(ParameterError, match="remove backbone, feature and preset"):
        finetune(split[0], start=bundled, **options)


def test_other_audio(split, bundled):
    with pytest.raises(ParameterError, match="remove audio"):
        finetune(split[0], start=bundled, audio=AudioSpec(8_000))


def test_embeddings_have_a_start_already(split, bundled):
    train, _ = split
    vectors = bundled.embed([track.path for track in train])
    data = TrackVectors(train, vectors, labels=train.labels, classifier=bundled, name="vectors")
    with pytest.raises(ParameterError, match="remove start"):
        finetune(data, start="default")


def test_missing_weights_suggest_the_default_model(split):
    backbone = musgenre.Component("vgg16", {"weights": "no-such-file.pth"})
    with pytest.raises(WeightsError, match=r"no-such-file.*start='default'"):
        finetune(split[0], backbone=backbone)


def test_unknown_model(split, tmp_path):
    with pytest.raises(MusgenreError, match="missing"):
        finetune(split[0], start=tmp_path / "missing")
