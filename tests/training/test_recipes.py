"""Recipes: the presets, and recipes read from names and files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from torch import nn

from musgenre.backbones.base import BACKBONES
from musgenre.core.config import AudioSpec, Component
from musgenre.core.errors import ConfigError, UnknownNameError
from musgenre.features.base import FEATURES
from musgenre.models.network import dense_head
from musgenre.training.config import FinetuneConfig
from musgenre.training.recipes import Recipe, preset


def test_the_paper_uses_one_image_of_the_complete_clip():
    paper = preset("paper")
    audio = paper.config.audio
    feature = FEATURES.build(paper.feature.name, {**paper.feature.options, "sample_rate": audio.sample_rate})
    assert (audio.window_seconds, audio.hop_seconds) == (30.0, 30.0)
    assert feature.out_shape(audio.window_samples) == (3, 224, 224)


def test_the_paper_trains_its_head_with_adam_and_without_a_softmax():
    paper = preset("paper")
    (stage,) = paper.config.plan(BACKBONES.build("yamnet", {"weights": None}))  # any backbone; this one is built fast
    assert stage.frozen
    assert (stage.optimizer, stage.learning_rate, stage.epochs, stage.weight_decay) == ("adam", 1e-3, 3, 0.0)
    assert [stage.rate_factor(step, steps=30) for step in range(30)] == [1.0] * 30
    head = dense_head(4096, widths=(*paper.config.hidden, 10), dropout=paper.config.dropout)
    assert [layer.out_features for layer in head if isinstance(layer, nn.Linear)] == [2048, 512, 256, 128, 64, 10]
    assert isinstance(head[-1], nn.Linear)


@pytest.mark.parametrize("name", ["paper", "recommended"])
def test_each_preset_names_its_source_and_a_registered_backbone(name):
    recipe = preset(name)
    assert recipe.source
    assert Component.of(recipe.backbone).name in BACKBONES


def test_the_recommended_feature_fits_its_backbone():
    recommended = preset("recommended")
    backbone = BACKBONES.build("yamnet", {"weights": None})
    feature = FEATURES.build(backbone.default_feature, {"sample_rate": recommended.config.audio.sample_rate})
    shape = feature.out_shape(recommended.config.audio.window_samples)
    backbone.expects.check(shape, feature="yamnet-logmel", backbone="yamnet")
    assert [stage.frozen for stage in recommended.config.plan(backbone)] == [True]


def test_an_unknown_preset_lists_the_presets():
    with pytest.raises(UnknownNameError, match=r"paper.*recommended"):
        preset("papers")


def test_reading_a_preset():
    chosen = preset("paper")
    assert Recipe.read("paper") == Recipe(chosen.backbone, chosen.feature, chosen.config)


def test_backbone_name_or_file(tmp_path):
    assert Recipe.read("vgg16-slim") == Recipe("vgg16-slim")
    path = tmp_path / "recipe.json"
    config = {"head_epochs": 3, "hidden": [4], "freeze": "all", "cache": "cache", "audio": {"sample_rate": 8000}}
    path.write_text(json.dumps({"backbone": {"name": "vgg16", "options": {"weights": None}}, "config": config}))
    expected = FinetuneConfig(
        head_epochs=3, hidden=(4,), freeze="all", cache=Path("cache"), audio=AudioSpec(sample_rate=8_000)
    )
    assert Recipe.read(str(path)) == Recipe(Component("vgg16", {"weights": None}), config=expected)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "recipe.json"),
        ("{", "recipe.json"),
        ("[]", "Recipe"),
        ('{"bakbone": "vgg16"}', "bakbone"),
        ('{"config": {"epochs": "3"}}', "epochs"),
        ('{"config": {"epoch": 3}}', "epoch"),
        ('{"config": {"batch_size": 0}}', "batch_size"),
    ],
)
def test_invalid_file_is_an_error(tmp_path, text, message):
    path = tmp_path / "recipe.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        Recipe.read(str(path))


def test_name_and_component_are_the_same_recipe():
    assert Recipe("vgg16").described() == Recipe(Component("vgg16")).described()
    assert Recipe("vgg16").described() != Recipe("vgg16", "mfcc").described()
