"""The model card with its two figures."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from matplotlib.figure import Figure

from musgenre.core.config import Prediction
from musgenre.core.files import atomic_write
from musgenre.evaluation.cross_validation_report import CrossValidationReport
from musgenre.evaluation.report import EvaluationReport
from musgenre.metrics import accuracy_interval
from musgenre.metrics.probabilities import calibration_error
from musgenre.models.classifier import GenreClassifier
from musgenre.plotting.figures import save_figure
from musgenre.plotting.reports import plot_confusion, plot_reliability

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

The default model of musgenre, included in the package: `musgenre.GenreClassifier.from_pretrained()`. A slim VGG-16
(sixteen layers at a quarter of the width, with batch normalisation and a stride of 2 in the first convolution;
{parameters:.1f} million parameters, stored in half precision) on log-mel spectrograms (64 bands, hop of 256 samples) of
3 s windows at 22,050 Hz. The probabilities of a file are the mean over its windows. Ten genres: {genres}.

## Training

The model was trained by knowledge distillation in two steps. The teacher is YAMNet (Plakal and Ellis, Apache License
2.0), which was trained on the 521 sound classes of AudioSet. It is used in training only and is not part of the model.

1. Pretraining without labels: {music:,} clips of free music, the soundtracks of 112 games and other programs in Debian
   12 (listed in `scripts/train_default_model/music.csv`; 923 pieces). The targets are the embeddings of the teacher.
2. Training of the genres: {clips:,} clips of {tracks} excerpts (40 minutes in total, most of them 2 to 3 s long) of the
   GTZAN dataset (Tzanetakis and Cook, 2002), whose recordings are copyrighted and are not part of this package. The
   targets are a mixture of 60 % predictions of the teacher (by a linear layer fitted on the same excerpts) and 40 %
   labels. A third of each batch is free music with the teacher's predictions as targets. Finally, the coefficients of a
   logistic regression, fitted on the embeddings of the unmodified excerpts, are added to the output layer.

The clips are augmented: speed, equalisation, mixtures of two tracks, noise, MP3 and Ogg Vorbis compression. Four
percent are not music and have uniform targets. The training script is `scripts/train_default_model`, run with torch
{torch} and Python {python} on two CPU cores.

## Evaluation

Five-fold cross-validation grouped by artist: no artist is in both the training and the test set of a fold
(`StratifiedGroupKFold` on the artist groups of Foleiss and Tavares, 2020); the folds were drawn {draws} times. The
published weights were then trained on all excerpts, so the figures are those of models trained on four fifths of the
data. Hyperparameters were selected on the first draw, which makes its figure slightly optimistic. No model was trained
on the test tracks of its fold, with or without labels.

| system | accuracy, grouped by artist |
| --- | --- |
| chance | 10 % |
| this model | **{accuracy}** (95 % interval over artists {low} to {high}) |
| the slim VGG-16 without distillation (two draws) | 49.6 % |
| YAMNet's own scores of the ten genres, without training | 60.6 % (model card of `yamnet-gtzan`) |
| `yamnet-gtzan`: the teacher with a linear layer | 69.0 % (its model card) |

| metric of this model | value |
| --- | --- |
| track accuracy by draw of the folds | {by_draw} |
| mean and standard deviation over the draws | {accuracy} ± {deviation:.1%} |
| macro F1 | {macro_f1:.2f} |
| top-3 accuracy | {top3:.1%} |
| expected calibration error, pooled over the draws | {calibration:.3f} |
| the same by draw; the expectation for a perfectly calibrated model is {by_chance:.3f} | {calibration_by_draw} |
| accuracy by fold | {by_fold} |

Printed by `python scripts/train_default_model GTZAN_FOLDER --music MUSIC_FOLDER --teacher yamnet.h5 --seeds {draws}`,
here with the weights of the quantised TFLite file in place of `yamnet.h5`. Accuracies above 90 % that are reported
elsewhere for GTZAN mostly come from splits with the same artist, or even the same track, in both sets.

![Confusion matrix, first draw of the folds](confusion.png)

![Reliability diagram, first draw of the folds](calibration.png)

The probabilities are calibrated by a temperature ({temperature:.2f}), fitted on held-out tracks; the calibration error
above is for temperatures that were fitted on the other folds.

On the {tracks} excerpts that it was trained on, the accuracy of the published model is {own:.1%}. This is not an
estimate for other music; `musgenre evaluate {name} GTZAN_FOLDER` prints it, to verify an installation:

{own_table}

## Limitations

Confusion matrix, true genre (rows) and predicted genre (columns), summed over the draws:

{table}

The weakest genres: {failures}.

- Blues consists of three artists only, so some folds train on two of them and others have none in the test set.
- The excerpts are Western popular and art music from before 2000. Other styles and newer productions are assigned to
  one of the ten genres as well: there is no class "none of these".
- Signals that are not music are assigned a genre with a low probability: of {probes} test signals (silence, noise,
  speech-like noise, pure tones), the maximum is {loudest_probability:.2f} ({loudest}, {loudest_label}).

## Use

Intended for tagging and exploring music collections, for teaching, and as a baseline. Not intended for decisions about
people or money.
"""


