"""Fine-tuning, from tracks to a trained classifier."""

from __future__ import annotations

import contextlib
import copy
import hashlib
import importlib.metadata
import json
import os
import statistics
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from musgenre.backbones.base import BACKBONES
from musgenre.core.config import AudioSpec, Component, ModelConfig, to_dict
from musgenre.core.errors import DatasetError, MusgenreError, ParameterError, TrainingError, WeightsError
from musgenre.datasets.base import TrackDataset
from musgenre.datasets.embeddings import TrackVectors
from musgenre.datasets.splits import check_split
from musgenre.datasets.windows import GridWindows, RandomWindows
from musgenre.features.base import FEATURES
from musgenre.features.spectral import mel_of
from musgenre.models.classifier import GenreClassifier
from musgenre.models.network import GenreNetwork
from musgenre.training import recipes
from musgenre.training.checkpoint import RunDirectory
from musgenre.training.config import FinetuneConfig, FinetuneOptions, Stage, apply_options, training_record
from musgenre.training.distributed import rank
from musgenre.training.recipes import Recipe
from musgenre.training.trainer import StageTrainer, quiet, seeded

if TYPE_CHECKING:
    from typing_extensions import Unpack


@dataclass(frozen=True)
class FinetuneResult:
    """Result of :func:`finetune`.

    Attributes:
        classifier: The classifier with the best weights.
        history: One dict for each epoch: ``stage``, ``epoch`` (from 1, within the stage), ``train_loss`` and, with a
            validation set, ``valid_loss`` (over windows) and ``valid_accuracy`` (over tracks).
        plan: The planned stages.
        waiting: Fraction of this call's training time, from 0 to 1, that was spent waiting for data. Where it is large,
            use more decoding processes (``workers``). It is not part of the history, because that is the same for every
            run with the same arguments.
    """

    classifier: GenreClassifier
    history: list[dict[str, Any]]
    plan: list[Stage]
    waiting: float = 0.0

    def plot(self, path: str | os.PathLike[str]) -> None:
        """Save the learning curves as a PNG image; :func:`musgenre.plotting.plot_history` draws them.

        Raises:
            ParameterError: The file cannot be written, or the history is empty.
        """
        from musgenre.plotting.curves import plot_history
        from musgenre.plotting.figures import save_figure

        figure: Any = plot_history(self.history).figure
        save_figure(figure, path)


class FinetuneInterrupted(KeyboardInterrupt):
    """Ctrl-C during :func:`finetune`.

    Attributes:
        result: The best result so far, or ``None`` before the end of the first epoch.
    """

    def __init__(self, message: str, result: FinetuneResult | None) -> None:
        super().__init__(message)
        self.result = result


