"""Measures how much a split that leaks flatters a classifier, on GTZAN or a part of it.

    python scripts/measure_leakage.py GTZAN_FOLDER --weights yamnet.h5

The same classifiers are cross-validated in three ways. "By artist" keeps all tracks of an artist in one fold; "by
track" divides tracks whatever their artist; "by window" divides windows of about a second, so that other windows of a
track are trained on. Nothing else differs. The windows do not overlap, but for the last one of a track.

Two classifiers: logistic regression on the embedding of a frozen YAMNet, which learned sounds from AudioSet; and the
classic of the field, a support vector machine on the mean and deviation of cepstral coefficients (MFCC). A track's
probabilities are the mean over its windows of the softmax of the classifier's scores. Intervals are by bootstrap over
artists. Prints a table in Markdown.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from musgenre.audio import AudioWindows
from musgenre.backbones.base import BACKBONES
from musgenre.core.config import AudioSpec
from musgenre.datasets.base import DatasetWarning, TrackDataset
from musgenre.datasets.gtzan import GTZAN
from musgenre.datasets.splits import check_split, group_folds
from musgenre.features.base import FEATURES
from musgenre.metrics import accuracy, accuracy_interval, track_probabilities

# One patch of YAMNet.
SPEC = AudioSpec(sample_rate=16_000, window_seconds=0.975, hop_seconds=0.975)
# Each divides windows by what it is given, "by window" whatever track they are of.
WAYS = ("by artist", "by track", "by window")

Floats = npt.NDArray[np.float64]
Places = npt.NDArray[np.int64]


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="a folder with GTZAN's ten folders of genres")
    parser.add_argument("--weights", required=True, help="YAMNet's yamnet.h5, or a TFLite file of it")
    parser.add_argument("--seeds", type=int, default=3, help="how many times the folds are drawn anew")
    options = parser.parse_args()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DatasetWarning)  # a part of GTZAN will do
        found = GTZAN(options.data, scheme="all")
    data = found.select(track.id for track in found if track.fault is None)
    embeddings, statistics, track_of = described(data, weights=options.weights)
    print(f"{len(data)} tracks, {len({track.group for track in data})} artists, {len(track_of)} windows\n")
    print("| classifier | divided | accuracy of tracks | of windows |\n| :-- | :-- | --: | --: |")
    for name, inputs, model in (
        ("YAMNet, logistic regression", embeddings, LogisticRegression(C=0.1, max_iter=1_000)),
        ("MFCC statistics, SVM", statistics, SVC(C=10)),
    ):
        for way in WAYS:
            of_tracks, of_windows = measured(
                data,
                inputs,
                track_of=track_of,
                model=make_pipeline(StandardScaler(), model),
                way=way,
                seeds=options.seeds,
            )
            print(f"| {name} | {way} | {of_tracks} | {of_windows} |", flush=True)


def described(data: TrackDataset, *, weights: str) -> tuple[Floats, Floats, Places]:
    """Returns of each window YAMNet's embedding, the statistics of its MFCC, and the place of its track.

    Shape:
        - Output: ``(windows, 1024)``, ``(windows, 40)``, ``(windows,)``
    """
    backbone = BACKBONES.build("yamnet", {"weights": weights}).eval()
    logmel = FEATURES.build("yamnet-logmel", {"sample_rate": SPEC.sample_rate})
    mfcc = FEATURES.build("mfcc", {"sample_rate": SPEC.sample_rate, "n_fft": 1024, "hop_length": 256})
    embeddings, statistics, track_of = [], [], []
    for place, track in enumerate(data):
        windows = torch.from_numpy(np.stack([window for _, window in AudioWindows(track.path, SPEC)]))
        with torch.inference_mode():
            embeddings.append(backbone(logmel(windows)).double().numpy())
            coefficients = mfcc(windows).double().squeeze(1)
        statistics.append(torch.cat([coefficients.mean(dim=2), coefficients.std(dim=2)], dim=1).numpy())
        track_of += [place] * len(windows)
    return np.concatenate(embeddings), np.concatenate(statistics), np.array(track_of)


def measured(
    data: TrackDataset, inputs: Floats, *, track_of: Places, model: Any, way: str, seeds: int
) -> tuple[str, str]:
    """Cross-validates a classifier, and returns its accuracy of tracks and of windows in words."""
    truth = np.array(data.label_indices())
    right_tracks, right_windows = [], []
    for seed in range(seeds):
        probabilities = np.zeros((len(inputs), len(data.labels)))
        for train, test in divided(data, track_of, way=way, seed=seed):
            model.fit(inputs[train], truth[track_of[train]])
            probabilities[np.ix_(test, model.classes_)] = softmax(model.decision_function(inputs[test]), axis=1)
        tracks = [track_probabilities(probabilities[track_of == place]) for place in range(len(data))]
        right_tracks.append(np.argmax(tracks, axis=1))
        right_windows.append(probabilities.argmax(axis=1))
    groups = np.array([track.group or track.id for track in data])
    return (
        told(np.tile(truth, seeds), np.concatenate(right_tracks), groups=np.tile(groups, seeds)),
        told(np.tile(truth[track_of], seeds), np.concatenate(right_windows), groups=np.tile(groups[track_of], seeds)),
    )


def divided(data: TrackDataset, track_of: Places, *, way: str, seed: int) -> Iterable[tuple[Places, Places]]:
    """Yields the places of the windows to train on and to judge, five times."""
    if way == "by window":
        labels = np.array(data.label_indices())[track_of]
        yield from StratifiedKFold(5, shuffle=True, random_state=seed).split(track_of, labels)
        return
    places = {track.id: place for place, track in enumerate(data)}
    for train, test in group_folds(data, folds=5, seed=seed, groups="artist" if way == "by artist" else None):
        leak = check_split(train, test, allow_leakage=way != "by artist")
        if (leak is None) != (way == "by artist"):
            raise SystemExit(f"{way}: expected to leak or not to leak, got {leak!r}")
        sides = (np.isin(track_of, [places[track.id] for track in side]) for side in (train, test))
        learned, judged = (np.flatnonzero(side) for side in sides)
        yield learned, judged


def told(truth: Places, predicted: Places, *, groups: npt.NDArray[np.str_]) -> str:
    """Returns an accuracy and its interval over artists as text."""
    low, high = accuracy_interval(truth, predicted, groups=groups.tolist())
    return f"{accuracy(truth, predicted):.1%} ({low:.1%} to {high:.1%})"


if __name__ == "__main__":
    main()
