"""Whole recipes by name: what was published, and what this library recommends."""

from __future__ import annotations

from dataclasses import dataclass

from musgenre.core.config import AudioSpec, Component
from musgenre.core.registry import unknown_name
from musgenre.training.config import Augmentation, FinetuneConfig


@dataclass(frozen=True)
class Preset:
    """A recipe that says where it comes from.

    Attributes:
        config: How to train.
        backbone: The backbone that it is made for.
        feature: The feature; ``None`` takes the backbone's default.
        source: Where it comes from, and what was found with it.
    """

    config: FinetuneConfig
    backbone: Component
    feature: Component | None
    source: str


PAPER = Preset(
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
    backbone=Component("vgg16"),
    feature=Component("logmel-image", {"size": 224}),
    source=(
        "The published experiment that musgenre began from: VGG-16 as ImageNet left it (Simonyan and Zisserman 2014, "
        "arXiv:1409.1556), one picture of 224 × 224 pixels of the whole clip of 30 s, dense layers of 2048, 512, 256, "
        "128 and 64 units, Adam at 1e-3, three epochs, on GTZAN; it reported an accuracy of 36 %. Its softmax under a "
        "cross-entropy that has one already is left out."
    ),
)

RECOMMENDED = Preset(
    FinetuneConfig(
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
    backbone=Component("yamnet"),
    feature=None,
    source=(
        "musgenre's own: one linear layer on YAMNet (Plakal and Ellis), which learned from two million clips of "
        "AudioSet, and so knows sound in place of photographs."
    ),
)

_PRESETS = {"paper": PAPER, "recommended": RECOMMENDED}


def preset(name: str) -> Preset:
    """Returns a recipe by its name, ``"paper"`` or ``"recommended"``.

    Raises:
        UnknownNameError: There is none of that name; the message lists those that there are.

    Example:
        >>> preset("paper").config.hidden
        (2048, 512, 256, 128, 64)
    """
    if name not in _PRESETS:
        raise unknown_name(name, kind="preset", names=_PRESETS)
    return _PRESETS[name]
