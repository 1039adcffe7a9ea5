"""Fine-tuning, from tracks to a working classifier, on genres that are easy to distinguish."""

import dataclasses
import math

import numpy as np
import pytest
import torch

import musgenre
from musgenre.backbones.base import BACKBONES, Backbone, InputSpec
from musgenre.core.config import AudioSpec, Component
from musgenre.core.errors import ConfigError, DatasetError, MusgenreError, ParameterError, UnknownNameError
from musgenre.datasets import AudioFolder, TrackDataset, holdout
from musgenre.training.checkpoint import RunDirectory
from musgenre.training.config import Augmentation, FinetuneConfig

QUICK = FinetuneConfig(
    audio=AudioSpec(sample_rate=8_000, window_seconds=1.0, hop_seconds=1.0),
    head_epochs=3,
    epochs=0,
    batch_size=4,
    dropout=0.0,
    windows_per_track=4,
)
SLIM = Component("vgg16-slim", {"width": 0.05, "dense_units": 16, "dropout": 0.0})
VARIED = Augmentation(gain_db=3.0, speed=0.1, crop=48, time_mask=4, frequency_mask=4, mixup=0.3)
SMALL_MEL = Component("logmel", {"n_fft": 512, "hop_length": 128, "n_mels": 32})


class Pretrained(Backbone):
    """Has the flag of pretrained weights, and batch normalisation and dropout to freeze."""

    def __init__(self, *, in_channels: int, weights: str | None = "somewhere") -> None:
        super().__init__()
        self.expects = InputSpec(channels=in_channels)
        self.out_features = 8
        self.pretrained = weights is not None
        self.first = torch.nn.Sequential(
            torch.nn.Conv2d(in_channels, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.Dropout(0.5)
        )
        self.second = torch.nn.Sequential(torch.nn.Conv2d(4, 8, 3), torch.nn.BatchNorm2d(8), torch.nn.ReLU())

    def stages(self):
        return [self.first, self.second]

    def forward(self, feature):
        return self.second(self.first(feature)).mean(dim=(2, 3))


@pytest.fixture(autouse=True)
def temporary_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("MUSGENRE_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def pretrained():
    with BACKBONES.temporary("pretrained", Pretrained):
        yield "pretrained"


def changed(before, after):
    return {name for name in before if not torch.equal(before[name], after[name])}


def finetune(train, **options):
    return musgenre.finetune(train, progress=False, **options)


def state_after(config, data, backbone, **options):
    result = finetune(data, backbone=backbone, feature=SMALL_MEL, config=config, **options)
    return result.classifier.network.state_dict()


def test_it_distinguishes_tones_from_noise_on_validation_tracks(genre_folder, tmp_path):
    train, valid = holdout(AudioFolder(genre_folder), fraction=0.25)
    config = FinetuneConfig(**{**vars(QUICK), "head_epochs": 15, "patience": 15, "head_learning_rate": 3e-3})
    result = finetune(train, valid=valid, backbone=SLIM, feature=SMALL_MEL, config=config)
    assert [p.label for p in result.classifier.predict([t.path for t in valid])] == [t.label for t in valid]
    assert result.classifier.config.scores["valid_accuracy"] == 1.0
    assert result.history[-1]["train_loss"] < result.history[0]["train_loss"]
    result.classifier.save_pretrained(tmp_path / "model")
    again = musgenre.GenreClassifier.from_pretrained(tmp_path / "model")
    song = valid[0].path
    np.testing.assert_array_equal(
        again.predict(song).windows.probabilities, result.classifier.predict(song).windows.probabilities
    )
    assert str(len(train)) in again.config.split


def test_the_same_seed_gives_the_same_weights_and_the_callers_random_state_does_not_change(genre_folder):
    data = AudioFolder(genre_folder)
    config = FinetuneConfig(**{**vars(QUICK), "head_epochs": 2, "augmentation": VARIED, "balanced": True})
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    first = state_after(config, data, SLIM)
    assert torch.equal(torch.rand(3), expected)
    torch.manual_seed(2)
    assert changed(first, state_after(config, data, SLIM)) == set()
    assert changed(first, state_after(FinetuneConfig(**{**vars(config), "seed": 1}), data, SLIM))


def test_weights_and_batch_normalisation_of_a_frozen_backbone_do_not_change(genre_folder, pretrained):
    data = AudioFolder(genre_folder)
    start = FinetuneConfig(**{**vars(QUICK), "head_epochs": 1, "head_learning_rate": 0.0, "weight_decay": 0.0})
    initial = state_after(start, data, pretrained)
    head_only = state_after(QUICK, data, pretrained)
    assert {name.split(".")[0] for name in changed(initial, head_only)} == {"head"}
    last_too = state_after(FinetuneConfig(**{**vars(QUICK), "epochs": 1, "freeze": 1}), data, pretrained)
    assert {".".join(name.split(".")[:2]) for name in changed(head_only, last_too)} == {"head.1", "backbone.second"}


def test_the_plan_freezes_pretrained_backbones_only(pretrained):
    config = FinetuneConfig(head_epochs=2, epochs=3)
    known = BACKBONES.build(pretrained, {"in_channels": 1})
    blank = BACKBONES.build(pretrained, {"in_channels": 1, "weights": None})
    assert [(s.name, s.epochs, s.unfrozen) for s in config.plan(known)] == [("head", 2, 0), ("backbone", 3, 2)]
    assert [(s.name, s.epochs, s.unfrozen) for s in config.plan(blank)] == [("everything", 5, 2)]


def test_the_best_weights_are_returned_not_the_last(genre_folder, pretrained):
    # The validation set has its labels swapped: the better the network is trained, the higher is its validation loss.
    train, valid = holdout(AudioFolder(genre_folder), fraction=0.25)
    swapped = {"drone": "hiss", "hiss": "drone"}
    valid = TrackDataset(
        [dataclasses.replace(track, label=swapped[track.label]) for track in valid], labels=valid.labels, name="swapped"
    )
    config = FinetuneConfig(**{**vars(QUICK), "epochs": 2, "learning_rate": 0.01})
    result = finetune(train, valid=valid, backbone=pretrained, feature=SMALL_MEL, config=config)
    assert {row["stage"] for row in result.history} == {"head", "backbone"}
    best = result.history[0]["valid_loss"]
    assert best == min(row["valid_loss"] for row in result.history)
    assert best < result.history[-1]["valid_loss"]
    assert result.classifier.config.scores["valid_loss"] == best
    losses = []
    for track in valid:
        rows = result.classifier.predict(track.path).windows.probabilities
        losses += [-math.log(row[valid.labels.index(track.label)]) for row in rows]
    assert np.mean(losses) == pytest.approx(best, rel=1e-3)


def test_a_stage_stops_early_without_improvement(genre_folder):
    train, valid = holdout(AudioFolder(genre_folder), fraction=0.25)
    config = FinetuneConfig(
        **{**vars(QUICK), "head_epochs": 30, "head_learning_rate": 0.0, "weight_decay": 0.0, "patience": 2}
    )
    result = finetune(train, valid=valid, backbone=SLIM, feature=SMALL_MEL, config=config)
    assert len(result.history) < 30


def test_workers_change_nothing(genre_folder):
    data = AudioFolder(genre_folder)
    alone = state_after(FinetuneConfig(**{**vars(QUICK), "head_epochs": 1}), data, SLIM)
    helped = state_after(FinetuneConfig(**{**vars(QUICK), "head_epochs": 1}), data, SLIM, workers=2)
    assert changed(alone, helped) == set()


def test_a_registered_backbone_and_feature_are_enough(genre_folder, request):
    from musgenre.features.base import FEATURES, FeatureExtractor

    request.addfinalizer(lambda: BACKBONES.unregister("my-net"))
    request.addfinalizer(lambda: FEATURES.unregister("my-feature"))

    class Loudness(FeatureExtractor):
        def out_shape(self, samples):
            return 1, 8, samples // 800

        def forward(self, waveform):
            bins = waveform[:, : waveform.shape[1] // 800 * 800].unflatten(1, (-1, 8, 100)).square().mean(3)
            return bins.transpose(1, 2)[:, None]

    @musgenre.register_feature("my-feature")
    def my_feature(*, sample_rate: int):
        return Loudness(sample_rate=sample_rate)

    @musgenre.register_backbone("my-net")
    def my_net(*, in_channels: int):
        return Pretrained(in_channels=in_channels, weights=None)

    config = FinetuneConfig(**{**vars(QUICK), "head_epochs": 1})
    result = finetune(AudioFolder(genre_folder), backbone="my-net", feature="my-feature", config=config)
    assert result.classifier.config.backbone == Component("my-net")
    assert result.classifier.predict(next(genre_folder.glob("*/*.wav"))).label in result.classifier.labels


def test_an_allowed_leak_is_recorded_in_the_model(genre_folder):
    data = AudioFolder(genre_folder)
    config = dataclasses.replace(QUICK, head_epochs=1)
    with pytest.raises(DatasetError, match="overlap"):
        finetune(data, valid=data, backbone=SLIM, feature=SMALL_MEL, config=config)
    leaky = finetune(data, valid=data, backbone=SLIM, feature=SMALL_MEL, config=config, allow_leakage=True)
    assert "leaky: track" in leaky.classifier.config.split
    clean = finetune(data, backbone=SLIM, feature=SMALL_MEL, config=config, allow_leakage=True)
    assert "leaky" not in clean.classifier.config.split


def test_the_last_checkpoint_is_written_only_for_a_run_that_can_be_resumed(genre_folder, tmp_path, monkeypatch):
    written = []
    replace_last = RunDirectory.replace_last

    def record(self, number):
        written.append(number)
        return replace_last(self, number)

    monkeypatch.setattr(RunDirectory, "replace_last", record)
    config = dataclasses.replace(QUICK, head_epochs=2)
    finetune(AudioFolder(genre_folder), backbone=SLIM, feature=SMALL_MEL, config=config)
    assert written == []
    finetune(AudioFolder(genre_folder), backbone=SLIM, feature=SMALL_MEL, config=config, directory=tmp_path / "run")
    assert written == [1, 1]


class TestRefused:
    """Errors that are raised before training."""

    @pytest.fixture
    def data(self, genre_folder):
        return AudioFolder(genre_folder)

    def test_a_split_that_leaks(self, data):
        with pytest.raises(DatasetError, match=data[0].id):
            finetune(data, valid=data, backbone=SLIM, config=QUICK)

    def test_labels_that_differ(self, data):
        train, valid = holdout(data, fraction=0.25)
        other = TrackDataset(valid.tracks, labels=(*valid.labels, "zydeco"), name="other")
        with pytest.raises(DatasetError, match="labels differ"):
            finetune(train, valid=other, backbone=SLIM, config=QUICK)

    @pytest.mark.parametrize("count", [0, 1])
    def test_a_genre_of_at_most_one_track(self, data, count):
        lone = [dataclasses.replace(data[0], id=f"lone{n}", label="zydeco") for n in range(count)]
        more = TrackDataset([*data.tracks, *lone], labels=(*data.labels, "zydeco"), name="more")
        with pytest.raises(DatasetError, match=rf"zydeco \({count}\)"):
            finetune(more, backbone=SLIM, config=QUICK)

    def test_an_unknown_backbone(self, data):
        with pytest.raises(UnknownNameError, match="vgg16"):
            finetune(data, backbone="vgg61", config=QUICK)

    def test_an_unknown_option(self, data):
        with pytest.raises(ConfigError, match="width"):
            finetune(data, backbone=Component("vgg16-slim", {"widht": 1.0}), config=QUICK)

    def test_too_many_stages(self, data, pretrained):
        config = FinetuneConfig(**{**vars(QUICK), "epochs": 1, "freeze": 9})
        with pytest.raises(ParameterError, match="2 stages"):
            finetune(data, backbone=pretrained, feature=SMALL_MEL, config=config)

    def test_a_loss_that_is_not_finite(self, data):
        config = FinetuneConfig(**{**vars(QUICK), "head_learning_rate": 1e30, "optimizer": "adam"})
        with pytest.raises(MusgenreError, match="learning rate"):
            finetune(data, backbone=SLIM, feature=SMALL_MEL, config=config)

    @pytest.mark.parametrize(
        "wrong",
        [
            {"batch_size": 0},
            {"head_epochs": 0, "epochs": 0},
            {"epochs": -1},
            {"optimizer": "sgd"},
            {"schedule": "step"},
            {"precision": "8"},
        ],
    )
    def test_a_setting_out_of_range(self, wrong):
        with pytest.raises(ParameterError):
            FinetuneConfig(**wrong)

    @pytest.mark.parametrize("wrong", [{"gain_db": -1.0}, {"speed": 1.0}, {"mixup": -0.1}])
    def test_an_augmentation_out_of_range(self, wrong):
        with pytest.raises(ParameterError):
            Augmentation(**wrong)
