"""
Measure honestly
================

How good is a model? Two questions decide whether a figure means anything: did the model know the songs, or their
artists, before; and how far would the figure move with other songs. This tutorial divides a folder, trains, measures
with an interval over artists, and shows what a careless split would have claimed.
"""

# %%
# Songs, and who plays them
# -------------------------
#
# ``make_genres.py``, beside this script, computes four genres with four artists each. ``artists.csv`` says who plays
# what, and so no artist stands on both sides of a split.

import tempfile
from pathlib import Path

from make_genres import make_genres

import musgenre

folder = tempfile.TemporaryDirectory()
music = make_genres(Path(folder.name) / "music", seconds=4)
data = musgenre.datasets.AudioFolder(music, groups=music / "artists.csv")
print(data, "by", len({track.group for track in data}), "artists")

train, test = musgenre.datasets.holdout(data, fraction=0.25, seed=0)
print("kept for the test:", ", ".join(sorted({track.group for track in test})))

# %%
# Train on the one side, measure on the other
# -------------------------------------------
#
# The network is small and learns for a few epochs, to be quick. ``evaluate`` is told what the model was trained on, and
# refuses a test that shares a song, an artist or a recording with it.

SMALL = musgenre.Component("vgg16-slim", {"width": 0.0625, "dropout": 0.2})
CONFIG = musgenre.FinetuneConfig(
    audio=musgenre.AudioSpec(window_seconds=2, hop_seconds=2),
    head_epochs=0,
    epochs=5,
    head_learning_rate=2e-3,
    dropout=0.0,
    windows_per_track=2,
    batch_size=8,
    seed=0,
)
result = musgenre.finetune(train, backbone=SMALL, config=CONFIG, progress=False)
report = musgenre.evaluate(result.classifier, test, trained_on=train)
low, high = report.accuracy_interval
print(f"{report.accuracy:.0%} of the songs are right; 95 % interval over artists: {low:.0%} to {high:.0%}")

# %%
# The interval is wide: the test has few artists, and songs of one artist are right or wrong together. A figure without
# it would promise more than it can. The report has each genre, the confusion and the calibration, as Markdown and as
# a picture.

print(report.to_markdown().split("\n\n")[0])

# %%
# Every song has its turn
# -----------------------
#
# With few artists it is a waste to keep some for the test for good. Cross-validation trains on all folds but one and
# measures on that one, for each.

recipe = musgenre.Recipe(SMALL, config=CONFIG)
honest = musgenre.cross_validate(data, recipe=recipe, folds=2, progress=False)
print(f"artists kept apart: {honest.accuracy.mean:.0%} ± {honest.accuracy.fold_deviation:.0%}")

# %%
# What a careless split would have claimed
# ----------------------------------------
#
# ``groups=None`` divides songs whatever their artist. That must be asked for, and every report of it is marked.

careless = musgenre.cross_validate(data, recipe=recipe, folds=2, groups=None, allow_leakage=True, progress=False)
print(f"songs divided whatever their artist: {careless.accuracy.mean:.0%} ± {careless.accuracy.fold_deviation:.0%}")
print("leaky:", careless.leaky)

# %%
# From the shell:
#
# .. code-block:: console
#
#    $ musgenre cross-validate music --groups music/artists.csv --recipe vgg16-slim --output folds
