"""Every built-in feature and backbone passes the checks of ``musgenre.testing``."""

from __future__ import annotations

import importlib.util

import pytest

from musgenre.backbones.base import BACKBONES
from musgenre.core.config import Component
from musgenre.features.base import FEATURES
from musgenre.testing.backbones import CHECKS as BACKBONE_CHECKS
from musgenre.testing.backbones import check_backbone
from musgenre.testing.features import CHECKS as FEATURE_CHECKS
from musgenre.testing.features import check_feature

# Sample rates of components that require a rate other than 22,050 Hz.
SAMPLE_RATES = {"yamnet": 16_000, "yamnet-logmel": 16_000}
# Smaller variants of components that need seconds or gigabytes by default.
SMALL_OPTIONS = {"vgg16": {"top": "pool"}}
SLOW = {"efficientnet_b0", "hpss", "mobilenet_v3_small", "resnet18", "torchvision/shufflenet_v2_x0_5", "vgg16"}
# Two different architectures of each family.
MEMBERS = {
    "timm/": ["timm/test_resnet", "timm/test_vit"] if importlib.util.find_spec("timm") else [],
    "torchvision/": ["torchvision/shufflenet_v2_x0_5", "torchvision/squeezenet1_1"],
}


def _built_in(registry) -> list[str]:
    names = [entry.name for entry in registry.entries() if entry.origin == "musgenre"]
    return [member for name in names for member in MEMBERS.get(name, [name])]


def _marked(names: list[str]) -> list:
    return [pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name for name in names]


def test_built_ins_are_listed():
    assert {"logmel", "logmel-image", "mfcc"} <= set(_built_in(FEATURES))
    assert {"resnet18", "torchvision/squeezenet1_1", "vgg16", "vgg16-slim", "yamnet"} <= set(_built_in(BACKBONES))


@pytest.mark.parametrize("name", _marked(_built_in(FEATURES)))
def test_feature(name):
    report = check_feature(name, sample_rate=SAMPLE_RATES.get(name, 22_050), window_seconds=1.0)
    assert len(report.passed) == len(FEATURE_CHECKS)


@pytest.mark.parametrize("name", _marked(_built_in(BACKBONES)))
def test_backbone(name):
    report = check_backbone(Component(name, SMALL_OPTIONS.get(name, {})), sample_rate=SAMPLE_RATES.get(name, 22_050))
    assert len(report.passed) == len(BACKBONE_CHECKS)
