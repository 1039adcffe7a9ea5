"""One stage of training: the trained parameters, their learning rates, and the loss."""

from __future__ import annotations

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from sklearn.utils.class_weight import compute_class_weight
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from musgenre.backbones.base import Backbone, InputSpec
from musgenre.core.errors import MusgenreError, ParameterError
from musgenre.features.base import FeatureExtractor
from musgenre.models.network import GenreNetwork
from musgenre.training.config import Augmentation, FinetuneConfig, Stage
from musgenre.training.module import GenreModule, class_weights, parameter_groups
from musgenre.training.trainer import quiet


class Fold(FeatureExtractor):
    """Folds 48 samples into a spectrogram of 1 × 6 × 8, and has a trainable gain."""

    def __init__(self):
        super().__init__(sample_rate=8_000)
        self.gain = nn.Parameter(torch.ones(()))

    def out_shape(self, samples):
        return 1, 6, samples // 6

    def forward(self, waveform):
        return self.gain * waveform.reshape(-1, 1, 6, 8)


class Three(Backbone):
    """Three stages, one with batch normalisation and dropout, and a bias that belongs to none of them."""

    def __init__(self):
        super().__init__()
        self.expects = InputSpec(channels=1)
        self.out_features = 5
        self.pretrained = True
        self.first = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Dropout(0.5))
        self.second = nn.Conv2d(3, 4, 3)
        self.third = nn.Sequential(nn.Flatten(), nn.Linear(32, 5))
        self.offset = nn.Parameter(torch.zeros(5))

    def stages(self):
        return [self.first, self.second, self.third]

    def forward(self, feature):
        return torch.tanh(self.third(self.second(self.first(feature))) + self.offset)


@pytest.fixture
def network():
    torch.manual_seed(0)
    return GenreNetwork(Fold(), Three(), head=nn.Linear(5, 3))


BATCH = (torch.randn(12, 48, generator=torch.Generator().manual_seed(1)), torch.arange(12) % 3, torch.arange(12))
CONFIG = FinetuneConfig(
    head_learning_rate=0.02, learning_rate=0.01, rate_decay=0.5, gradual=1, weight_decay=0.0, optimizer="adam"
)


class Rates(pl.Callback):
    """Notes the rates of the groups, and the weights, before and after each step."""

    def __init__(self):
        self.rates = []
        self.weights = []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.rates.append({group["name"]: group["lr"] for group in trainer.optimizers[0].param_groups})
        self.weights.append({name: value.clone() for name, value in pl_module.network.state_dict().items()})

    def on_train_end(self, trainer, pl_module):
        self.weights.append({name: value.clone() for name, value in pl_module.network.state_dict().items()})


def fit(network, stage, *, batches=1, **options):
    watch = Rates()
    module = GenreModule(network, stage, **({"augmentation": Augmentation()} | options))
    inputs, labels, tracks = BATCH
    if module.embedded:
        inputs = torch.randn(12, 5, generator=torch.Generator().manual_seed(2))
    rows = list(zip(inputs, labels, tracks, strict=True)) * batches
    with quiet():
        trainer = pl.Trainer(
            max_epochs=1,
            accelerator="cpu",
            callbacks=[watch],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            limit_val_batches=0,
        )
        trainer.fit(module, DataLoader(rows, batch_size=12))
    return watch


def part_of(name):
    first, second = name.split(".")[:2]
    return second if first == "backbone" else first


@pytest.mark.parametrize(
    ("number", "trained"),
    [
        (0, {"head"}),
        (1, {"head", "third"}),
        (2, {"head", "third", "second"}),
        (3, {"head", "third", "second", "first", "offset", "feature"}),
    ],
)
def test_exactly_the_unfrozen_parts_change_at_their_learning_rates(network, number, trained):
    stage = CONFIG.plan(network.backbone)[number]
    watch = fit(network, stage)
    before, after = watch.weights
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert {part_of(name) for name in changed} == trained
    # Batch normalisation updates its statistics only where its weights are trained.
    assert ("backbone.first.1.running_mean" in changed) == ("first" in trained)
    # Adam's first step is its rate, whatever the gradient: so the weights say at which rate they were stepped.
    rate = stage.learning_rate * stage.rate_factor(0, steps=1)
    further = {"head": 0, "third": 1, "second": 2, "first": 3, "offset": 3, "feature": 3}
    for name in changed - {"backbone.first.0.bias"}:  # whose gradient batch normalisation takes away
        if "running" in name or "tracked" in name:
            continue
        stepped = (after[name] - before[name]).abs().max().item()
        assert stepped == pytest.approx(rate * 0.5 ** further[part_of(name)], rel=1e-2), name


def test_all_groups_follow_the_schedule(network):
    stage = CONFIG.plan(network.backbone)[2]
    watch = fit(network, stage, batches=8)
    assert len(watch.rates) == 8
    for step, rates in enumerate(watch.rates):
        factor = stage.rate_factor(step, steps=8)
        assert rates == pytest.approx({"stage 2": 0.0025 * factor, "stage 3": 0.005 * factor, "head": 0.01 * factor})


def test_groups_hold_each_trained_parameter_once(network):
    network.head.weight = nn.Parameter(network.head.weight)
    network.backbone.second.weight = nn.Parameter(torch.zeros(4, 3, 3, 3))
    network.backbone.third[1].bias = network.backbone.offset
    groups = parameter_groups(network, CONFIG.plan(network.backbone)[-1])
    assert [group["name"] for group in groups] == ["rest", "stage 1", "stage 2", "stage 3", "head"]
    held = [id(parameter) for group in groups for parameter in group["params"]]
    assert len(held) == len(set(held))
    assert set(held) == {id(parameter) for parameter in network.parameters()}


