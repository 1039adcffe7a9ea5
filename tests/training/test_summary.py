"""The tables of the summary before a run."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
import torch
from rich.console import Console

from musgenre.backbones.vgg import VGG16Slim
from musgenre.datasets.base import Track, TrackDataset
from musgenre.features.spectral import LogMel
from musgenre.models.network import GenreNetwork
from musgenre.training.config import FinetuneConfig, Stage
from musgenre.training.summary import summary

LABELS = ["jazz", "[red]rock"]
CONFIG = FinetuneConfig(freeze=4, gradual=1, class_weights=True)


def tracks(name, counts, *, groups=True):
    made = [
        Track(
            f"{name}{label}{n}",
            Path(f"{name}{n}.wav"),
            label,
            group=f"{n // 2}" if groups else None,
            duration_seconds=45,
        )
        for label, count in zip(LABELS, counts, strict=True)
        for n in range(count)
    ]
    return TrackDataset(made, labels=LABELS, name="mine", split=name)


@pytest.fixture(scope="module")
def network():
    backbone = VGG16Slim(in_channels=1, width=0.05, dense_units=8)
    backbone.pretrained = True
    return GenreNetwork(LogMel(sample_rate=8_000), backbone, head=torch.nn.Linear(8, 2))


def shown(network, train, valid):
    console = Console(width=120, record=True, file=io.StringIO())
    plan = CONFIG.plan(network.backbone)
    console.print(summary(train, valid, network=network, plan=plan, config=CONFIG))
    return [[cell.strip() for cell in line.strip("│").split("│")] for line in console.export_text().splitlines()], plan


def test_the_data_by_genre_and_set(network):
    rows, _ = shown(network, tracks("train", (5, 3)), tracks("valid", (2, 1)))
    assert ["jazz", "5", "2"] in rows
    assert ["[red]rock", "3", "1"] in rows
    assert ["all", "8", "3"] in rows
    assert ["groups", "3", "1"] in rows
    assert ["minutes", "6.0", "2.2"] in rows


def test_the_data_of_one_set_with_unknown_groups(network):
    rows, _ = shown(network, tracks("train", (5, 3), groups=False), None)
    assert ["jazz", "5"] in rows
    assert ["groups", "unknown"] in rows


def test_what_each_stage_trains_and_freezes(network):
    rows, plan = shown(network, tracks("train", (5, 3)), None)
    total = sum(parameter.numel() for parameter in network.parameters())
    stages = network.backbone.stages()
    assert [stage.unfrozen for stage in plan] == [0, 1, 2]
    for stage in plan:
        learning = [network.head, *stages[len(stages) - stage.unfrozen :]]
        trained = sum(parameter.numel() for part in learning for parameter in part.parameters())
        rate = f"{stage.learning_rate:.1e}"
        assert [stage.name, str(stage.epochs), "head", rate, f"{trained:,}", f"{total - trained:,}"] in rows
    assert ["", "", "stage 5", "1.6e-05", "", ""] in rows


def test_the_settings_other_than_the_defaults(network):
    rows, _ = shown(network, tracks("train", (5, 3)), None)
    assert rows[-1] == ["Settings other than the defaults: freeze=4, gradual=1, class_weights=True"]


def test_the_network_does_not_change(network):
    wanted = {name: parameter.requires_grad for name, parameter in network.named_parameters()}
    train = tracks("train", (5, 3))
    summary(train, None, network=network, plan=[Stage("head", 1, 0.1)], config=CONFIG)
    assert {name: parameter.requires_grad for name, parameter in network.named_parameters()} == wanted
