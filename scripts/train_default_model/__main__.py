"""Train and evaluate the default model and write its model card; see README.md in this directory.

python scripts/train_default_model spectrograms.npz --weights yamnet.h5
"""

from __future__ import annotations

import argparse
import copy
import json
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from card import write_card
from finetuning import Examples, Settings, train
from signals import probes

from musgenre.core.config import AudioSpec, Component, ModelConfig
from musgenre.datasets.base import TrackDataset
from musgenre.datasets.gtzan import GTZAN
from musgenre.datasets.splits import group_folds
from musgenre.evaluation.cross_validation_report import CrossValidationReport, summarise
from musgenre.evaluation.evaluator import evaluate
from musgenre.evaluation.report import EvaluationReport, TrackPrediction
from musgenre.metrics.calibration import fit_temperature
from musgenre.metrics.probabilities import calibration_error
from musgenre.models.classifier import GenreClassifier
from musgenre.models.network import GenreNetwork
from musgenre.models.serialization import DEFAULT_MODEL
from musgenre.training.recipes import Recipe

ROOT = Path(__file__).parents[2]
FOLDS = 5
RATE = 22_050
# Clips of GTZAN are up to 30.2 s long, which is four windows.
AUDIO = AudioSpec(sample_rate=RATE, window_seconds=7.55, hop_seconds=7.55)
FEATURE = Component("yamnet-mel", {"hop_length": 1708})


def _backbone(**changes: list[int]) -> Component:
    options = {"patches": False, "layers": [5, 7, 9], "pooling": "mean-std", "time_scales": [1, 2]}
    return Component("yamnet", {**options, **changes})


BACKBONE = _backbone()
SHORT = AudioSpec(sample_rate=RATE, window_seconds=3.0, hop_seconds=3.0)
ABLATIONS: dict[str, dict[str, Any]] = {
    "the backbone is not trained": {"settings": Settings(steps=0)},
    "the same, layer 9 only": {"settings": Settings(steps=0), "backbone": _backbone(layers=[9])},
    "the same, one time scale": {"settings": Settings(steps=0), "backbone": _backbone(time_scales=[1])},
    "the same, windows of 3 s": {"settings": Settings(steps=0), "audio": SHORT},
}
"""Variants of the model whose accuracy is in the model card, by description."""


@dataclass(frozen=True)
class Work:
    """Data and settings of one run of the script.

    Attributes:
        data: The tracks.
        weights: Weights of YAMNet.
        folder: Directory of the trained models, from which an interrupted run goes on.
        audio: Sample rate and windows.
        backbone: The backbone without its weights.
        settings: Hyperparameters.
    """

    data: TrackDataset
    weights: str
    folder: Path
    audio: AudioSpec
    backbone: Component
    settings: Settings

    def config(self, train_on: TrackDataset, *, seed: int) -> ModelConfig:
        """Return the configuration of a model that is trained on some tracks."""
        return ModelConfig(
            name=DEFAULT_MODEL,
            labels=self.data.labels,
            audio=self.audio,
            feature=FEATURE,
            backbone=self.backbone,
            dropout=0.0,
            split=f"trained on {len(train_on)} tracks of {self.data.name}",
            training={"program": "scripts/train_default_model", "seed": seed, **described(self.settings)},
            library_version=version("musgenre"),
        )

    @cached_property
    def network(self) -> GenreNetwork:
        """The network with the pretrained backbone; its output layer is not trained."""
        backbone = replace(self.backbone, options={**self.backbone.options, "weights": self.weights})
        return GenreNetwork.from_config(
            replace(self.config(self.data, seed=0), backbone=backbone), pretrained=True
        ).eval()

    @cached_property
    def examples(self) -> Examples:
        """The windows of all tracks."""
        return Examples.compute(self.data, self.network, audio=self.audio, settings=self.settings)

    def train(self, train_on: TrackDataset, *, name: str, seed: int) -> GenreClassifier:
        """Return the model that is trained on some tracks; loaded if an earlier run has saved it."""
        folder = self.folder / name
        if not (folder / "config.json").exists():
            numbers = {track.id: number for number, track in enumerate(self.data)}
            examples = self.examples.select(np.array([numbers[track.id] for track in train_on]))
            network = train(self.network, examples, settings=self.settings, seed=seed)
            GenreClassifier(network, self.config(train_on, seed=seed), device="cpu").save_pretrained(folder)
            print(f"{folder.name}: trained", flush=True)
        return GenreClassifier.from_pretrained(folder, device="cpu")

    def of_fold(self, train_on: TrackDataset, *, seed: int, fold: int) -> GenreClassifier:
        """Return the model of a fold."""
        return self.train(train_on, name=f"seed{seed}-fold{fold}", seed=seed)

    def run_step(self, name: str) -> None:
        """Train one model: seed and fold, such as ``"0-3"``, or the final one, ``"all"``."""
        if name == "all":
            self.train(self.data, name=name, seed=0)
            return
        seed, fold = map(int, name.split("-"))
        self.of_fold(group_folds(self.data, folds=FOLDS, seed=seed)[fold][0], seed=seed, fold=fold)


