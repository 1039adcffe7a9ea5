"""Fine-tuning from the first line to a classifier; orchestrates what the other modules do."""

from __future__ import annotations

import contextlib
import copy
import hashlib
import importlib.metadata
import json
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from musgenre.backbones.base import BACKBONES
from musgenre.core.config import Component, ModelConfig, to_dict
from musgenre.core.errors import DatasetError, MusgenreError, ParameterError, TrainingError
from musgenre.datasets.base import TrackDataset
from musgenre.datasets.embeddings import TrackVectors
from musgenre.datasets.splits import check_split
from musgenre.datasets.windows import GridWindows, RandomWindows
from musgenre.models.classifier import GenreClassifier
from musgenre.models.network import GenreNetwork
from musgenre.training.config import FinetuneConfig, training_record
from musgenre.training.distributed import rank
from musgenre.training.loop import Run, quiet, seeded
from musgenre.training.options import sort_options
from musgenre.training.run_directory import RunDirectory
from musgenre.training.stages import Stage


@dataclass(frozen=True)
class FinetuneResult:
    """What :func:`finetune` returns.

    Attributes:
        classifier: The classifier with the best weights.
        history: A dict an epoch: ``stage``, ``epoch`` (from 1, within the stage), ``train_loss`` and, with a
            validation set, ``valid_loss`` (over windows) and ``valid_accuracy`` (over tracks).
        plan: The stages, as they were planned.
        waiting: Share of this call's training time, from 0 to 1, in which no batch was there to be learnt from. Where
            it is large, let more processes decode (``workers``). It is no part of the history, which every run of the
            same call repeats to the last digit.
    """

    classifier: GenreClassifier
    history: list[dict[str, Any]]
    plan: list[Stage]
    waiting: float = 0.0

    def plot(self, path: str | os.PathLike[str]) -> None:
        """Writes the learning curves as a PNG picture; :func:`musgenre.plotting.plot_history` draws them.

        Raises:
            ParameterError: No file can be written there, or no epoch has ended.
        """
        from musgenre.plotting.curves import plot_history
        from musgenre.plotting.figures import save_figure

        figure: Any = plot_history(self.history).figure
        save_figure(figure, path)


class FinetuneInterrupted(KeyboardInterrupt):
    """Ctrl-C while :func:`finetune` ran.

    Attributes:
        result: The best so far, or ``None`` before the first epoch has ended.
    """

    def __init__(self, message: str, result: FinetuneResult | None) -> None:
        super().__init__(message)
        self.result = result


def finetune(
    train: TrackDataset,
    *,
    valid: TrackDataset | None = None,
    backbone: str | Component | None = None,
    feature: str | Component | None = None,
    config: FinetuneConfig | None = None,
    **options: Any,
) -> FinetuneResult:
    """Trains a classifier around a backbone.

    The head is trained on the frozen backbone first; then the backbone's stages learn too, at lower rates. With a
    validation set each stage stops early, and the weights with the lowest validation loss of all come back; without
    one, the last weights do.

    With ``directory`` the run keeps its state after each epoch. When it is cut off, by Ctrl-C, by the loss of power or
    otherwise, the same call with ``resume=True`` goes on, and ends with the weights of a run that was never stopped.
    In the end the directory is a model, for :meth:`~musgenre.models.classifier.GenreClassifier.from_pretrained`.

    Args:
        train: The tracks to learn from; of :class:`~musgenre.datasets.embeddings.TrackVectors`, the head alone learns.
        valid: Tracks to stop by. No track and no group (artist) may stand in both.
        backbone: Name of a backbone, or a :class:`~musgenre.core.config.Component` with options, such as
            ``Component("vgg16", {"weights": "vgg16.pth"})``; ``None`` takes the preset's, or ``"vgg16"``.
        feature: Name or component of the feature; ``None`` takes the preset's, or the backbone's default.
        config: How to train.
        **options: Fields of :class:`~musgenre.training.config.FinetuneConfig` by name, which change ``config``; fields
            of :class:`~musgenre.training.options.RunOptions` by name; and ``preset``, the name of a whole recipe, in
            place of ``config``.

    Raises:
        DatasetError: A label has fewer than two tracks, the labels of ``train`` and ``valid`` differ, a track or group
            stands in both, or embeddings cannot be kept (a full disk).
        UnknownNameError, PluginError, ConfigError: Feature or backbone cannot be had or do not fit; or ``directory`` is
            of another run.
        WeightsError: The backbone's initial weights cannot be had, or the model cannot be written.
        ParameterError: An option is unknown or out of range, or ``directory`` holds something else.
        MusgenreError: The loss became NaN or infinite; a :class:`~musgenre.core.errors.TrainingError` once there is
            something to keep.
        FinetuneInterrupted: Ctrl-C.
    """
    named = options.pop("preset", None)
    if named is not None:
        chosen = _preset(named, config)
        backbone, feature, config = backbone or chosen.backbone, feature or chosen.feature, chosen.config
    config, run_options = sort_options(options, config)
    if isinstance(train, TrackVectors):
        given = train.classifier.config
        if backbone is not None or feature is not None:
            raise ParameterError("These embeddings come from a backbone: leave backbone, feature and preset out.")
        backbone, feature = given.backbone, given.feature
        config = replace(config, audio=given.audio, freeze="all")
    leak = _check(train, valid, allow_leakage=config.allow_leakage)
    model = _describe(train, valid, backbone=Component.of(backbone or "vgg16"), feature=feature, config=config)
    if leak is not None:
        model = replace(model, split=f"{model.split} (leaky: {leak})")
    with seeded(config.seed), quiet(), _place(run_options.place, resume=run_options.resume) as directory:
        network = _network(model, train)
        plan = config.plan(network.backbone)
        model = replace(model, training=training_record(config, plan))
        directory.claim(_identity(model, train, valid=valid))
        run = Run(network, plan, config=config, options=run_options, directory=directory)
        if run_options.progress and rank() == 0:
            _announce(train, valid, run=run)
        with _kept(run, model, place=run_options.place):
            learned = RandomWindows(
                train, audio=model.audio, windows_per_track=config.windows_per_track, seed=config.seed
            )
            run.fit(learned, None if valid is None else GridWindows(valid, audio=model.audio))
    return _result(run, model, place=run_options.place)


