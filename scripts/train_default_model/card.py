"""The model card with its two figures."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from finetuning import Settings
from matplotlib.figure import Figure

from musgenre.core.config import Prediction
from musgenre.core.files import atomic_write
from musgenre.evaluation.cross_validation_report import CrossValidationReport
from musgenre.evaluation.report import EvaluationReport, TrackPrediction
from musgenre.metrics import accuracy_interval
from musgenre.metrics.probabilities import calibration_error
from musgenre.models.classifier import GenreClassifier
from musgenre.plotting.figures import save_figure
from musgenre.plotting.reports import plot_confusion, plot_reliability

CARD = """\
---
license: apache-2.0
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

The default model of musgenre, included in the package: `musgenre.GenreClassifier.from_pretrained()`. The first nine
layers of YAMNet, trained further, and a linear layer ({parameters:.1f} million parameters; the backbone is stored in
half precision), on log-mel spectrograms of windows of {seconds} s. The probabilities of a file are the mean over its
windows; a recording that is shorter than a window is repeated. Ten genres: {genres}.

- Input: 64 mel bands, which are computed from 128 mel bands at 22,050 Hz, one frame every 77 ms (`yamnet-mel`).
- Backbone: the convolutions are applied to the window at two time scales, with these frames and with twice as many,
  interpolated. Mean and standard deviation of the outputs of layers 5, 7 and 9 are the embedding, {embedding:,}
  values.

## Training

The initial weights are those of YAMNet (Plakal and Ellis, TensorFlow Model Garden; Apache License 2.0, a copy of
which is in `LICENSE-YAMNET.txt`), which was trained on the 521 sound classes of AudioSet. All layers were changed
by the training. The data are {tracks} tracks of 30 s of GTZAN (Tzanetakis and Cook, 2002), all that were available
without a known fault (duplicates, wrong labels, distortion). They were stored as spectrograms; neither these nor
the recordings, which are copyrighted, are part of this package. Each track has {windows} windows and {excerpts}
excerpts of 2.5 s, which are repeated to the length of a window.

1. The backbone is trained for {steps} steps, with a low learning rate. The loss of a window is that of a linear
   layer fitted on other artists: on the artists of its own training, a linear layer has almost no errors to learn
   from.
2. The linear layer is a logistic regression on the standardised embeddings. {signals} signals that are not music
   (noise, tones, clicks, speech-like noise) have uniform targets.

No other network labelled the data. These variants were not more accurate: all 14 layers of YAMNet trained on GTZAN,
also after pretraining on the embeddings of 9 hours of free music; masking of the spectrograms; soft labels by
MSD_musicnn (Pons and Serra, 2019), which were better for excerpts and worse for complete tracks.

The training script is `scripts/train_default_model`, run with torch {torch} and Python {python} on two CPU cores.

## Evaluation

Five-fold cross-validation grouped by artist: no artist is in both the training and the test set of a fold
(`StratifiedGroupKFold` on the artist groups of Foleiss and Tavares, 2020); the folds were drawn {draws} times. The
published weights were then trained on all tracks, so the figures are those of models trained on four fifths of
the data. No model was trained on the test tracks of its fold. Tracks are predicted from their stored spectrograms.
The layers, time scales, window length and regularisation were selected among some 80 combinations on the same
folds, which makes the figures slightly optimistic.

| system | accuracy, grouped by artist |
| --- | --- |
| chance | 10 % |
| this model | **{accuracy}** (95 % interval over artists {low} to {high}) |
{variants}
| metric of this model | value |
| --- | --- |
| track accuracy by draw of the folds | {by_draw} |
| mean and standard deviation over the draws | {accuracy} ± {deviation:.1%} |
| macro F1 | {macro_f1:.2f} |
| top-3 accuracy | {top3:.1%} |
| expected calibration error, pooled over the draws | {calibration:.3f} |
| the same by draw; the expectation for a perfectly calibrated model is {by_chance:.3f} | {calibration_by_draw} |
| accuracy by fold | {by_fold} |

Printed by `python scripts/train_default_model spectrograms.npz --weights yamnet.h5 --audio GTZAN_FOLDER --ablations`,
here with the weights of the quantised TFLite file in place of `yamnet.h5`. Accuracies above 90 % that are reported
elsewhere for GTZAN mostly come from splits with the same artist, or even the same track, in both sets.

![Confusion matrix, first draw of the folds](confusion.png)

