"""Measure how well each layer of a frozen YAMNet separates the genres of GTZAN.

    python scripts/measure_layers.py spectrograms.npz --weights yamnet.h5

The data are stored spectrograms, from which the feature ``yamnet-mel`` is computed, or a folder of audio, for which it
is YAMNet's own ``yamnet-logmel``. The vector of a track is the mean over its windows of the mean, or of mean and
standard deviation, of a layer's output. A logistic regression on standardised vectors is cross-validated in five folds
with no artist on both sides. The output is a table in Markdown; intervals are by bootstrap over artists.
"""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from musgenre.core.config import AudioSpec, Component, ModelConfig
from musgenre.datasets.base import DatasetWarning, TrackDataset
from musgenre.datasets.gtzan import GTZAN
from musgenre.datasets.splits import group_folds
from musgenre.metrics import accuracy, accuracy_interval
from musgenre.models.classifier import GenreClassifier
from musgenre.models.network import GenreNetwork

LAYERS = 14
FOLDS = 5
Floats = npt.NDArray[np.float32]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="a file of stored spectrograms, or a folder with GTZAN's ten folders")
    parser.add_argument("--weights", required=True, help="YAMNet's yamnet.h5, or a TFLite file of it")
    parser.add_argument("--seconds", type=float, default=30.0, help="length of a window")
    parser.add_argument("--regularisation", type=float, default=0.01, help="C of the logistic regression")
    parser.add_argument("--seeds", type=int, default=1, help="number of random draws of the folds")
    options = parser.parse_args()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DatasetWarning)  # a part of GTZAN is sufficient
        data = GTZAN(options.data, scheme="all").without_faults()
    print(f"{len(data)} tracks, {len({track.group for track in data})} artists\n")
    print("| layers | values | mean | mean and standard deviation |\n| --: | --: | --: | --: |")
    for layers in range(1, LAYERS + 1):
        vectors = embeddings(data, weights=options.weights, layers=layers, seconds=options.seconds)
        channels = vectors.shape[1] // 2
        cells = [
            evaluated(data, inputs, regularisation=options.regularisation, seeds=options.seeds)
            for inputs in (vectors[:, :channels], vectors)
        ]
        print(f"| {layers} | {channels} | {' | '.join(cells)} |", flush=True)


def embeddings(data: TrackDataset, *, weights: str, layers: int, seconds: float) -> Floats:
    """Return the mean and the standard deviation of a layer's output for each track.

    Shape:
        - Output: ``(tracks, 2 * channels)``
    """
    first = data[0].spectrogram
    rate = 16_000 if first is None else first.settings.sample_rate
    if first is None:
        feature = Component("yamnet-logmel")
    else:
        feature = Component("yamnet-mel", {"n_fft": first.settings.n_fft, "hop_length": round(first.spacing)})
    backbone = Component("yamnet", {"patches": False, "layers": layers, "pooling": "mean-std", "weights": weights})
    audio = AudioSpec(rate, window_seconds=seconds, hop_seconds=seconds)
    config = ModelConfig(f"{layers} layers", data.labels, audio, feature, backbone)
    classifier = GenreClassifier(GenreNetwork.from_config(config, pretrained=True), config)
    return np.stack([classifier.embed(track.source) for track in data])


def evaluated(data: TrackDataset, inputs: Floats, *, regularisation: float, seeds: int) -> str:
    """Cross-validate a logistic regression; return its accuracy and the interval over artists as text."""
    truth = np.array(data.label_indices())
    indices = {track.id: index for index, track in enumerate(data)}
    predicted = np.zeros((seeds, len(data)), np.intp)
    for seed in range(seeds):
        for sides in group_folds(data, folds=FOLDS, seed=seed):
            train, test = ([indices[track.id] for track in side] for side in sides)
            model = make_pipeline(StandardScaler(), LogisticRegression(C=regularisation, max_iter=500))
            predicted[seed, test] = model.fit(inputs[train], truth[train]).predict(inputs[test])
    truths, groups = np.tile(truth, seeds), [track.group or track.id for track in data] * seeds
    low, high = accuracy_interval(truths, predicted.ravel(), groups=groups)
    return f"{accuracy(truths, predicted.ravel()):.1%} ({low:.1%} to {high:.1%})"


if __name__ == "__main__":
    torch.set_flush_denormal(True)
    main()