def _network(model: ModelConfig, train: TrackDataset) -> GenreNetwork:
    """Returns the network that learns; of embeddings, the one that gave them, with a new head."""
    if not isinstance(train, TrackVectors):
        return GenreNetwork.from_config(model, pretrained=True)
    network = GenreNetwork.from_config(model)
    network.feature = copy.deepcopy(train.classifier.network.feature)
    network.backbone = copy.deepcopy(train.classifier.network.backbone)
    return network


def _result(run: Run, model: ModelConfig, *, place: Path | None) -> FinetuneResult:
    run.network.requires_grad_(True)
    classifier = GenreClassifier(run.network, replace(model, scores=run.progress["best"]))
    if place is not None and rank() == 0:
        classifier.save_pretrained(place)
    waiting = run.trainers.waiting.share
    return FinetuneResult(classifier, history=run.progress["history"], plan=run.plan, waiting=waiting)


@contextlib.contextmanager
def _kept(run: Run, model: ModelConfig, *, place: Path | None) -> Iterator[None]:
    """Hands over the best so far when training breaks off, and says how to go on."""
    how = (
        "Give finetune() a directory, so that the next run can go on where it was stopped."
        if place is None
        else f"Go on by the same call with resume=True (directory '{place}')."
    )
    try:
        yield
    except KeyboardInterrupt as error:
        result = _result(run, model, place=place) if run.progress["history"] else None
        raise FinetuneInterrupted(f"Stopped{_told(result, place)}. {how}", result) from error
    except MusgenreError as error:
        if not run.progress["history"]:
            raise
        result = _result(run, model, place=place)
        raise TrainingError(f"{error} Training stopped{_told(result, place)}.", result) from error


def _told(result: FinetuneResult | None, place: Path | None) -> str:
    if result is None:
        return " before the first epoch had ended"
    last = result.history[-1]
    where = "the error's result" if place is None else f"'{place}'"
    return f" after epoch {last['epoch']} of stage {last['stage']!r}; the best model so far is in {where}"


@contextlib.contextmanager
def _place(place: Path | None, *, resume: bool) -> Iterator[RunDirectory]:
    """Gives the directory of the run, which is gone afterwards where none is named."""
    if place is None:
        with tempfile.TemporaryDirectory(prefix="musgenre-") as temporary:
            yield RunDirectory(Path(temporary), resumable=False)
        return
    directory = RunDirectory(place)
    directory.check(resume=resume)
    yield directory


def _preset(name: str, config: FinetuneConfig | None) -> Any:
    from musgenre.training.presets import preset

    if config is not None:
        raise ParameterError(
            f"preset={name!r} is a configuration: leave config out, and change single fields by their names."
        )
    return preset(name)


def _announce(train: TrackDataset, valid: TrackDataset | None, *, run: Run) -> None:
    from rich.console import Console

    from musgenre.training.summary import summary

    table = summary(train, valid, network=run.network, plan=run.plan, config=run.config)
    Console(stderr=True).print(table)


def _check(train: TrackDataset, valid: TrackDataset | None, *, allow_leakage: bool) -> str | None:
    few = [f"{label} ({count})" for label, count in train.counts().items() if count < 2]
    if few:
        raise DatasetError(
            f"{train.name} has too few training tracks of {', '.join(few)}: from one track a network learns the "
            "recording and not the genre. Add tracks, or leave the genre out."
        )
    if valid is None:
        return None
    if train.labels != valid.labels:
        sides = {"training": train.labels, "validation": valid.labels}
        told = "; ".join(f"{', '.join(labels)} for {side}" for side, labels in sides.items())
        raise DatasetError(f"The labels differ: {told}. Give both the same labels, in the same order.")
    return check_split(train, valid, allow_leakage=allow_leakage)


def _describe(
    train: TrackDataset,
    valid: TrackDataset | None,
    *,
    backbone: Component,
    feature: str | Component | None,
    config: FinetuneConfig,
) -> ModelConfig:
    entry = BACKBONES.entry(backbone.name)
    return ModelConfig(
        name=config.name or f"{backbone.name}-{train.name}",
        labels=train.labels,
        audio=config.audio,
        feature=Component.of(feature or entry.default_feature),
        backbone=backbone,
        hidden=entry.default_hidden if config.hidden is None else config.hidden,
        dropout=config.dropout,
        split=f"trained on {_words(train)}; stopped by {_words(valid)}" if valid else f"trained on {_words(train)}",
        library_version=importlib.metadata.version("musgenre"),
    )


def _words(data: TrackDataset) -> str:
    split = f" ({data.split})" if data.split else ""
    return f"{len(data)} tracks of {data.name}{split}"


def _identity(model: ModelConfig, train: TrackDataset, *, valid: TrackDataset | None) -> dict[str, Any]:
    """Returns whatever the weights depend on, for a run that goes on to be the same."""
    sides = [
        [(track.id, track.label, track.group, track.duration_seconds) for track in side]
        for side in (train, valid or ())
    ]
    told = to_dict(model)
    return {
        "musgenre": told.pop("library_version"),
        "config": told.pop("training"),
        "tracks": hashlib.sha256(json.dumps(sides).encode()).hexdigest(),
        "model": json.loads(json.dumps(told, default=str)),
    }
