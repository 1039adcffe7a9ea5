"""
Custom backbones and features
=============================

A network consists of a feature, a backbone and a head. Features and backbones are looked up in registries. A decorator
registers your own under a name, and they are then used, saved and loaded like the built-in ones.
"""

# %%
# A feature
# ---------
#
# A feature is a module from waveforms ``(batch, samples)`` to feature maps ``(batch, channels, bins, frames)``. It is
# part of the network, so training and prediction use the same computation. This one is a mel spectrogram with few, wide
# bands.
#
# A registered factory is a class or a function with keyword-only parameters (after the ``*``), so that a misspelled
# option is an error. ``sample_rate`` is always passed.

import torch
from torch import Tensor, nn

import musgenre
from musgenre.features import FeatureExtractor
from musgenre.transforms import Channels, MelSpectrogram, ToDecibel


@musgenre.register_feature("few-bands")
class FewBands(FeatureExtractor):
    """Mel spectrogram in decibels relative to its maximum, with few, wide bands."""

    def __init__(self, *, sample_rate: int, n_mels: int = 24) -> None:
        super().__init__(sample_rate=sample_rate)
        self.mel = MelSpectrogram(
            sample_rate=sample_rate,
            hop_length=1024,
            n_mels=n_mels,
        )
        self.to_decibel = nn.Sequential(ToDecibel(reference="max"), Channels(1))

    def out_shape(self, samples: int) -> tuple[int, int, int]:
        return 1, self.mel.n_mels, self.mel.frame_count(samples)

    def forward(self, waveform: Tensor) -> Tensor:
        # From [-80, 0] dB to [-1, 1].
        return 1 + self.to_decibel(self.mel(waveform)) / 40


feature = FewBands(sample_rate=22_050)
print(feature(torch.randn(2, 66_150)).shape, feature.out_shape(66_150))

# %%
# A backbone
# ----------
#
# A backbone is a module from feature maps to one vector per window, ``(batch, out_features)``. It declares the input it
# expects and lists its stages from input to output; fine-tuning unfreezes them from the output end. ``in_channels``,
# the number of channels of the feature, is always passed.

from musgenre.backbones import Backbone, InputSpec


@musgenre.register_backbone("two-layers")
class TwoLayers(Backbone):
    """Two convolutions along time; the first spans all bands."""

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
# Synthetic data
# --------------
#
# Two "genres": tones with rising frequency, and tones with falling frequency.

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
# The feature of one track per genre:

import matplotlib.pyplot as plt

from musgenre import audio

figure, axes = plt.subplots(1, 2, figsize=(9, 3), sharey=True, layout="constrained")
for ax, name in zip(axes, ["rising", "falling"], strict=True):
    waveform = audio.load(music / name / "00.wav", sample_rate=RATE)
    spectrogram = feature(torch.from_numpy(waveform)[None])[0, 0]
    ax.imshow(spectrogram, origin="lower", aspect="auto", cmap="magma")
    ax.set(title=name, xlabel="frame")
axes[0].set_ylabel("band")
plt.show()

# %%
# Hold out a quarter of the tracks for validation.

data = musgenre.datasets.AudioFolder(music)
train, valid = musgenre.datasets.holdout(data, fraction=0.25)
print(len(train), "training tracks,", len(valid), "validation tracks")

# %%
# Train by name
# -------------
#
# The names are used like those of built-in components. Options are given in a ``Component``; a misspelled option is an
# error that lists the valid ones.

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
# ``config.json`` contains the names and options of the feature and the backbone, and no code. To load the model, the
# same names must be registered: run this code first, or install a package with entry points for them.

model = music.parent / "glides"
result.classifier.save_pretrained(model)
print((model / "config.json").read_text())

classifier = musgenre.GenreClassifier.from_pretrained(model)
for track in valid:
    print(f"{track.id}: {classifier.predict(track.path).label}")

# %%
# A package declares its components as entry points in its ``pyproject.toml``. They are then available in every program
# and on the command line (``musgenre list backbones``):
#
# .. code-block:: toml
#
#    [project.entry-points."musgenre.backbones"]
#    two-layers = "glides.network:TwoLayers"
#
#    [project.entry-points."musgenre.features"]
#    few-bands = "glides.network:FewBands"
