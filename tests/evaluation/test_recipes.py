"""Recipes read from presets, names and files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from musgenre.core.config import AudioSpec, Component
from musgenre.core.errors import ConfigError
from musgenre.evaluation import Recipe
from musgenre.training.config import FinetuneConfig
from musgenre.training.presets import preset


def test_preset():
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
