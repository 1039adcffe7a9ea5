"""Presets: the settings of the published recipe, and plans for both presets."""

from __future__ import annotations

import pytest
from torch import nn

from musgenre.backbones.base import BACKBONES
from musgenre.core.config import Component
from musgenre.core.errors import UnknownNameError
from musgenre.features.base import FEATURES
from musgenre.models.network import dense_head
from musgenre.training.recipes import preset


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