def finetune(
    train: TrackDataset,
    *,
    valid: TrackDataset | None = None,
    start: str | os.PathLike[str] | GenreClassifier | None = None,
    backbone: str | Component | None = None,
    feature: str | Component | None = None,
    preset: str | None = None,
    config: FinetuneConfig | None = None,
    **options: Unpack[FinetuneOptions],
) -> FinetuneResult:
    """Train a genre classifier on a backbone.

    The head is trained on the frozen backbone first; then the backbone's stages are trained as well, at lower learning
    rates. With a validation set, each stage uses early stopping, and the weights with the lowest validation loss of all
    stages are returned; without one, the last weights are.

    With ``directory``, the state of the run is saved after each epoch. A run that was interrupted, by Ctrl-C, by a
    power failure or otherwise, is resumed by the same call with ``resume=True``, and ends with the same weights as an
    uninterrupted run. At the end the directory is a model for
    :meth:`~musgenre.models.classifier.GenreClassifier.from_pretrained`.

    Args:
        train: Training tracks. With :class:`~musgenre.datasets.embeddings.TrackVectors`, only a head is trained. Tracks
            with stored spectrograms need a log-mel feature with the same settings.
        valid: Validation tracks for early stopping. No track and no group (artist) may be in both sets.
        start: A model whose feature and backbone are trained further, with a new head: ``"default"`` for the default
            model, or the name, directory or Hub id of another one, or a classifier, which is not changed. Its sample
            rate and windows are used. It suits small datasets: the default configuration is that of
            ``preset="recommended"``, which trains a linear head only; ``freeze="none"`` trains the backbone as well.
            If the model was trained on tracks of ``valid`` or of a test set, their accuracy is too high.
        backbone: Name of a backbone, or a :class:`~musgenre.core.config.Component` with options, such as
            ``Component("vgg16", {"weights": "vgg16.pth"})``; by default that of the preset, or ``"vgg16"``.
        feature: Name or component of the feature; by default that of the preset, or the backbone's default.
        preset: Name of a preset (:func:`~musgenre.training.recipes.preset`), an alternative to ``config``.
        config: Training configuration; by default that of the preset, or
            :class:`~musgenre.training.config.FinetuneConfig` with its default values.
        **options: Fields of :class:`~musgenre.training.config.FinetuneConfig`, which override those of ``config`` or
            the preset; and fields of :class:`~musgenre.training.config.RunOptions`.

    Raises:
        DatasetError: A label has fewer than two training tracks, the labels of ``train`` and ``valid`` differ, a track
            or group is in both, or embeddings cannot be cached (a full disk).
        UnknownNameError, PluginError, ConfigError: The feature or backbone is not available or they do not fit; or
            ``directory`` is of another run.
        WeightsError: The backbone's pretrained weights are not available, or the model cannot be written.
        ParameterError: An option is unknown or out of range, options contradict each other, or ``directory`` holds
            other files.
        MusgenreError: The loss became NaN or infinite; a :class:`~musgenre.core.errors.TrainingError` after the end of
            the first epoch.
        FinetuneInterrupted: Ctrl-C.
    """
    base = _starting_model(train, start)
    if base is None:
        recipe = _recipe(backbone, feature, preset=preset, config=config)
    elif backbone is not None or feature is not None or preset is not None:
        raise ParameterError("A starting model or embeddings determine these: remove backbone, feature and preset.")
    else:
        default = FinetuneConfig() if start is None else recipes.RECOMMENDED.config
        recipe = Recipe(base.config.backbone, base.config.feature, config or replace(default, audio=AudioSpec()))
    config, run = apply_options(recipe.config, options)
    if base is not None:  # the default audio counts as not given
        if config.audio not in (AudioSpec(), base.config.audio):
            raise ParameterError(f"The starting model has {base.config.audio}, not {config.audio}: remove audio.")
        config = replace(config, audio=base.config.audio)
    if isinstance(train, TrackVectors):
        config = replace(config, freeze="all")
    config.augmentation.check(train)
    leak = _check_tracks(train, valid, allow_leakage=config.allow_leakage)
    model = _model_config(train, valid, recipe=recipe, config=config, start=None if start is None else base, leak=leak)
    with seeded(config.seed), quiet(), _run_directory(run.path, resume=run.resume) as directory:
        network = _network(model, base)
        mel, per_track = mel_of(network.feature), config.windows_per_track
        train_windows = RandomWindows(train, audio=model.audio, mel=mel, windows_per_track=per_track, seed=config.seed)
        valid_windows = None if valid is None else GridWindows(valid, audio=model.audio, mel=mel)
        plan = config.plan(network.backbone)
        model = replace(model, training=training_record(config, plan))
        directory.claim(_identity(model, train, valid=valid, base=base))
        trainer = StageTrainer(network, plan, config=config, options=run, directory=directory)
        if run.progress and rank() == 0:
            _print_summary(train, valid, trainer=trainer)
        with _save_on_error(trainer, model, path=run.path):
            trainer.fit(train_windows, valid_windows)
    return _save(trainer, model, path=run.path)


