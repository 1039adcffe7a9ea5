"""Measures the default model's recipe by cross-validation, then trains the model that is shipped.

    python scripts/train_default_model.py GTZAN_FOLDER

Every fold trains on some artists and is judged on others; the shipped weights learn from all tracks. Folds that are
finished are read back from the work folder, so that an interrupted run goes on where it was. Writes config.json,
model.safetensors and the model card into src/musgenre/assets, and report.json into the work folder.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import platform
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from musgenre.classifier import GenreClassifier
from musgenre.datasets.base import Track, TrackDataset
from musgenre.datasets.gtzan import GTZAN
from musgenre.datasets.splits import group_folds
from musgenre.finetuning import finetune
from musgenre.metrics import accuracy, accuracy_interval, confusion, macro_f1
from musgenre.specs import AudioSpec, Component
from musgenre.training.plan import Augmentation, FinetuneConfig
from musgenre.weights import DEFAULT_MODEL

ROOT = Path(__file__).parent.parent
BACKBONE = Component("vgg16-slim", {"dropout": 0.2})
CONFIG = FinetuneConfig(
    audio=AudioSpec(sample_rate=22_050, window_seconds=3.0, hop_seconds=3.0),
    dropout=0.2,
    head_epochs=18,  # a backbone from scratch learns in one stage of head_epochs + epochs
    epochs=0,
    windows_per_track=4,
    head_learning_rate=2e-3,
    weight_decay=0.05,
    schedule="cosine",
    label_smoothing=0.1,
    augmentation=Augmentation(speed=0.1, crop=64, equaliser=0.125, time_mask=12, frequency_mask=16, masks=1),
    batch_size=16,
    balanced=True,
    precision="bf16-mixed",
)


CARD = """\
---
license: mit
library_name: musgenre
pipeline_tag: audio-classification
tags:
- music
- genre
- audio-classification
metrics:
- accuracy
- f1
---

# {name}

The model inside the musgenre package: `musgenre.GenreClassifier.from_pretrained()`. A slim VGG-16 (the sixteen layers
at a quarter of the width, with batch normalisation, 1.3 million parameters) on log-mel spectrograms of 3 s windows at
22,050 Hz; a song's probabilities are the mean over its windows. It knows ten genres: blues, classical, country, disco,
hiphop, jazz, metal, pop, reggae, rock.

## Training

Trained from scratch on {tracks} excerpts (40 minutes in all, most of them 2 to 3 s long) of the GTZAN collection
(Tzanetakis and Cook, 2002), whose recordings are copyrighted and are not part of this package. Every genre is drawn
equally often; windows are cropped at random to 1.5 s, played up to 10 % faster or slower, given a random tone curve and
masked in time and frequency; AdamW with one cycle of the learning rate and label smoothing. The program is
`scripts/train_default_model.py`, run with torch {torch} and Python {python} on two CPU cores.

## How good it is

Measured by five-fold cross-validation of this recipe with artists kept apart: no artist stands in both the training and
the test set of a fold (`StratifiedGroupKFold` on the artist groups of Foleiss and Tavares, 2020). The folds were drawn
{draws} times; the recipe's settings were chosen with an eye on the first draw, whose figure flatters it for that. The
shipped weights are then trained on all tracks, so that these figures are of their siblings, which had four fifths of
the data.

| figure | value |
| --- | --- |
| accuracy over tracks (chance is 10 %), all draws | {accuracy} |
| 95 % interval, bootstrap over artists | {low} to {high} |
| macro F1 | {macro_f1} |
| accuracy by draw | {by_draw} |
| accuracy by fold | {folds} |

Printed by `python scripts/train_default_model.py GTZAN_FOLDER --seeds {draws}`. Scores above 90 % that are reported
elsewhere for GTZAN mostly come from splits with the same artist, or even the same track, on both sides.

## Where it fails

Tracks by true genre (rows) and predicted genre (columns), all folds of all draws:

{table}

The weakest genres: {failures}.

- Blues comes from three artists only, so some folds learn it from two and others have none to test on.
- The excerpts are Western popular and art music from before 2000. Other styles and newer productions get one of the ten
  labels all the same: the model has no "none of these".
- Probabilities are not calibrated, and silence, speech and noise get a genre too.

## Use

