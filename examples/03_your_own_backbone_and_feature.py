"""
Your own backbone and feature
=============================

A network is a feature, a backbone and a head. Features and backbones are found by name, and a decorator gives yours a
name. After that they are used, saved and loaded like those that come with musgenre.
"""

# %%
# A feature
# ---------
#
# A feature is a module from windows of audio, ``(batch, samples)``, to a picture, ``(batch, channels, bins,
# frames)``. It is part of the network, so training and prediction cannot disagree about it. This one is a mel
# spectrogram of few, wide bands.
#
# What is registered is a class or a function. Each of its parameters is keyword-only (after the ``*``), so that a
# misspelled option is an error; ``sample_rate`` is always given.

import torch
from torch import Tensor, nn

import musgenre
from musgenre.features import FeatureExtractor
from musgenre.transforms import Channels, MelSpectrogram, ToDecibel


@musgenre.register_feature("few-bands")
class FewBands(FeatureExtractor):
    """Decibels below the loudest cell, in a few wide bands."""

    def __init__(self, *, sample_rate: int, n_mels: int = 24) -> None:
        super().__init__(sample_rate=sample_rate)
        self.mel = MelSpectrogram(
            sample_rate=sample_rate,
            hop_length=1024,
            n_mels=n_mels,
        )
        self.picture = nn.Sequential(ToDecibel(reference="max"), Channels(1))

    def out_shape(self, samples: int) -> tuple[int, int, int]:
        return 1, self.mel.n_mels, self.mel.frame_count(samples)

    def forward(self, waveform: Tensor) -> Tensor:
        # From [-80, 0] dB to [-1, 1].
        return 1 + self.picture(self.mel(waveform)) / 40


feature = FewBands(sample_rate=22_050)
print(feature(torch.randn(2, 66_150)).shape, feature.out_shape(66_150))

# %%
# A backbone
# ----------
#
# A backbone is a module from that picture to one vector a window, ``(batch, out_features)``. It says what input it
# expects, and lists its stages from input to output, which is the order in which fine-tuning unfreezes them from
# the end. ``in_channels`` is always given: the number of channels of the feature.

from musgenre.backbones import Backbone, InputSpec


@musgenre.register_backbone("two-layers")
class TwoLayers(Backbone):
    """Two convolutions along time; every band is an input of the first."""

    default_feature = "few-bands"

    def __init__(self, *, in_channels: int, bins: int = 24, width: int = 32) -> None:
        super().__init__()
        self.expects = InputSpec(channels=in_channels, min_size=(bins, 8))
        self.out_features = width
        self.first = nn.Sequential(
            nn.Conv2d(in_channels, width, (bins, 3)),
            nn.BatchNorm2d(width),
            nn.ReLU(),
        )
        self.second = nn.Sequential(
            nn.Conv2d(width, width, (1, 3)),
            nn.BatchNorm2d(width),
            nn.ReLU(),
        )

    def stages(self) -> list[nn.Module]:
        return [self.first, self.second]

    def forward(self, feature: Tensor) -> Tensor:
        return self.second(self.first(feature)).mean(dim=(-2, -1))


print(musgenre.BACKBONES.names())

# %%
# Something to learn from
# -----------------------
#
# Two "genres" of computed sounds: tones that glide upwards, and tones that glide downwards.

import tempfile
from pathlib import Path

import numpy as np
import soundfile

RATE = 22_050
rng = np.random.default_rng(0)
time = np.arange(4 * RATE) / RATE
folder = tempfile.TemporaryDirectory()
music = Path(folder.name) / "music"
for name, sign in {"rising": 1, "falling": -1}.items():
    (music / name).mkdir(parents=True)
    for number in range(12):
        seconds = rng.uniform(0.3, 1.2)  # of one glide
        octaves = sign * rng.uniform(1, 2) * (time % seconds / seconds - 0.5)
        hertz = rng.uniform(500, 1500) * 2**octaves
        sound = 0.3 * np.sin(2 * np.pi * np.cumsum(hertz) / RATE)
        sound += 0.01 * rng.normal(size=time.size)
        soundfile.write(music / name / f"{number:02}.wav", sound, RATE)

# %%
# The feature's picture of one song of each. The lowest band is the first row.

import matplotlib.pyplot as plt

from musgenre import audio

figure, axes = plt.subplots(1, 2, figsize=(9, 3), sharey=True, layout="constrained")
for ax, name in zip(axes, ["rising", "falling"], strict=True):
    waveform = audio.load(music / name / "00.wav", sample_rate=RATE)
    picture = feature(torch.from_numpy(waveform)[None])[0, 0]
    ax.imshow(picture, origin="lower", aspect="auto", cmap="magma")
    ax.set(title=name, xlabel="frame")
axes[0].set_ylabel("band")
plt.show()

# %%
# A split that puts a quarter of the songs aside to stop by.

data = musgenre.datasets.AudioFolder(music)
train, valid = musgenre.datasets.holdout(data, fraction=0.25)
print(len(train), "to learn from,", len(valid), "to stop by")

# %%
# Train by name
# -------------
#
# The names stand where those of built-in parts would. Options go into a ``Component``; a misspelled one is refused
# with the options that there are.

from musgenre import Component

config = musgenre.FinetuneConfig(
    head_epochs=0,
    epochs=15,
    head_learning_rate=5e-3,
    dropout=0.0,
    windows_per_track=2,
)
backbone = Component("two-layers", {"width": 48})
result = musgenre.finetune(train, valid=valid, backbone=backbone, config=config, progress=False)
print(result.classifier.config.scores)

try:
    musgenre.finetune(train, backbone=Component("two-layers", {"widht": 48}))
except musgenre.MusgenreError as error:
    print(error)

# %%
# Save and reload
# ---------------
#
# ``config.json`` names the feature and the backbone with their options; it holds no code. Whoever loads the model
# needs to have registered the same names, by running this code first or by installing a package that announces
# them.

model = music.parent / "glides"
result.classifier.save_pretrained(model)
print((model / "config.json").read_text())

classifier = musgenre.GenreClassifier.from_pretrained(model)
for track in valid:
    print(f"{track.id}: {classifier.predict(track.path).label}")

# %%
# A package announces its parts in its ``pyproject.toml``, and from then on their names are there wherever it is
# installed, in the command as well (``musgenre list backbones``):
#
# .. code-block:: toml
#
#    [project.entry-points."musgenre.backbones"]
#    two-layers = "glides.network:TwoLayers"
#
#    [project.entry-points."musgenre.features"]
#    few-bands = "glides.network:FewBands"
