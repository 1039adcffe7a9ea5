"""
Feature statistics and an SVM
=============================

A baseline without a network: this tutorial computes a table of feature statistics, trains a support vector machine with
scikit-learn, and cross-validates it, grouped by artist. It then evaluates a network on the same folds.
"""

# %%
# Synthetic data
# --------------
#
# Three synthetic "genres" with four "artists" each. An artist has a characteristic timbre and mixes in another genre.
# Tracks of one artist are therefore similar, which makes a random split optimistic.
#
# With a path to GTZAN as argument, the script uses GTZAN instead.

import sys
import tempfile
from pathlib import Path

import numpy as np
import soundfile

import musgenre

GENRES = ("bursts", "clicks", "drones")
RATE = 22_050
rng = np.random.default_rng(0)
time = np.arange(4 * RATE) / RATE


def compose(genre: str, *, hertz: float, brightness: float) -> np.ndarray:
    """Synthesise four seconds of a genre with the pitch and brightness of an artist."""
    if genre == "drones":
        root = hertz * rng.choice([1, 9 / 8, 5 / 4])
        tones = [(k * step * root, brightness**k) for step in (1, 1.25, 1.5) for k in range(1, 6)]
        sound = sum(level * np.sin(2 * np.pi * tone * time) for tone, level in tones)
    elif genre == "clicks":
        since_beat = time % (1 / rng.uniform(2, 6))
        sound = np.sin(2 * np.pi * 5 * hertz * since_beat) * np.exp(-since_beat * 200 * brightness)
    else:
        swell = np.sin(np.pi * rng.uniform(0.3, 2) * time) ** 2
        sound = swell * np.convolve(rng.normal(size=time.size), [1, brightness], mode="same")
    return sound / sound.std()


def make_songs(folder: Path) -> musgenre.datasets.AudioFolder:
    """Write the tracks and a table of their artists."""
    rows = ["track,group"]
    for genre in GENRES:
        (folder / genre).mkdir(parents=True)
        for artist in range(4):
            instrument = {"hertz": rng.uniform(100, 300), "brightness": rng.uniform(0.3, 0.9)}
            influence, share = rng.choice(GENRES), rng.uniform(0.8, 1.6)
            for number in range(3):
                sound = compose(genre, **instrument) + share * compose(influence, **instrument)
                name = f"{genre}/{artist}-{number}.wav"
                soundfile.write(folder / name, 0.5 * sound / np.abs(sound).max(), RATE)
                rows.append(f"{name},{genre} {artist}")
    (folder / "artists.csv").write_text("\n".join(rows))
    return musgenre.datasets.AudioFolder(folder, groups=folder / "artists.csv")


if len(sys.argv) > 1:
    data = musgenre.datasets.GTZAN(sys.argv[1], scheme="artist-folds", split="all")
else:
    temporary = tempfile.TemporaryDirectory()
    data = make_songs(Path(temporary.name) / "music")

songs = [str(track.path) for track in data]
labels = np.array([track.label for track in data])
artists = np.array([track.group for track in data])
print(f"{len(songs)} tracks of {len(set(labels))} genres by {len(set(artists))} artists")

# %%
# Feature table
# -------------
#
# ``"stats"`` summarises frame-level features (MFCCs, chroma, spectral shape, level) by mean, standard deviation and
# skewness, and adds the tempo. :class:`~musgenre.sklearn.FeatureTransformer` is a scikit-learn transformer with named
# output columns.

from musgenre.sklearn import FeatureTransformer

transformer = FeatureTransformer("stats").set_output(transform="pandas")
table = transformer.fit_transform(songs)
print(table[["spectral_centroid_mean", "zero_crossing_rate_mean", "tempo"]].groupby(labels).mean().round(2))

# %%
# Cross-validation
# ----------------
#
# The transformer is not fitted to the data, so the table is computed once for all folds. The pipeline fits the scaler
# and the SVM on the training set of each fold.

from sklearn.model_selection import GroupKFold, KFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

FOLDS = 3
svm = make_pipeline(StandardScaler(), SVC(C=10))


def report(name: str, predicted: np.ndarray) -> None:
    """Print the accuracy with its 95 % interval over artists."""
    truth, found = (np.searchsorted(data.labels, of) for of in (labels, predicted))
    low, high = musgenre.metrics.accuracy_interval(truth, found, groups=list(artists))
    print(f"{name:<34} {musgenre.metrics.accuracy(truth, found):4.0%} ({low:.0%} to {high:.0%})")


honest = cross_val_predict(svm, table, labels, groups=artists, cv=GroupKFold(FOLDS))
report("SVM, grouped by artist", honest)

flattered = cross_val_predict(svm, table, labels, cv=KFold(FOLDS, shuffle=True, random_state=0))
report("SVM, random split", flattered)

# %%
# The first line estimates the accuracy for new artists. The second is optimistic, because the artists of the test
# tracks are in the training set as well.
#
# A network on the same folds
# ---------------------------
#
# :class:`~musgenre.sklearn.GenreEstimator` is fine-tuning as a scikit-learn classifier. Its input is the paths. A small
# network without pretrained weights performs poorly with so few tracks; a pretrained one is used with
# ``backbone="vgg16"`` or ``"yamnet"``, which download weights.

from musgenre.sklearn import GenreEstimator

network = GenreEstimator(
    musgenre.Component("vgg16-slim", {"width": 0.125}),
    options={
        "epochs": 12 if len(sys.argv) > 1 else 6,
        "head_epochs": 0,
        "dropout": 0.0,
        "windows_per_track": 2,
    },
)
of_network = cross_val_predict(network, songs, labels, groups=artists, cv=GroupKFold(FOLDS))
report("network, grouped by artist", of_network)

# %%
# A grid search over the options of the SVM and the features at once, with paths as input:
#
# .. code-block:: python
#
#    from sklearn.model_selection import GridSearchCV
#
#    pipeline = make_pipeline(FeatureTransformer(), StandardScaler(), SVC())
#    grid = {"featuretransformer__feature": ["stats", "mfcc", "mfcc+chroma"], "svc__C": [1, 10]}
#    search = GridSearchCV(pipeline, grid, cv=GroupKFold(3))
#    search.fit(songs, labels, groups=artists)