For tagging and exploring collections where a wrong label costs little, and as a small starting point for teaching and
comparison. Not for decisions about people or money, and not as a measure of what a piece of music is.
"""


def main() -> None:
    """Runs the whole recipe."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="a folder with GTZAN's ten folders of genres")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=2, help="how many times the folds are drawn anew")
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "default-model")
    parser.add_argument("--output", type=Path, default=ROOT / "src" / "musgenre" / "assets")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    data = GTZAN(options.data, scheme="all")
    rows = [
        row
        for seed in range(options.seeds)
        for number, (train, test) in enumerate(group_folds(data, folds=options.folds, seed=seed))
        for row in judge(train, test, file=options.work / f"seed{seed}-fold{number}.json", seed=seed, fold=number)
    ]
    report = summarise(rows, data)
    (options.work / "report.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    result = finetune(data, backbone=BACKBONE, config=CONFIG, name=DEFAULT_MODEL)
    scores = {name: report[name] for name in ("cv_accuracy", "cv_accuracy_low", "cv_accuracy_high", "cv_macro_f1")}
    config = dataclasses.replace(result.classifier.config, scores=scores)
    GenreClassifier(result.classifier.network, config).save_pretrained(options.output)
    (options.output / "README.md").write_text(card(report, tracks=len(data)), encoding="utf-8")
    print(json.dumps(report, indent=2))


def judge(train: TrackDataset, test: TrackDataset, *, file: Path, seed: int, fold: int) -> list[dict[str, Any]]:
    """Trains on one side of a fold and predicts the other, or reads what an earlier run has found."""
    if not file.exists():
        start = time.monotonic()
        classifier = finetune(train, backbone=BACKBONE, config=dataclasses.replace(CONFIG, seed=seed)).classifier
        minutes = (time.monotonic() - start) / 60
        rows = [describe(track, classifier, seed=seed, fold=fold) for track in test]
        temporary = file.with_suffix(".tmp")
        temporary.write_text(json.dumps(rows), encoding="utf-8")
        temporary.replace(file)
        print(
            f"seed {seed}, fold {fold}: {_share(rows):.1%} of {len(rows)} tracks, trained in {minutes:.1f} min",
            flush=True,
        )
    found: list[dict[str, Any]] = json.loads(file.read_text(encoding="utf-8"))
    return found


def describe(track: Track, classifier: GenreClassifier, *, seed: int, fold: int) -> dict[str, Any]:
    """Returns one held-back track with its truth and what the classifier made of it."""
    return {
        "seed": seed,
        "fold": fold,
        "track": track.id,
        "group": track.group or track.id,
        "label": track.label,
        "predicted": classifier.predict(track.path).label,
    }


def summarise(rows: list[dict[str, Any]], data: TrackDataset) -> dict[str, Any]:
    """Returns the figures of the model card."""
    places = {label: place for place, label in enumerate(data.labels)}
    truth = [places[row["label"]] for row in rows]
    predicted = [places[row["predicted"]] for row in rows]
    low, high = accuracy_interval(truth, predicted, groups=[row["group"] for row in rows])
    matrix = confusion(truth, predicted, classes=len(data.labels))
    folds = sorted({(row["seed"], row["fold"]) for row in rows})
    by_fold = [_share([row for row in rows if (row["seed"], row["fold"]) == fold]) for fold in folds]
    seeds = sorted({row["seed"] for row in rows})
    return {
        "cv_accuracy": round(accuracy(truth, predicted), 4),
        "cv_accuracy_low": round(low, 4),
        "cv_accuracy_high": round(high, 4),
        "cv_macro_f1": round(macro_f1(truth, predicted), 4),
        "by_draw": [round(_share([row for row in rows if row["seed"] == seed]), 4) for seed in seeds],
        "by_fold": [round(share, 4) for share in by_fold],
        "labels": list(data.labels),
        "confusion": matrix.tolist(),
        "recall": {
            label: round(row[i] / max(sum(row), 1), 4)
            for i, (label, row) in enumerate(zip(places, matrix.tolist(), strict=True))
        },
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def _share(rows: list[dict[str, Any]]) -> float:
    return float(np.mean([row["label"] == row["predicted"] for row in rows]))


def card(report: dict[str, Any], *, tracks: int) -> str:
    """Returns the model card, in the form that the hub shows."""
    labels = report["labels"]
    matrix = report["confusion"]
    table = [f"| true | {' | '.join(labels)} | right |", "| --- |" + " ---: |" * (len(labels) + 1)]
    for label, row in zip(labels, matrix, strict=True):
        table.append(f"| {label} | {' | '.join(map(str, row))} | {report['recall'][label]:.0%} |")
    worst = sorted(report["recall"], key=report["recall"].__getitem__)[:3]
    failures = "; ".join(f"{label} ({report['recall'][label]:.0%} right{_taken_for(label, report)})" for label in worst)
    folds = ", ".join(f"{share:.1%}" for share in report["by_fold"])
    text = CARD.format(
        name=DEFAULT_MODEL,
        tracks=tracks,
        accuracy=f"{report['cv_accuracy']:.1%}",
        low=f"{report['cv_accuracy_low']:.1%}",
        high=f"{report['cv_accuracy_high']:.1%}",
        macro_f1=f"{report['cv_macro_f1']:.2f}",
        folds=folds,
        draws=len(report["by_draw"]),
        by_draw=", ".join(f"{share:.1%}" for share in report["by_draw"]),
        table="\n".join(table),
        failures=failures,
        torch=report["torch"],
        python=report["python"],
    )
    return text


def _taken_for(label: str, report: dict[str, Any]) -> str:
    """Says what a genre is most often mistaken for."""
    own = report["labels"].index(label)
    mistakes = [0 if place == own else count for place, count in enumerate(report["confusion"][own])]
    return f", most often taken for {report['labels'][int(np.argmax(mistakes))]}" if any(mistakes) else ""


if __name__ == "__main__":
    main()
