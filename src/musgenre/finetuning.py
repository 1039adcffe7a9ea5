"""Fine-tuning from the first line to a classifier; orchestrates what the other modules do."""

from __future__ import annotations

import importlib.metadata
from collections import Counter
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from musgenre.backbones.base import BACKBONES, Backbone
from musgenre.classifier import GenreClassifier
from musgenre.datasets.base import TrackDataset
from musgenre.datasets.splits import check_split
from musgenre.datasets.windows import CachedFeatures, GridWindows, RandomWindows
from musgenre.errors import DatasetError
from musgenre.features.base import FeatureExtractor
from musgenre.network import GenreNetwork
from musgenre.specs import Component, ModelConfig
from musgenre.training.data import GenreData
from musgenre.training.loop import Run, quiet, seeded
from musgenre.training.plan import FinetuneConfig, Stage


@dataclass(frozen=True)
class FinetuneResult:
    """What :func:`finetune` returns.

    Attributes:
        classifier: The classifier with the best weights.
        history: A dict an epoch: ``stage``, ``epoch`` (from 1, within the stage), ``train_loss`` and, with a
            validation set, ``valid_loss`` (over windows) and ``valid_accuracy`` (over tracks).
        plan: The stages that were gone through.
    """

    classifier: GenreClassifier
    history: list[dict[str, Any]]
    plan: list[Stage]


def finetune(
    train: TrackDataset,
    *,
    valid: TrackDataset | None = None,
    backbone: str | Component = "vgg16",
    feature: str | Component | None = None,
    config: FinetuneConfig | None = None,
    name: str | None = None,
) -> FinetuneResult:
    """Trains a classifier around a backbone.

    The head is trained on the frozen backbone first; then the backbone's last stages learn too, at a
    lower rate. With a validation set each stage stops early, and the weights with the lowest validation
    loss of all come back; without one, the last weights do.

    Args:
        train: The tracks to learn from.
        valid: Tracks to stop by. No track and no group (artist) may stand in both.
        backbone: Name of a backbone, or a :class:`~musgenre.specs.Component` with options, such as
            ``Component("vgg16", {"weights": "vgg16.pth"})``.
        feature: Name or component of the feature; ``None`` takes the backbone's default.
        config: How to train.
        name: Name of the model; by default made of backbone and dataset.

    Raises:
        DatasetError: A label has no track, the labels of ``train`` and ``valid`` differ, or a track or group
            stands in both.
        UnknownNameError, PluginError, ConfigError: Feature or backbone cannot be had or do not fit.
        WeightsError: The backbone's initial weights cannot be had.
        ParameterError: A value of ``config`` is out of range.
        MusgenreError: The loss became NaN or infinite.
    """
    config = config or FinetuneConfig()
    _check(train, valid)
    model = _describe(train, valid, backbone=Component.of(backbone), feature=feature, config=config)
    if name is not None:
        model = replace(model, name=name)
    with seeded(config.seed), quiet():
        network = GenreNetwork.from_config(model, pretrained=True)
        plan = config.plan(network.backbone)
        run = Run(network, _data(train, valid, model=model, feature=network.feature, config=config), config=config)
        for stage in plan:
            run.fit(stage)
    network.requires_grad_(True)
    classifier = GenreClassifier(network, replace(model, scores=run.best))
    return FinetuneResult(classifier, history=run.history, plan=plan)


def _check(train: TrackDataset, valid: TrackDataset | None) -> None:
    empty = [label for label, count in train.counts().items() if count == 0]
    if empty:
        raise DatasetError(
            f"{train.name} has no training track of {', '.join(empty)}: a genre cannot be learned from none."
        )
    if valid is not None:
        if train.labels != valid.labels:
            raise DatasetError(f"The labels differ: {train.labels} for training, {valid.labels} for validation.")
        check_split(train, valid)


def _describe(
    train: TrackDataset,
    valid: TrackDataset | None,
    *,
    backbone: Component,
    feature: str | Component | None,
    config: FinetuneConfig,
) -> ModelConfig:
    factory = BACKBONES.get(backbone.name)
    # A function that is registered in place of a class has no defaults of its own.
    default_feature = getattr(factory, "default_feature", Backbone.default_feature)
    default_hidden = getattr(factory, "default_hidden", Backbone.default_hidden)
    return ModelConfig(
        name=f"{backbone.name}-{train.name}",
        labels=train.labels,
        audio=config.audio,
        feature=Component.of(feature or default_feature),
        backbone=backbone,
        hidden=default_hidden if config.hidden is None else config.hidden,
        dropout=config.dropout,
        split=f"trained on {_words(train)}; stopped by {_words(valid)}" if valid else f"trained on {_words(train)}",
        library_version=importlib.metadata.version("musgenre"),
    )


def _words(data: TrackDataset) -> str:
    split = f" ({data.split})" if data.split else ""
    return f"{len(data)} tracks of {data.name}{split}"


def _data(
    train: TrackDataset,
    valid: TrackDataset | None,
    *,
    model: ModelConfig,
    feature: FeatureExtractor,
    config: FinetuneConfig,
) -> GenreData:
    labels = train.label_indices()
    judged = None if valid is None else GridWindows(valid, audio=model.audio)
    if config.cache is None:
        count = config.windows_per_track
        learned = RandomWindows(train, audio=model.audio, windows_per_track=count, seed=config.seed)
        return GenreData(learned, judged, config=config, weights=_balance(labels * count, config))
    grid = GridWindows(train, audio=model.audio)
    drawn = [labels[grid.place(index)[0]] for index in range(len(grid))]
    keep = partial(CachedFeatures, feature=feature, directory=config.cache, component=model.feature)
    kept = None if judged is None else keep(judged)
    return GenreData(keep(grid), kept, config=config, weights=_balance(drawn, config))


def _balance(labels: list[int], config: FinetuneConfig) -> tuple[float, ...] | None:
    counts = Counter(labels)
    return tuple(1 / counts[label] for label in labels) if config.balanced else None
