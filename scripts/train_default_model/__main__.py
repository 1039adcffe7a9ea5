"""Train and evaluate the default model and write its model card; see README.md in this directory.

python scripts/train_default_model GTZAN_FOLDER --music MUSIC_FOLDER --teacher yamnet.h5
"""

from __future__ import annotations

import argparse
import copy
import json
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from card import write_card
from heads import add_second_layer
from mixtures import CHUNK, RATE, Mixtures, Pool, labelled, mixtures
from music import excerpts
from safetensors.torch import load_file, save_file
from signals import probes
from student import Settings, State, TrainingClips, pretrain, train

from musgenre.backbones.yamnet import AudioSetScores
from musgenre.core.config import AudioSpec, Component, ModelConfig
from musgenre.core.files import atomic_write
from musgenre.datasets.base import TrackDataset
from musgenre.datasets.gtzan import GTZAN
from musgenre.datasets.splits import group_folds
from musgenre.datasets.windows import GridWindows
from musgenre.evaluation.cross_validation_report import CrossValidationReport, summarise
from musgenre.evaluation.evaluator import evaluate
from musgenre.evaluation.report import EvaluationReport
from musgenre.features.base import FEATURES
from musgenre.metrics.calibration import fit_temperature
from musgenre.metrics.probabilities import calibration_error
from musgenre.models.classifier import GenreClassifier
from musgenre.models.serialization import DEFAULT_MODEL
from musgenre.training.recipes import Recipe

ROOT = Path(__file__).parents[2]
FOLDS = 5
AUDIO = AudioSpec(sample_rate=RATE, window_seconds=3.0, hop_seconds=3.0)
FEATURE = Component("logmel", {"n_fft": 1024, "hop_length": 256, "n_mels": 64})
BACKBONE = Component("vgg16-slim", {"dropout": 0.1, "stem_stride": 2, "pooling": "mean"})


@dataclass(frozen=True)
class Work:
    """Data and settings of one run of the script.

    Attributes:
        data: The tracks.
        mixtures: Clips of the tracks.
        music: Clips of free music.
        teacher: Weights of YAMNet.
        settings: Hyperparameters.
        folder: Directory of intermediate results.
    """

    data: TrackDataset
    mixtures: Mixtures
    music: Mixtures
    teacher: str
    settings: Settings
    folder: Path

    def config(self, train_on: TrackDataset, *, seed: int) -> ModelConfig:
        """Return the configuration of a student that is trained on some tracks."""
        return ModelConfig(
            name=DEFAULT_MODEL,
            labels=self.data.labels,
            audio=AUDIO,
            feature=FEATURE,
            backbone=BACKBONE,
            dropout=0.1,
            split=f"trained on {len(train_on)} tracks of {self.data.name}",
            training={"program": "scripts/train_default_model", "seed": seed, **described(self.settings)},
            library_version=version("musgenre"),
        )

    def pretrained(self) -> State:
        """Return the pretrained state, which is loaded if an earlier run has saved it."""
        path = self.folder / "pretrained.safetensors"
        if not path.exists():
            scores = AudioSetScores(weights=self.teacher).dense
            state = pretrain(self.config(self.data, seed=0), self.music, scores=scores, settings=self.settings)
            with atomic_write(path) as partial:
                save_file({name: value.contiguous() for name, value in state.items()}, partial)
            print("pretraining: done", flush=True)
        return load_file(path)

    def student(self, train_on: TrackDataset, *, name: str, seed: int) -> GenreClassifier:
        """Return the student trained on some tracks, with its second layer; loaded if an earlier run has saved it."""
        folder = self.folder / name
        if not (folder / "config.json").exists():
            indices = {track.id: number for number, track in enumerate(self.data)}
            own, head = TrainingClips.from_tracks(
                self.mixtures,
                np.array(self.data.label_indices()),
                tracks=frozenset(indices[track.id] for track in train_on),
                settings=self.settings,
            )
            free = TrainingClips.from_music(self.music, head=head, temperature=self.settings.teacher_temperature)
            counts = self.settings.batch_size - self.settings.music, self.settings.music
            config = self.config(train_on, seed=seed)
            sources = list(zip((own, free), counts, strict=True))
            network = train(config, sources, pretrained=self.pretrained(), settings=self.settings, seed=seed)
            GenreClassifier(network, config, device="cpu").save_pretrained(folder)
            print(f"{name}: trained", flush=True)
        student = GenreClassifier.from_pretrained(folder, device="cpu")
        network = add_second_layer(student.network, GridWindows(train_on, audio=AUDIO), rate=RATE)
        return GenreClassifier(network, student.config, device="cpu")

    def run_step(self, name: str) -> None:
        """Train one student: seed and fold, such as ``"0-3"``, the final one, ``"all"``, or ``"pretraining"`` only."""
        if name == "pretraining":
            self.pretrained()
            return
        if name == "all":
            self.student(self.data, name=name, seed=0)
            return
        seed, fold = map(int, name.split("-"))
        self.of_fold(group_folds(self.data, folds=FOLDS, seed=seed)[fold][0], seed=seed, fold=fold)

    def of_fold(self, train_on: TrackDataset, *, seed: int, fold: int) -> GenreClassifier:
        """Return the student of a fold."""
        return self.student(train_on, name=f"seed{seed}-fold{fold}", seed=seed)


