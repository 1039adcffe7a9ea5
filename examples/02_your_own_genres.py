"""
Your own genres
===============

A folder with one sub-folder a genre is all that fine-tuning needs. This tutorial learns from computed sounds, so that
it runs anywhere in a minute: four "genres" that are easy to tell apart. Put your own music in their place, and the rest
stays as it is.
"""

# %%
# A folder of genres
# ------------------
#
# ``make_genres.py``, beside this script, writes drones (chords that hardly change), clicks (short knocks in a steady
# beat), bursts (clouds of noise) and glides (tones that sweep): twelve songs each, three by each of four "artists".

import tempfile
from pathlib import Path

import numpy as np
from make_genres import RATE, clicks, drones, make_genres

folder = tempfile.TemporaryDirectory()
music = make_genres(Path(folder.name) / "music")
print(*sorted(path.name for path in music.iterdir()))

# %%
# Look at one song of each.

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
# Tracks, and a split
# -------------------
#
# ``AudioFolder`` lists the tracks. ``holdout`` puts some aside to stop by, with every genre on both sides. Songs of one
# artist are alike, and ``artists.csv``, with the columns ``track`` and ``group``, says whose each song is: then no
# artist stands on both sides, and the accuracy below means what you think it means. Without such a file every song
# counts as an artist of its own.

import musgenre

data = musgenre.datasets.AudioFolder(music, groups=music / "artists.csv")
print(data, data.counts())
print(data[0].id, data[0].label, data[0].group, data[0].duration_seconds)

train, valid = musgenre.datasets.holdout(data, fraction=0.2, seed=0)
print(len(train), "to learn from,", len(valid), "to stop by")

# %%
# Fine-tune
# ---------
#
# ``vgg16-slim`` has VGG-16's layers, but fewer channels in each: a quarter of them by default, an eighth here, to
# be quick. It starts from random weights, so that everything learns in one stage; the pretrained ``vgg16`` would
# first train its head and then its last layers. Training draws other windows of each song in each epoch, and the
# weights with the lowest loss on ``valid`` come back.

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
# The songs that are held back also chose the weights, so the last column is a sign that training works and no
# measurement. :doc:`06_measure_honestly` measures.
#
# Save, reload, predict
# ---------------------
#
# A saved model is a folder with its configuration, its weights and a card that says what it is. It can be copied
# anywhere; the same musgenre gives the same predictions there.

model = music.parent / "my-model"
result.classifier.save_pretrained(model)
print(sorted(path.name for path in model.iterdir()))

classifier = musgenre.GenreClassifier.from_pretrained(model)
song = valid[0].path
before, after = result.classifier.predict(song), classifier.predict(song)
print(f"{valid[0].id}: {after.label}, {after.probability:.0%}")
print("the same as before:", before.probabilities == after.probabilities)

# %%
# A song that the model has never met in any form: a drone that turns into clicks. The timeline shows where.

rng = np.random.default_rng(1)
time = np.arange(6 * RATE) / RATE
piece = np.concatenate([drones(time, rng, artist=0.5) / 6, clicks(time, rng, artist=0.5)])
piece += 0.01 * rng.normal(size=piece.size)

figure, ax = plt.subplots(figsize=(9, 3), layout="constrained")
plotting.plot_timeline(classifier.predict((piece, RATE)), ax=ax)
plt.show()

# %%
# From the shell, the same is one line:
#
# .. code-block:: console
#
#    $ musgenre finetune music --groups music/artists.csv --backbone vgg16-slim --output my-model
#    $ musgenre predict song.mp3 --model my-model
