"""
Your own genres
===============

Fine-tuning needs a directory with one subdirectory per genre. This tutorial trains on four synthetic "genres", so that
it runs anywhere in a minute. Replace them by your own music; the rest of the code stays the same.
"""

# %%
# Synthetic data
# --------------
#
# ``make_genres.py``, in the same directory, writes drones (sustained chords), clicks (a steady beat), bursts (modulated
# noise) and glides (frequency sweeps): twelve tracks per genre, three by each of four "artists".

import tempfile
from pathlib import Path

import numpy as np
from make_genres import RATE, clicks, drones, make_genres

folder = tempfile.TemporaryDirectory()
music = make_genres(Path(folder.name) / "music")
print(*sorted(path.name for path in music.iterdir()))

# %%
# The mel spectrogram of one track per genre:

import matplotlib.pyplot as plt

from musgenre import audio, plotting

figure, axes = plt.subplots(4, 1, figsize=(9, 10), sharex=True, layout="constrained")
for ax, name in zip(axes, ["bursts", "clicks", "drones", "glides"], strict=True):
    waveform = audio.load(music / name / "ada-1.wav", sample_rate=RATE)
    plotting.plot_spectrogram(waveform, sample_rate=RATE, ax=ax)
    ax.set_title(name, loc="left")
    ax.set_xlabel("")
plt.show()

# %%
# Dataset and split
# -----------------
#
# ``AudioFolder`` lists the tracks. ``holdout`` holds out validation tracks for early stopping, stratified by genre.
# ``artists.csv`` has the columns ``track`` and ``group``; with it, no artist is in both sets. Without it, every track
# is a group of its own, and the validation accuracy is too high where artists have several tracks.

import musgenre

data = musgenre.datasets.AudioFolder(music, groups=music / "artists.csv")
print(data, data.counts())
print(data[0].id, data[0].label, data[0].group, data[0].duration_seconds)

train, valid = musgenre.datasets.holdout(data, fraction=0.2, seed=0)
print(len(train), "training tracks,", len(valid), "validation tracks")

# %%
# Fine-tune
# ---------
#
# ``vgg16-slim`` has the layers of VGG-16 with fewer channels: a quarter by default, an eighth here, for speed. It
# starts from random weights, so all layers train in one stage; the pretrained ``vgg16`` would first train the head and
# then the last stages of the backbone. For real music, ``start="default"`` in place of ``backbone`` starts from the
# model in the package. Each epoch draws new random windows of each track. The result has the weights with the lowest
# validation loss.

config = musgenre.FinetuneConfig(
    audio=musgenre.AudioSpec(window_seconds=2, hop_seconds=2),
    head_epochs=0,
    epochs=8,
    head_learning_rate=1e-3,
    dropout=0.0,
    schedule="cosine",
    windows_per_track=2,
    batch_size=8,
    augmentation=musgenre.Augmentation(time_mask=16, frequency_mask=16),
    seed=0,
)
backbone = musgenre.Component("vgg16-slim", {"width": 0.125, "dropout": 0.2})
result = musgenre.finetune(train, valid=valid, backbone=backbone, config=config, progress=False)

print("epoch  train loss  valid loss  valid accuracy")
for row in result.history:
    losses = f"{row['train_loss']:10.2f}  {row['valid_loss']:10.2f}"
    print(f"{row['epoch']:5}  {losses}  {row['valid_accuracy']:14.0%}")

# %%
# The validation tracks also selected the weights, so the last column is not an unbiased estimate of the accuracy. See
# :doc:`06_measure_honestly` for that.
#
# Save, reload, predict
# ---------------------
#
# A saved model is a directory with its configuration, its weights and a model card. A reloaded model gives the same
# predictions.

model = music.parent / "my-model"
result.classifier.save_pretrained(model)
print(sorted(path.name for path in model.iterdir()))

classifier = musgenre.GenreClassifier.from_pretrained(model)
song = valid[0].path
before, after = result.classifier.predict(song), classifier.predict(song)
print(f"{valid[0].id}: {after.label}, {after.probability:.0%}")
print("identical probabilities:", before.probabilities == after.probabilities)

# %%
# The timeline of a new signal, a drone that is followed by clicks:

rng = np.random.default_rng(1)
time = np.arange(6 * RATE) / RATE
piece = np.concatenate([drones(time, rng, artist=0.5) / 6, clicks(time, rng, artist=0.5)])
piece += 0.01 * rng.normal(size=piece.size)

figure, ax = plt.subplots(figsize=(9, 3), layout="constrained")
plotting.plot_timeline(classifier.predict((piece, RATE)), ax=ax)
plt.show()

# %%
# The same on the command line:
#
# .. code-block:: console
#
#    $ musgenre finetune music --groups music/artists.csv --output my-model
#    $ musgenre predict song.mp3 --model my-model