def _recipe(
    backbone: str | Component | None,
    feature: str | Component | None,
    *,
    preset: str | None,
    config: FinetuneConfig | None,
) -> Recipe:
    if preset is not None and config is not None:
        raise ParameterError(f"preset={preset!r} replaces config: pass one of them, and change single fields by name.")
    recipe = Recipe(config=config or FinetuneConfig()) if preset is None else recipes.preset(preset)
    return replace(recipe, backbone=backbone or recipe.backbone, feature=feature or recipe.feature)


def _starting_model(
    train: TrackDataset, start: str | os.PathLike[str] | GenreClassifier | None
) -> GenreClassifier | None:
    """Return the classifier whose feature and backbone are used, if there is one."""
    if isinstance(train, TrackVectors):
        if start is not None:
            raise ParameterError("These embeddings were computed by a model, which is the start: remove start.")
        classifier: GenreClassifier = train.classifier
        return classifier
    if start is None or isinstance(start, GenreClassifier):
        return start
    return GenreClassifier.from_pretrained(None if start == "default" else start, device="cpu")


def _check_tracks(train: TrackDataset, valid: TrackDataset | None, *, allow_leakage: bool) -> str | None:
    """Check both sets; return a description of the leakage between them, if there is any and it is allowed."""
    few = [f"{label} ({count})" for label, count in train.counts().items() if count < 2]
    if few:
        raise DatasetError(
            f"{train.name} has too few training tracks of {', '.join(few)}: from one track a network learns the "
            "recording and not the genre. Add tracks, or remove the genre."
        )
    if valid is None:
        return None
    if train.labels != valid.labels:
        raise DatasetError(
            f"The labels differ: {', '.join(train.labels)} for training; {', '.join(valid.labels)} for validation. Use "
            "the same labels, in the same order."
        )
    return check_split(train, valid, allow_leakage=allow_leakage)


def _model_config(
    train: TrackDataset,
    valid: TrackDataset | None,
    *,
    recipe: Recipe,
    config: FinetuneConfig,
    start: GenreClassifier | None,
    leak: str | None,
) -> ModelConfig:
    backbone = Component.of(recipe.backbone)
    entry = BACKBONES.entry(backbone.name)
    split = "" if start is None else f"started from {start.config.name}; "
    split += f"trained on {_description(train)}"
    if valid:
        split += f"; early stopping on {_description(valid)}"
    if leak is not None:
        split += f" (leaky: {leak})"
    return ModelConfig(
        name=config.name or f"{backbone.name}-{train.name}",
        labels=train.labels,
        audio=config.audio,
        feature=_default_feature(entry.default_feature, train)
        if recipe.feature is None
        else Component.of(recipe.feature),
        backbone=backbone,
        hidden=entry.default_hidden if config.hidden is None else config.hidden,
        dropout=config.dropout,
        split=split,
        library_version=importlib.metadata.version("musgenre"),
    )


def _default_feature(default: str | Component, train: TrackDataset) -> Component:
    """Return a backbone's default feature, with the settings of the stored spectrograms if there are any."""
    feature = Component.of(default)
    stored = [track.spectrogram for track in train if track.spectrogram is not None]
    if not stored:
        return feature
    settings = {
        "hop_length": round(statistics.median(one.spacing for one in stored)),
        "n_fft": stored[0].settings.n_fft,
        "n_mels": stored[0].settings.n_mels,
    }
    accepted = {name: value for name, value in settings.items() if FEATURES.accepts(feature.name, name)}
    return Component(feature.name, {**feature.options, **accepted})


def _description(data: TrackDataset) -> str:
    split = f" ({data.split})" if data.split else ""
    return f"{len(data)} tracks of {data.name}{split}"


