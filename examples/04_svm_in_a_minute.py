"""
An SVM in a minute
==================

Not everything needs a network. This tutorial turns songs into rows of a table, trains a support vector machine of
scikit-learn on it, and measures it so that the figure can be trusted: no artist is on both sides of a split. Then it
does the same with a network, on the same folds.
"""

# %%
# Songs, labels and artists
# -------------------------
#
# Three "genres" of computed sounds by four "artists" each. An artist has an instrument of their own, and mixes in a
# little, or a lot, of another genre that has influenced them. Whoever has heard one of their songs knows the others:
# that is what makes a split at random flatter a model.
#
# Given a folder of GTZAN on the command line, the script takes that instead.

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
    """Four seconds of a genre; pitch and brightness are the artist's."""
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
    """Writes the songs, and a table that says whose they are."""
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
print(f"{len(songs)} songs of {len(set(labels))} genres by {len(set(artists))} artists")

# %%
# One row a song
# --------------
#
# ``"stats"`` is the classic summary: mean, deviation and skewness of timbre, harmony and loudness over the frames, and
# the tempo. :class:`~musgenre.sklearn.FeatureTransformer` is a transformer like any other, so its columns have names.

from musgenre.sklearn import FeatureTransformer

transformer = FeatureTransformer("stats").set_output(transform="pandas")
table = transformer.fit_transform(songs)
print(table[["spectral_centroid_mean", "zero_crossing_rate_mean", "tempo"]].groupby(labels).mean().round(2))

# %%
# Train and measure
# -----------------
#
# The transformer learns nothing from the songs, so the table can be made once for all folds. What does learn, the
# scaling and the machine, is fitted on the training side of each fold alone: that is what the pipeline is for.

from sklearn.model_selection import GroupKFold, KFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

FOLDS = 3
svm = make_pipeline(StandardScaler(), SVC(C=10))


def report(name: str, predicted: np.ndarray) -> None:
    """Prints an accuracy with its 95 % interval over artists."""
    truth, found = (np.searchsorted(data.labels, of) for of in (labels, predicted))
    low, high = musgenre.metrics.accuracy_interval(truth, found, groups=list(artists))
    print(f"{name:<34} {musgenre.metrics.accuracy(truth, found):4.0%} ({low:.0%} to {high:.0%})")


honest = cross_val_predict(svm, table, labels, groups=artists, cv=GroupKFold(FOLDS))
report("SVM, artists kept apart", honest)

flattered = cross_val_predict(svm, table, labels, cv=KFold(FOLDS, shuffle=True, random_state=0))
report("SVM, songs divided at random", flattered)

# %%
# The first line is what to expect of a song by somebody new. The second is not: there the machine may have heard the
# artist before.
#
# The same with a network
# -----------------------
#
# :class:`~musgenre.sklearn.GenreEstimator` is fine-tuning as a classifier of scikit-learn: it is given the paths, and
# goes through the same folds. A small network without pretrained weights learns little from so few songs; what a
# pretrained one gains is a matter of ``backbone="vgg16"`` or ``"yamnet"``, and of a download.

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
learned = cross_val_predict(network, songs, labels, groups=artists, cv=GroupKFold(FOLDS))
report("network, artists kept apart", learned)

# %%
# Everything else of scikit-learn works as well. A search over the machine's options and the features at once, with the
# songs as its input, is
#
# .. code-block:: python
#
#    from sklearn.model_selection import GridSearchCV
#
#    pipeline = make_pipeline(FeatureTransformer(), StandardScaler(), SVC())
#    grid = {"featuretransformer__feature": ["stats", "mfcc", "mfcc+chroma"], "svc__C": [1, 10]}
#    search = GridSearchCV(pipeline, grid, cv=GroupKFold(3))
#    search.fit(songs, labels, groups=artists)
