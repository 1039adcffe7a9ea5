"""Compare fine-tuning from a trained model with logistic regression on its embeddings, for small datasets.

    python benchmarks/start.py GTZAN [--model yamnet-gtzan] [--weights yamnet.tflite] [--tracks 5 10 20] [--seeds 5]

For each number of tracks a genre and each seed, tracks are drawn at random; the test set are all tracks of other
artists. The model's backbone must not have been trained on GTZAN, as that of ``yamnet-gtzan`` was not.
"""

from __future__ import annotations

import argparse
import tempfile
import warnings
from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegression

import musgenre
from musgenre.datasets import GTZAN, DatasetWarning, TrackDataset


def main() -> None:
    """Print the accuracy of both methods as a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("gtzan", type=Path, help="GTZAN's folder, or a part of it")
    parser.add_argument("--model", default="yamnet-gtzan")
    parser.add_argument("--weights", type=Path, help="weights of the model's backbone; by default they are downloaded")
    parser.add_argument("--tracks", type=int, nargs="+", default=[5, 10, 20], help="training tracks of each genre")
    parser.add_argument("--seeds", type=int, default=5)
    options = parser.parse_args()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DatasetWarning)
        data = GTZAN(options.gtzan, scheme="all")
    model = musgenre.GenreClassifier.from_pretrained(options.model, backbone_weights=options.weights)
    embeddings = dict(zip((track.id for track in data), model.embed([track.source for track in data]), strict=True))
    print("| tracks a genre | fine-tuning | logistic regression | difference |")
    print("| --- | --- | --- | --- |")
    for count in options.tracks:
        rows = []
        for seed in range(options.seeds):
            train, test = draw(data, count, seed=seed)
            with tempfile.TemporaryDirectory() as cache:
                result = musgenre.finetune(train, start=model, seed=seed, cache=Path(cache), progress=False)
            inputs, others = (np.array([embeddings[track.id] for track in side]) for side in (train, test))
            reference = LogisticRegression(max_iter=5000).fit(inputs, train.label_indices())
            rows.append(
                (
                    musgenre.evaluate(result.classifier, test, trained_on=train).accuracy,
                    reference.score(others, test.label_indices()),
                )
            )
        tuned, regression = np.mean(rows, axis=0)
        deviation = np.std(np.subtract(*np.transpose(rows)), ddof=1) if len(rows) > 1 else np.nan
        print(
            f"| {count} | {tuned:.1%} | {regression:.1%} | {100 * (tuned - regression):+.1f} ± "
            f"{100 * deviation / len(rows) ** 0.5:.1f} points |",
            flush=True,
        )


def draw(data: TrackDataset, count: int, *, seed: int) -> tuple[TrackDataset, TrackDataset]:
    """Return ``count`` random tracks of each genre, and all tracks by other artists."""
    chosen: dict[str, list[str]] = {label: [] for label in data.labels}
    for index in np.random.default_rng(seed).permutation(len(data)):
        track = data[int(index)]
        if len(chosen[track.label]) < count:
            chosen[track.label].append(track.id)
    train = data.select(track_id for ids in chosen.values() for track_id in ids)
    groups = {track.group for track in train} - {None}
    ids = {track.id for track in train}
    return train, data.select(track.id for track in data if track.id not in ids and track.group not in groups)


if __name__ == "__main__":
    main()