@contextlib.contextmanager
def _run_directory(path: Path | None, *, resume: bool) -> Iterator[RunDirectory]:
    """Yield the directory of the run, or a temporary one."""
    if path is None:
        with tempfile.TemporaryDirectory(prefix="musgenre-") as temporary:
            yield RunDirectory(Path(temporary), resumable=False)
        return
    directory = RunDirectory(path)
    directory.check(resume=resume)
    yield directory


def _network(model: ModelConfig, base: GenreClassifier | None) -> GenreNetwork:
    """Build the network, with copies of the feature and backbone of the starting model, if there is one."""
    if base is None:
        try:
            return GenreNetwork.from_config(model, pretrained=True)
        except WeightsError as error:
            raise WeightsError(f"{error} The model in the package needs no download: start='default'.") from error
    network = GenreNetwork.from_config(model)
    network.feature = copy.deepcopy(base.network.feature).cpu()
    network.backbone = copy.deepcopy(base.network.backbone).cpu()
    network.backbone.pretrained = True
    return network


def _identity(
    model: ModelConfig, train: TrackDataset, *, valid: TrackDataset | None, base: GenreClassifier | None
) -> dict[str, Any]:
    """Return all that the weights depend on, to check that a resumed run is the same."""
    tracks = [
        [(track.id, track.label, track.group, track.duration_seconds) for track in dataset]
        for dataset in (train, valid or ())
    ]
    settings = to_dict(model)
    return {
        "musgenre": settings.pop("library_version"),
        "config": settings.pop("training"),
        "tracks": hashlib.sha256(json.dumps(tracks).encode()).hexdigest(),
        "model": json.loads(json.dumps(settings, default=str)),
        "start": None if base is None else _weights_digest(base.network),
    }


def _weights_digest(network: GenreNetwork) -> str:
    # Without the code of its classes, which is not always known in the process that resumes the run.
    digest = hashlib.sha256()
    for name, tensor in network.state_dict().items():
        digest.update(name.encode() + tensor.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _print_summary(train: TrackDataset, valid: TrackDataset | None, *, trainer: StageTrainer) -> None:
    from rich.console import Console

    from musgenre.training.summary import summary

    tables = summary(train, valid, network=trainer.network, plan=trainer.plan, config=trainer.config)
    Console(stderr=True).print(tables)


def _save(trainer: StageTrainer, model: ModelConfig, *, path: Path | None) -> FinetuneResult:
    """Return the best weights as a classifier, and save it in the run's directory."""
    trainer.network.requires_grad_(True)
    classifier = GenreClassifier(trainer.network, replace(model, scores=trainer.progress["best"]))
    if path is not None and rank() == 0:
        classifier.save_pretrained(path)
    return FinetuneResult(
        classifier, history=trainer.progress["history"], plan=trainer.plan, waiting=trainer.data_timer.share
    )


@contextlib.contextmanager
def _save_on_error(trainer: StageTrainer, model: ModelConfig, *, path: Path | None) -> Iterator[None]:
    """Save the best weights so far when training is interrupted or fails, and add the result to the error."""
    try:
        yield
    except KeyboardInterrupt as error:
        hint = (
            "Pass directory=... to finetune(), so that an interrupted run can be resumed."
            if path is None
            else f"Resume by the same call with resume=True (directory '{path}')."
        )
        result = _save(trainer, model, path=path) if trainer.progress["history"] else None
        raise FinetuneInterrupted(f"Stopped{_progress(result, path)}. {hint}", result) from error
    except MusgenreError as error:
        if not trainer.progress["history"]:
            raise
        result = _save(trainer, model, path=path)
        raise TrainingError(f"{error} Training stopped{_progress(result, path)}.", result) from error


def _progress(result: FinetuneResult | None, path: Path | None) -> str:
    if result is None:
        return " before the end of the first epoch"
    last = result.history[-1]
    location = "the error's result" if path is None else f"'{path}'"
    return f" after epoch {last['epoch']} of stage {last['stage']!r}; the best model so far is in {location}"
