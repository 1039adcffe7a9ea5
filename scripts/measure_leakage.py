"""Measure the effect of leakage on the accuracy of classifiers, on GTZAN or a part of it.

    python scripts/measure_leakage.py GTZAN_FOLDER --weights yamnet.h5

The same classifiers are cross-validated with three kinds of splits. "By artist" keeps all tracks of an artist in one
fold; "by track" ignores the artists; "by window" splits windows of about one second, so that a track may have windows
in both sets. Nothing else differs. The windows do not overlap, except for the last one of a track.

The classifiers are logistic regression on embeddings of a frozen YAMNet, which was trained on AudioSet, and a support
vector machine on means and standard deviations of MFCCs. The probabilities of a track are the mean over its windows of
the softmax of the scores. Intervals are by bootstrap over artists. The output is a table in Markdown.
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
# The unit of the split.
SPLITS = ("by artist", "by track", "by window")

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="a folder with GTZAN's ten folders of genres")
    parser.add_argument("--weights", required=True, help="YAMNet's yamnet.h5, or a TFLite file of it")
    parser.add_argument("--seeds", type=int, default=3, help="number of random draws of the folds")
    options = parser.parse_args()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DatasetWarning)  # a part of GTZAN is sufficient
        data = GTZAN(options.data, scheme="all").without_faults()
    embeddings, statistics, track_of = features_of(data, weights=options.weights)
    print(f"{len(data)} tracks, {len({track.group for track in data})} artists, {len(track_of)} windows\n")
    print("| classifier | split | track accuracy | window accuracy |\n| :-- | :-- | --: | --: |")
    for name, inputs, model in (
        ("YAMNet, logistic regression", embeddings, LogisticRegression(C=0.1, max_iter=1_000)),
        ("MFCC statistics, SVM", statistics, SVC(C=10)),
    ):
        for split in SPLITS:
            of_tracks, of_windows = evaluated(
                data,
                inputs,
                track_of=track_of,
                model=make_pipeline(StandardScaler(), model),
                split=split,
                seeds=options.seeds,
            )
            print(f"| {name} | {split} | {of_tracks} | {of_windows} |", flush=True)


def features_of(data: TrackDataset, *, weights: str) -> tuple[Floats, Floats, Indices]:
    """Return the YAMNet embedding, the MFCC statistics and the track index of each window.

    Shape:
        - Output: ``(windows, 1024)``, ``(windows, 40)``, ``(windows,)``
    """
    backbone = BACKBONES.build("yamnet", {"weights": weights}).eval()
    logmel = FEATURES.build("yamnet-logmel", {"sample_rate": SPEC.sample_rate})
    mfcc = FEATURES.build("mfcc", {"sample_rate": SPEC.sample_rate, "n_fft": 1024, "hop_length": 256})
    embeddings, statistics, track_of = [], [], []
    for index, track in enumerate(data):
        windows = torch.from_numpy(np.stack([window for _, window in AudioWindows(track.file, SPEC)]))
        with torch.inference_mode():
            embeddings.append(backbone(logmel(windows)).double().numpy())
            coefficients = mfcc(windows).double().squeeze(1)
        statistics.append(torch.cat([coefficients.mean(dim=2), coefficients.std(dim=2)], dim=1).numpy())
        track_of += [index] * len(windows)
    return np.concatenate(embeddings), np.concatenate(statistics), np.array(track_of)


def evaluated(
    data: TrackDataset, inputs: Floats, *, track_of: Indices, model: Any, split: str, seeds: int
) -> tuple[str, str]:
    """Cross-validate a classifier; return its track and window accuracies as text."""
    truth = np.array(data.label_indices())
    predicted_tracks, predicted_windows = [], []
    for seed in range(seeds):
        probabilities = np.zeros((len(inputs), len(data.labels)))
        for train, test in splits(data, track_of, split=split, seed=seed):
            model.fit(inputs[train], truth[track_of[train]])
            probabilities[np.ix_(test, model.classes_)] = softmax(model.decision_function(inputs[test]), axis=1)
        tracks = [track_probabilities(probabilities[track_of == index]) for index in range(len(data))]
        predicted_tracks.append(np.argmax(tracks, axis=1))
        predicted_windows.append(probabilities.argmax(axis=1))
    groups = np.array([track.group or track.id for track in data])
    return (
        formatted(np.tile(truth, seeds), np.concatenate(predicted_tracks), groups=np.tile(groups, seeds)),
        formatted(
            np.tile(truth[track_of], seeds), np.concatenate(predicted_windows), groups=np.tile(groups[track_of], seeds)
        ),
    )


def splits(data: TrackDataset, track_of: Indices, *, split: str, seed: int) -> Iterable[tuple[Indices, Indices]]:
    """Yield the indices of the training and test windows of five folds."""
    if split == "by window":
        labels = np.array(data.label_indices())[track_of]
        yield from StratifiedKFold(5, shuffle=True, random_state=seed).split(track_of, labels)
        return
    indices = {track.id: index for index, track in enumerate(data)}
    for train, test in group_folds(data, folds=5, seed=seed, groups="artist" if split == "by artist" else None):
        leak = check_split(train, test, allow_leakage=split != "by artist")
        if (leak is None) != (split == "by artist"):
            raise SystemExit(f"{split}: unexpected result of the leakage check: {leak!r}")
        sides = (np.isin(track_of, [indices[track.id] for track in side]) for side in (train, test))
        train_windows, test_windows = (np.flatnonzero(side) for side in sides)
        yield train_windows, test_windows


def formatted(truth: Indices, predicted: Indices, *, groups: npt.NDArray[np.str_]) -> str:
    """Return the accuracy and its interval over artists as text."""
    low, high = accuracy_interval(truth, predicted, groups=groups.tolist())
    return f"{accuracy(truth, predicted):.1%} ({low:.1%} to {high:.1%})"


if __name__ == "__main__":
    main()