def write_card(
    folder: Path,
    *,
    validation: CrossValidationReport,
    own: EvaluationReport,
    shipped: GenreClassifier,
    probed: Mapping[str, Prediction],
    counts: Mapping[str, int],
) -> None:
    """Write README.md, confusion.png and calibration.png.

    Args:
        folder: The output directory.
        validation: The cross-validation.
        own: The published model on its training tracks.
        shipped: The published model.
        probed: Its predictions for signals that are not music.
        counts: Numbers of training clips: ``clips`` of GTZAN, ``music`` of free music.
    """
    first = validation.pooled[0]
    confusion, calibration = Figure(figsize=(7, 7), layout="constrained"), Figure(figsize=(5, 5), layout="constrained")
    plot_confusion(first.confusion, labels=first.labels, ax=confusion.subplots())
    plot_reliability(first.reliability, ax=calibration.subplots())
    save_figure(confusion, folder / "confusion.png")
    save_figure(calibration, folder / "calibration.png")
    labels = list(first.labels)
    matrix = np.sum([report.confusion for report in validation.pooled], axis=0)
    rows = [row for report in validation.pooled for row in report.predictions]
    low, high = accuracy_interval(
        [labels.index(row.label) for row in rows],
        [labels.index(row.predicted) for row in rows],
        groups=[row.group or row.id for row in rows],
    )
    loudest, most = max(probed.items(), key=lambda item: item[1].probability)
    text = CARD.format(
        name=shipped.config.name,
        parameters=sum(parameter.numel() for parameter in shipped.network.parameters()) / 1e6,
        genres=", ".join(labels),
        tracks=own.tracks,
        torch=torch.__version__,
        python=platform.python_version(),
        draws=len(validation.seeds),
        accuracy=f"{validation.accuracy.mean:.1%}",
        low=f"{low:.1%}",
        high=f"{high:.1%}",
        by_draw=", ".join(f"{report.accuracy:.1%}" for report in validation.pooled),
        deviation=validation.accuracy.seed_deviation or 0.0,
        macro_f1=np.mean([report.macro_f1 for report in validation.pooled]),
        top3=np.mean([report.top3_accuracy for report in validation.pooled]),
        calibration=calibration_error(np.sum([report.reliability for report in validation.pooled], axis=0)),
        calibration_by_draw=", ".join(f"{report.calibration_error:.3f}" for report in validation.pooled),
        by_chance=_by_chance(first.reliability),
        by_fold=", ".join(f"{row.accuracy:.1%}" for row in validation.scores),
        temperature=shipped.config.temperature,
        own=own.accuracy,
        own_table=_own_table(own),
        table=_confusion_table(labels, matrix),
        failures=_failures(labels, matrix),
        probes=len(probed),
        loudest=loudest,
        loudest_label=most.label,
        loudest_probability=most.probability,
        **counts,
    )
    with atomic_write(folder / "README.md") as path:
        path.write_text(text, encoding="utf-8")


def _by_chance(reliability: npt.ArrayLike) -> float:
    """Return the expected calibration error of a perfectly calibrated model with the same confidences."""
    counts, confidence, _ = np.asarray(reliability, dtype=np.float64).T
    chances = np.clip(confidence / np.maximum(counts, 1), 0, 1)
    right = np.random.default_rng(0).binomial(counts.astype(int), chances, (1_000, len(counts)))
    return float((np.abs(confidence - right).sum(axis=1) / counts.sum()).mean())


def _own_table(own: EvaluationReport) -> str:
    lines = ["| genre | precision | recall | tracks |", "| --- | ---: | ---: | ---: |"]
    for label, of in own.genres.items():
        lines.append(f"| {label} | {of.precision:.1%} | {of.recall:.1%} | {of.support} |")
    return "\n".join(lines)


def _confusion_table(labels: list[str], matrix: np.ndarray) -> str:
    lines = [f"| true | {' | '.join(labels)} | recall |", "| --- |" + " ---: |" * (len(labels) + 1)]
    for index, (label, row) in enumerate(zip(labels, matrix, strict=True)):
        lines.append(f"| {label} | {' | '.join(map(str, row))} | {row[index] / max(row.sum(), 1):.0%} |")
    return "\n".join(lines)


def _failures(labels: list[str], matrix: np.ndarray) -> str:
    recall = matrix.diagonal() / np.maximum(matrix.sum(axis=1), 1)
    weakest = []
    for index in np.argsort(recall)[:3]:
        mistakes = np.where(np.arange(len(labels)) == index, 0, matrix[index])
        weakest.append(
            f"{labels[index]} (recall {recall[index]:.0%}, most often confused with {labels[mistakes.argmax()]})"
        )
    return "; ".join(weakest)
