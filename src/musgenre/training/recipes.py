"""Recipes: a backbone, a feature and a training configuration; two of them, the presets, have names."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from musgenre.core.config import AudioSpec, Component, from_dict, to_dict
from musgenre.core.errors import ConfigError, UnknownNameError
from musgenre.core.registry import unknown_name
from musgenre.training.config import Augmentation, FinetuneConfig

# Readers of a report do not need these, and an interrupted run may be resumed with others.
_WITHOUT_EFFECT = ("seed", "cache", "name", "allow_leakage")


@dataclass(frozen=True)
class Recipe:
    """What to train besides the tracks: backbone, feature and training configuration.

    Attributes:
        backbone: Name or component of the backbone.
        feature: Name or component of the feature; ``None`` takes the backbone's default.
        config: Training configuration.
        source: Where the recipe was published, or why it is recommended; not compared.

    Example:
        >>> Recipe("vgg16-slim", config=FinetuneConfig(head_epochs=5)).config.head_epochs
        5
    """

    backbone: str | Component = "vgg16"
    feature: str | Component | None = None
    config: FinetuneConfig = field(default_factory=FinetuneConfig)
    source: str = field(default="", compare=False)

    @classmethod
    def read(cls, source: str) -> Recipe:
        """Return a recipe by the name of a preset or of a backbone, or from a JSON file whose name ends in ``.json``.

        The file holds an object with ``backbone``, ``feature`` and ``config``, as the attributes are named; each is
        optional: ``{"backbone": "vgg16-slim", "config": {"head_epochs": 5}}``.

        Raises:
            ConfigError: The file cannot be read, or has an unknown key or an invalid value.
        """
        if not source.endswith(".json"):
            try:
                return preset(source)
            except UnknownNameError:  # the name of a backbone, which is checked when the backbone is built
                return cls(source)
        try:
            pairs: Any = json.loads(Path(source).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ConfigError(f"{source!r} cannot be read as a recipe: {error}") from error
        # JSON has no paths.
        config = pairs.get("config") if isinstance(pairs, dict) else None
        cache = config.pop("cache", None) if isinstance(config, dict) else None
        recipe = from_dict(cls, pairs)
        if cache is None:
            return recipe
        return dataclasses.replace(recipe, config=dataclasses.replace(recipe.config, cache=Path(cache)))

    def described(self) -> dict[str, Any]:
        """Return, as JSON types, all settings that affect the trained weights, except the seed."""
        config = {key: value for key, value in to_dict(self.config).items() if key not in _WITHOUT_EFFECT}
        feature = None if self.feature is None else to_dict(Component.of(self.feature))
        pairs = {"backbone": to_dict(Component.of(self.backbone)), "feature": feature, "config": config}
        described: dict[str, Any] = json.loads(json.dumps(pairs, default=str))
        return described


PAPER = Recipe(
    "vgg16",
    Component("logmel-image", {"size": 224}),
    FinetuneConfig(
        audio=AudioSpec(sample_rate=22_050, window_seconds=30.0, hop_seconds=30.0),
        hidden=(2048, 512, 256, 128, 64),
        dropout=0.0,
        freeze="all",
        head_epochs=3,
        head_learning_rate=1e-3,
        optimizer="adam",
        weight_decay=0.0,
        schedule="constant",
        warmup=0.0,
    ),
    source=(
        "The published experiment that musgenre started from: VGG-16 pretrained on ImageNet (Simonyan and Zisserman "
        "2014, arXiv:1409.1556), one image of 224 × 224 pixels of the complete clip of 30 s, dense layers of 2048, "
        "512, 256, 128 and 64 units, Adam at 1e-3, three epochs, on GTZAN; it reported an accuracy of 36 %. Its "
        "softmax before a cross-entropy loss that contains a softmax itself is omitted."
    ),
)

RECOMMENDED = Recipe(
    "yamnet",
    config=FinetuneConfig(
        audio=AudioSpec(sample_rate=16_000, window_seconds=3.0, hop_seconds=1.5),
        hidden=(),
        freeze="all",
        head_epochs=30,
        head_learning_rate=3e-3,
        weight_decay=0.1,
        label_smoothing=0.1,
        augmentation=Augmentation(mixup=0.2),
        views=4,
        batch_size=32,
        windows_per_track=4,
        balanced=True,
        patience=10,
    ),
    source=(
        "Recommended by musgenre: one linear layer on YAMNet (Plakal and Ellis), which was trained on two million "
        "clips of AudioSet, and so on sound instead of photographs."
    ),
)

PRESETS = {"paper": PAPER, "recommended": RECOMMENDED}


def preset(name: str) -> Recipe:
    """Return the recipe of a name, ``"paper"`` or ``"recommended"``.

    Raises:
        UnknownNameError: No preset has this name; the message lists the names.

    Example:
        >>> preset("paper").config.hidden
        (2048, 512, 256, 128, 64)
    """
    if name not in PRESETS:
        raise unknown_name(name, kind="preset", names=PRESETS)
    return PRESETS[name]