def test_more_stages_than_the_backbone_has(network):
    with pytest.raises(ParameterError, match="3 stages"):
        GenreModule(network, Stage("x", 1, 0.1, backbone_rates=(0.1,) * 4), augmentation=Augmentation())


def test_frozen_dropout_is_off_and_unfrozen_dropout_is_on(network):
    head, *_, everything = CONFIG.plan(network.backbone)
    for stage, drops in ((head, False), (everything, True)):
        module = GenreModule(network, stage, augmentation=Augmentation())
        module.on_train_epoch_start()
        assert network.backbone.first[2].training == drops
        assert network.head.training


@pytest.fixture
def logged(monkeypatch):
    """Catches what is logged, so that a step can be taken without a trainer."""
    figures = {}
    monkeypatch.setattr(
        GenreModule,
        "log",
        lambda self, name, value, **_: figures.update({name: float(torch.as_tensor(value).detach())}),
    )
    return figures


def test_the_loss_of_a_mixed_batch_is_that_of_mixed_labels(network, logged, monkeypatch):
    stage = Stage("head", 1, 0.1, label_smoothing=0.2)
    module = GenreModule(network.eval(), stage, augmentation=Augmentation(mixup=0.4))
    partner = torch.arange(12).roll(5)
    monkeypatch.setattr(torch, "randperm", lambda *_, **__: partner)
    monkeypatch.setattr(torch.distributions.Beta, "sample", lambda _: torch.tensor(0.3))
    inputs, labels, _ = BATCH
    truth = F.one_hot(labels, 3).float()
    mixed = 0.3 * inputs + 0.7 * inputs[partner]  # the feature of this test is linear
    expected = F.cross_entropy(network(mixed), 0.8 * (0.3 * truth + 0.7 * truth[partner]) + 0.2 / 3)
    assert module.training_step(BATCH, 0).item() == pytest.approx(expected.item(), rel=1e-5)


def test_class_weights_equal_scikit_learns_and_affect_the_training_loss_only(network, logged):
    drawn = np.random.default_rng(0).choice(3, size=50, p=(0.7, 0.2, 0.1))
    weights = class_weights(drawn.tolist(), classes=3)
    np.testing.assert_allclose(weights, compute_class_weight("balanced", classes=np.arange(3), y=drawn), rtol=1e-6)
    assert weights[torch.as_tensor(drawn)].mean().item() == pytest.approx(1.0)
    module = GenreModule(network.eval(), Stage("head", 1, 0.1), augmentation=Augmentation(), class_weights=weights)
    inputs, labels, _ = BATCH
    each = F.cross_entropy(network(inputs), labels, reduction="none")
    expected = (each * weights[labels]).sum() / weights[labels].sum()
    assert module.training_step(BATCH, 0).item() == pytest.approx(expected.item(), rel=1e-5)
    module.validation_step(BATCH, 0)
    assert logged["valid_loss"] == pytest.approx(each.mean().item(), rel=1e-5)
    assert not any("class_weights" in name for name in module.state_dict())


def test_a_genre_without_a_track_has_no_weight():
    with pytest.raises(ParameterError, match="a track of every genre"):
        class_weights([0, 2], classes=3)


def test_with_embeddings_only_the_head_is_computed_and_the_loss_is_the_same(network, logged, monkeypatch):
    augmentation = Augmentation(gain_db=6.0, time_mask=2)
    network.eval()
    inputs, labels, tracks = BATCH
    embeddings = network.backbone(network.feature(inputs)).detach()
    expected = F.cross_entropy(network(inputs), labels).item()
    module = GenreModule(network, Stage("head", 1, 0.1), augmentation=augmentation, embedded=True)
    monkeypatch.setattr(Three, "forward", None)
    monkeypatch.setattr(Fold, "forward", None)
    assert module.embedded
    assert module.training_step((embeddings, labels, tracks), 0).item() == pytest.approx(expected, rel=1e-5)
    module.validation_step((embeddings, labels, tracks), 0)
    assert logged["valid_loss"] == pytest.approx(expected, rel=1e-5)


def test_embeddings_are_refused_where_the_backbone_is_trained(network):
    for stage in CONFIG.plan(network.backbone)[1:]:
        with pytest.raises(ParameterError, match="embeddings"):
            GenreModule(network, stage, augmentation=Augmentation(), embedded=True)


def test_a_head_on_embeddings_is_trained(network):
    watch = fit(network, CONFIG.plan(network.backbone)[0], embedded=True)
    before, after = watch.weights
    assert {name for name in before if not torch.equal(before[name], after[name])} == {"head.weight", "head.bias"}


class TestLossIsNotFinite:
    def test_weights_that_diverged(self, network, logged):
        module = GenreModule(network, Stage("head", 1, 0.25), augmentation=Augmentation())
        nn.init.constant_(network.head.weight, torch.nan)
        with pytest.raises(MusgenreError, match=r"nan in stage 'head', epoch 1.*below 0.25"):
            module.training_step(BATCH, 0)
        with pytest.raises(MusgenreError, match="choose a learning rate"):
            module.validation_step(BATCH, 0)

    def test_input_that_is_not_finite(self, network, logged):
        module = GenreModule(network, Stage("head", 1, 0.25), augmentation=Augmentation())
        inputs, *others = BATCH
        with pytest.raises(MusgenreError, match="input is not finite"):
            module.training_step((inputs / 0, *others), 0)