![Reliability diagram, first draw of the folds](calibration.png)

The probabilities are calibrated by a temperature ({temperature:.2f}), fitted on held-out tracks; the calibration
error above is for temperatures that were fitted on the other folds.

On the {own_tracks} tracks of GTZAN's fault-filtered test split that are in the data, the accuracy of the published
model is {own:.1%}. It was trained on them, so this is not an estimate for other music. `musgenre evaluate {name}
spectrograms.npz --dataset gtzan` prints it, to verify an installation:

{own_table}

## Limitations

Confusion matrix, true genre (rows) and predicted genre (columns), summed over the draws:

{table}

The weakest genres: {failures}.

- The number of artists limits what can be learned; numbers of artists in the data: {artists}.
- The excerpts are Western popular and art music from before 2000. Other styles and newer productions are assigned to
  one of the ten genres as well: there is no class "none of these".
- Signals that are not music are assigned a genre with a low probability: of {probes} test signals (silence, noise,
  speech-like noise, pure tones), the maximum is {loudest_probability:.2f} ({loudest}, {loudest_label}).

## Use

Intended for tagging and exploring music collections, for teaching, and as a baseline. Not intended for decisions
about people or money.
"""

ABLATIONS = """

Variants "the same" differ in one more choice from the variant whose backbone is not trained. All variants have the
first draw of the folds only, in which this model has {first:.1%}: training the backbone changes the accuracy little.
"""


def write_card(
    folder: Path,
    *,
    validation: CrossValidationReport,
    own: EvaluationReport,
    shipped: GenreClassifier,
    probed: Mapping[str, Prediction],
    ablations: Mapping[str, CrossValidationReport],
    excerpts: Sequence[TrackPrediction],
    artists: Mapping[str, int],
    settings: Settings,
) -> None:
    """Write README.md, confusion.png and calibration.png.

    Args:
        folder: The output directory.
        validation: The cross-validation.
        own: The published model on the fault-filtered test split, on which it was trained.
        shipped: The published model.
        probed: Its predictions for signals that are not music.
        ablations: Cross-validations of variants of the model, by description.
        excerpts: Predictions for audio of test tracks; may be empty.
        artists: Number of artists of each genre.
        settings: Hyperparameters.
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
    low, high = _interval(rows)
    variants = {name: f"{of.accuracy.mean:.1%}" for name, of in ablations.items()}
    if excerpts:
        share = np.mean([row.label == row.predicted for row in excerpts])
        name = f"this model on audio of {len({row.id for row in excerpts})} of the tracks, excerpts of 2 to 30 s"
        lowest, highest = _interval(excerpts)
        variants = {name: f"{share:.1%} ({lowest:.1%} to {highest:.1%})", **variants}
    note = ABLATIONS.format(first=first.accuracy) if ablations else "\n"
    loudest, most = max(probed.items(), key=lambda item: item[1].probability)
    text = CARD.format(
        name=shipped.config.name,
        parameters=sum(parameter.numel() for parameter in shipped.network.parameters()) / 1e6,
        seconds=shipped.config.audio.window_seconds,
        embedding=shipped.network.backbone.out_features,
        genres=", ".join(labels),
        tracks=len(first.predictions),
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
        own_tracks=own.tracks,
        own_table=_own_table(own),
        table=_confusion_table(labels, matrix),
        failures=_failures(labels, matrix),
        probes=len(probed),
        loudest=loudest,
        loudest_label=most.label,
        loudest_probability=most.probability,
        windows=len(settings.window_starts),
        excerpts=len(settings.excerpt_starts),
        signals=settings.signals,
        steps=settings.steps,
        variants="\n".join(f"| {name} | {accuracy} |" for name, accuracy in variants.items()) + note,
        artists=", ".join(f"{genre} {count}" for genre, count in sorted(artists.items(), key=lambda item: item[1])),
    )
    with atomic_write(folder / "README.md") as path:
        path.write_text(text, encoding="utf-8")


def _interval(rows: Sequence[TrackPrediction]) -> tuple[float, float]:
    """Return the 95 % interval of the accuracy by bootstrap over artists."""
    labels = sorted({row.label for row in rows} | {row.predicted for row in rows})
    return accuracy_interval(
        [labels.index(row.label) for row in rows],
        [labels.index(row.predicted) for row in rows],
        groups=[row.group or row.id for row in rows],
    )


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