def main() -> None:
    """Run all steps that have no saved results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="a folder with GTZAN's ten folders of genres")
    parser.add_argument("--music", type=Path, help="a folder of music without labels, as music.py downloads it")
    parser.add_argument("--teacher", default="audioset", help="yamnet.h5 or yamnet.tflite; 'audioset' downloads it")
    parser.add_argument("--seeds", type=int, default=3, help="number of random draws of the folds")
    parser.add_argument("--chunks", type=int, default=27, help=f"chunks of {CHUNK:,} clips of GTZAN")
    parser.add_argument("--music-chunks", type=int, default=24, help="as many of free music")
    parser.add_argument(
        "--work", type=Path, default=ROOT / "build" / "default-model", help="directory of intermediate results"
    )
    parser.add_argument("--output", type=Path, default=ROOT / "src" / "musgenre" / "assets")
    parser.add_argument(
        "--only",
        nargs="+",
        metavar="SEED-FOLD",
        help="train these students and stop; 'all' is the final one, 'pretraining' the common initial state",
    )
    options = parser.parse_args()
    torch.set_flush_denormal(True)
    data = GTZAN(options.data, scheme="all")
    feature = FEATURES.build(FEATURE.name, {**FEATURE.options, "sample_rate": RATE})

    def free_music() -> Pool:
        if options.music is None:
            parser.error("--music is needed: a folder of music without labels; music.py downloads one.")
        songs, weights = excerpts(options.music, rate=RATE)
        return Pool(songs, weights, seed=77)

    given: dict[str, Any] = {"feature": feature, "teacher": options.teacher, "folder": options.work}
    clips = mixtures(lambda: labelled(data), name="tracks", chunks=options.chunks, **given)
    music = mixtures(free_music, name="music", chunks=options.music_chunks, **given)
    work = Work(data, clips, music, options.teacher, Settings(), options.work)
    if options.only:
        for name in options.only:
            work.run_step(name)
        return
    validation, temperature = cross_validate(work, seeds=options.seeds)
    validation.save(options.work / "report.json")
    final = work.student(data, name="all", seed=0)
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
    half = copy.deepcopy(final.network).half()
    GenreClassifier(half, config, device="cpu").save_pretrained(options.output)
    shipped = GenreClassifier.from_pretrained(options.output, device="cpu")
    probed = {name: shipped.predict((wave, RATE)) for name, wave in probes(5 * RATE, rate=RATE).items()}
    own = evaluate(shipped, data)
    counts = {"clips": len(clips.shares), "music": len(music.shares)}
    write_card(options.output, validation=validation, own=own, shipped=shipped, probed=probed, counts=counts)
    print(json.dumps(config.scores, indent=2))
    print({name: f"{result.label} {result.probability:.2f}" for name, result in probed.items()})


def cross_validate(work: Work, *, seeds: int) -> tuple[CrossValidationReport, float]:
    """Train a student per fold and evaluate it on the test tracks of the fold.

    The temperature of a fold is fitted on the other folds of its seed; the returned one, for the final model, on all.
    """
    reports: dict[tuple[int, int], EvaluationReport] = {}
    everything: list[tuple[npt.NDArray[np.float64], int]] = []
    for seed in range(seeds):
        pairs = group_folds(work.data, folds=FOLDS, seed=seed)
        students = [work.of_fold(train_on, seed=seed, fold=fold) for fold, (train_on, _) in enumerate(pairs)]
        logits = [_track_logits(student, test) for student, (_, test) in zip(students, pairs, strict=True)]
        for fold, (student, (train_on, test)) in enumerate(zip(students, pairs, strict=True)):
            others = [pair for other, of_fold in enumerate(logits) if other != fold for pair in of_fold]
            config = replace(student.config, temperature=_temperature(others))
            classifier = GenreClassifier(student.network, config, device="cpu")
            reports[seed, fold] = evaluate(classifier, test, trained_on=train_on)
            print(f"seed {seed}, fold {fold}: {reports[seed, fold].accuracy:.1%}", flush=True)
        everything += [pair for of_fold in logits for pair in of_fold]
    recipe = Recipe(BACKBONE, FEATURE)
    report = summarise(work.data, reports, recipe=recipe, folds=FOLDS, groups="artist")
    report = replace(report, recipe={"backbone": recipe.described()["backbone"], **described(work.settings)})
    return report, _temperature(everything)


def described(settings: Settings) -> dict[str, object]:
    """Return the settings as JSON types."""
    pairs: dict[str, object] = json.loads(json.dumps(asdict(settings)))
    return pairs


def _track_logits(student: GenreClassifier, test: TrackDataset) -> list[tuple[npt.NDArray[np.float64], int]]:
    """Return the logits of each track's windows (up to a constant) and its label."""
    return [
        (np.log(student.predict(track.source).windows.probabilities), label)
        for track, label in zip(test, test.label_indices(), strict=True)
    ]


def _temperature(tracks: list[tuple[npt.NDArray[np.float64], int]]) -> float:
    return fit_temperature([logits for logits, _ in tracks], [label for _, label in tracks])


if __name__ == "__main__":
    main()
