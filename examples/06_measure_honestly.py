"""
Evaluation without leakage
==========================

An accuracy is meaningful only if no track, artist or recording of the test set is in the training set, and if its
uncertainty is known. This tutorial splits a dataset by artist, trains, evaluates with a confidence interval over
artists, and compares with a random split.
"""

# %%
# Dataset with artists
# --------------------
#
# ``make_genres.py``, in the same directory, synthesises four genres with four artists each. ``artists.csv`` assigns
# each track to its artist, so no artist is on both sides of the split.

import tempfile
from pathlib import Path

from make_genres import make_genres

import musgenre

folder = tempfile.TemporaryDirectory()
music = make_genres(Path(folder.name) / "music", seconds=4)
data = musgenre.datasets.AudioFolder(music, groups=music / "artists.csv")
print(data, "by", len({track.group for track in data}), "artists")

train, test = musgenre.datasets.holdout(data, fraction=0.25, seed=0)
print("test artists:", ", ".join(sorted({track.group for track in test})))

# %%
# Train and evaluate
# ------------------
#
# The network is small and trains for a few epochs, for speed. With ``trained_on``, ``evaluate`` raises an error if the
# test set shares a track, an artist or a recording with the training set.

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
print(f"accuracy {report.accuracy:.0%}, 95 % interval over artists {low:.0%} to {high:.0%}")

# %%
# The interval is wide, because the test set has few artists and the errors of one artist's tracks are correlated. The
# report also contains per-genre figures, the confusion matrix and the calibration, as Markdown and as a figure.

print(report.to_markdown().split("\n\n")[0])

# %%
# Cross-validation
# ----------------
#
# With few artists, cross-validation uses the data better: each fold is the test set once, and the other folds are the
# training set.

recipe = musgenre.Recipe(SMALL, config=CONFIG)
honest = musgenre.cross_validate(data, recipe=recipe, folds=2, progress=False)
print(f"grouped by artist: {honest.accuracy.mean:.0%} ± {honest.accuracy.fold_deviation:.0%}")

# %%
# Random split, for comparison
# ----------------------------
#
# ``groups=None`` ignores the artists. It requires ``allow_leakage=True`` where groups are known, and the report is
# marked as leaky.

leaky = musgenre.cross_validate(data, recipe=recipe, folds=2, groups=None, allow_leakage=True, progress=False)
print(f"random split: {leaky.accuracy.mean:.0%} ± {leaky.accuracy.fold_deviation:.0%}")
print("leaky:", leaky.leaky)

# %%
# On the command line:
#
# .. code-block:: console
#
#    $ musgenre cross-validate music --groups music/artists.csv --recipe vgg16-slim --output folds