def main() -> None:
    """Run all steps that have no saved results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="GTZAN's stored spectrograms, one column every 77 ms")
    parser.add_argument("--weights", default="audioset", help="yamnet.h5 or yamnet.tflite; 'audioset' downloads it")
    parser.add_argument("--audio", type=Path, help="a folder of audio of some of the tracks, to test the models on")
    parser.add_argument("--ablations", action="store_true", help="evaluate variants of the model as well")
    parser.add_argument("--seeds", type=int, default=3, help="number of random draws of the folds")
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "default-model", help="intermediate results")
    parser.add_argument("--output", type=Path, default=ROOT / "src" / "musgenre" / "assets")
    parser.add_argument(
        "--only", nargs="+", metavar="SEED-FOLD", help="train these models and stop; 'all' is the final one"
    )
    options = parser.parse_args()
    torch.set_flush_denormal(True)
    data = GTZAN(options.data, scheme="all").without_faults()
    work = Work(data, options.weights, options.work, AUDIO, BACKBONE, Settings())
    if options.only:
        for name in options.only:
            work.run_step(name)
        return
    validation, temperature = cross_validate(work, seeds=options.seeds)
    validation.save(options.work / "report.json")
    ablations = {
        description: cross_validate(replace(work, folder=options.work / f"ablation{number}", **changes), seeds=1)[0]
        for number, (description, changes) in enumerate(ABLATIONS.items() if options.ablations else ())
    }
    audio = None if options.audio is None else GTZAN(options.audio, scheme="all")
    excerpts = [] if audio is None else on_audio(work, audio, seeds=options.seeds)
    final = work.train(data, name="all", seed=0)
    scores = {
        "cv_accuracy": validation.accuracy.mean,
        "cv_accuracy_seed_deviation": validation.accuracy.seed_deviation or 0.0,
        "cv_macro_f1": float(np.mean([of.macro_f1 for of in validation.pooled])),
        "cv_calibration_error": calibration_error(np.sum([of.reliability for of in validation.pooled], axis=0)),
    }
    config = replace(
        final.config, temperature=round(temperature, 4), scores={k: round(v, 4) for k, v in scores.items()}
    )
    # Half precision halves the size of the file; loading converts to single precision.
    network = copy.deepcopy(final.network)
    network.backbone.half()
    GenreClassifier(network, config, device="cpu").save_pretrained(options.output)
    shipped = GenreClassifier.from_pretrained(options.output, device="cpu")
    artists: dict[str, set[str]] = {}
    for track in data:
        artists.setdefault(track.label, set()).add(track.group or track.id)
    probed = {name: shipped.predict((wave, RATE)) for name, wave in probes(5 * RATE, rate=RATE).items()}
    write_card(
        options.output,
        validation=validation,
        own=evaluate(shipped, GTZAN(options.data, split="test")),
        shipped=shipped,
        probed=probed,
        ablations=ablations,
        excerpts=excerpts,
        artists={label: len(of_label) for label, of_label in artists.items()},
        settings=work.settings,
    )
    print(json.dumps(config.scores, indent=2))
    print({name: f"{result.label} {result.probability:.2f}" for name, result in probed.items()})


def cross_validate(work: Work, *, seeds: int) -> tuple[CrossValidationReport, float]:
    """Train a model per fold and evaluate it on the test tracks of the fold.

    The temperature of a fold is fitted on the other folds of its seed; the returned one, for the final model, on all.
    """
    reports: dict[tuple[int, int], EvaluationReport] = {}
    everything: list[tuple[npt.NDArray[np.float64], int]] = []
    for seed in range(seeds):
        pairs = group_folds(work.data, folds=FOLDS, seed=seed)
        models = [work.of_fold(train_on, seed=seed, fold=fold) for fold, (train_on, _) in enumerate(pairs)]
        logits = [_track_logits(model, test) for model, (_, test) in zip(models, pairs, strict=True)]
        for fold, (model, (train_on, test)) in enumerate(zip(models, pairs, strict=True)):
            others = [pair for other, of_fold in enumerate(logits) if other != fold for pair in of_fold]
            config = replace(model.config, temperature=_temperature(others))
            classifier = GenreClassifier(model.network, config, device="cpu")
            reports[seed, fold] = evaluate(classifier, test, trained_on=train_on)
            print(f"seed {seed}, fold {fold}: {reports[seed, fold].accuracy:.1%}", flush=True)
        everything += [pair for of_fold in logits for pair in of_fold]
    recipe = Recipe(work.backbone, FEATURE)
    report = summarise(work.data, reports, recipe=recipe, folds=FOLDS, groups="artist")
    report = replace(report, recipe={"backbone": recipe.described()["backbone"], **described(work.settings)})
    return report, _temperature(everything)


def on_audio(work: Work, audio: TrackDataset, *, seeds: int) -> list[TrackPrediction]:
    """Return the predictions for audio of each fold's test tracks, by the model of the fold."""
    rows: list[TrackPrediction] = []
    for seed in range(seeds):
        for fold, (train_on, test) in enumerate(group_folds(work.data, folds=FOLDS, seed=seed)):
            ids = {track.id for track in test}
            chosen = audio.select([track.id for track in audio if track.id in ids])
            model = work.of_fold(train_on, seed=seed, fold=fold)
            rows += evaluate(model, chosen, trained_on=train_on).predictions
    return rows


def described(settings: Settings) -> dict[str, object]:
    """Return the settings as JSON types."""
    pairs: dict[str, object] = json.loads(json.dumps(asdict(settings)))
    return pairs


def _track_logits(model: GenreClassifier, test: TrackDataset) -> list[tuple[npt.NDArray[np.float64], int]]:
    """Return the logits of each track's windows (up to a constant) and its label."""
    return [
        (np.log(model.predict(track.source).windows.probabilities), label)
        for track, label in zip(test, test.label_indices(), strict=True)
    ]


def _temperature(tracks: list[tuple[npt.NDArray[np.float64], int]]) -> float:
    return fit_temperature([logits for logits, _ in tracks], [label for _, label in tracks])


if __name__ == "__main__":
    main()
