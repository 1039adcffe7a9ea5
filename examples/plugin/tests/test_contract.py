"""The contracts of musgenre, and properties of this feature."""

from __future__ import annotations

import math

import torch
from musgenre_plugin_example.feature import OctaveBands

from musgenre.core.config import Component
from musgenre.testing import check_backbone, check_feature


def test_feature_contract():
    print(check_feature("octave-bands"))


def test_feature_contract_with_other_options():
    check_feature(Component("octave-bands", {"low_hz": 60.0, "hop_length": 256}), sample_rate=16_000)


def test_backbone_contract():
    print(check_backbone("small-cnn"))


def test_a_tone_is_loudest_in_its_octave():
    feature = OctaveBands(sample_rate=22_050)
    seconds = torch.arange(22_050) / 22_050
    for octave in range(8):
        hertz = 43.0 * 2 ** (octave + 0.5)
        spectrogram = feature(torch.sin(2 * math.pi * hertz * seconds)[None])
        assert spectrogram[0, 0].mean(dim=-1).argmax() == octave
