"""What a run is told, as plain data: how windows are varied, and what learns when."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from torch import nn

from musgenre.backbones.base import Backbone
from musgenre.core.config import AudioSpec, to_dict
from musgenre.core.errors import ParameterError
from musgenre.training.stages import Stage
from musgenre.transforms.augment import FrequencyMask, RandomCrop, RandomEqualiser, RandomGain, RandomSpeed, TimeMask

_RANGES: dict[str, tuple[Callable[[float], bool], tuple[str, ...]]] = {
    "at least 1": (lambda value: value >= 1, ("batch_size", "windows_per_track", "patience", "views")),
    "at least 0": (lambda value: value >= 0, ("head_epochs", "epochs", "gradual", "seed")),
    "finite and at least 0": (
        lambda value: 0 <= value < math.inf,
        ("head_learning_rate", "learning_rate", "weight_decay"),
    ),
    "in [0, 1)": (lambda value: 0 <= value < 1, ("warmup", "label_smoothing", "dropout")),
    "in (0, 1]": (lambda value: 0 < value <= 1, ("rate_decay",)),
}
_CHOICES: dict[str, tuple[str | None, ...]] = {
    "optimizer": ("adamw", "adam"),
    "schedule": ("constant", "cosine"),
    "precision": (None, "32-true", "bf16-mixed"),
}


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """How training windows are varied; each is off at its default.

    Attributes:
        gain_db: Samples are amplified by up to this many decibels either way.
        speed: Songs are played faster or slower by up to this share, in [0, 1); the pitch follows.
        crop: Windows are cut at random to this many frames, which is quick and varied; for a backbone that takes
            pictures of any size. 0 leaves them whole.
        equaliser: Deviation of a smooth random curve that is added along the bins, in the feature's units; one unit
            of ``logmel`` is 40 dB.
        time_mask: Longest run of frames that SpecAugment hides.
        frequency_mask: Widest run of bins that SpecAugment hides.
        masks: How many runs of each kind are hidden.
        mixup: Alpha of the Beta distribution from which the share of a second window is drawn (Zhang et
            al., "mixup: Beyond Empirical Risk Minimization", 2018, arXiv:1710.09412).
    """

    gain_db: float = 0.0
    speed: float = 0.0
    crop: int = 0
    equaliser: float = 0.0
    time_mask: int = 0
    frequency_mask: int = 0
    masks: int = 2
    mixup: float = 0.0

    def __post_init__(self) -> None:
        if min(vars(self).values()) < 0 or self.speed >= 1:
            raise ParameterError(f"An augmentation's values must not be negative, and speed must be below 1: {self}.")

    def on_waveform(self) -> nn.Sequential:
        """Returns what is done to samples ``(batch, samples)``."""
        steps: list[nn.Module] = []
        if self.gain_db:
            steps.append(RandomGain(min_db=-self.gain_db, max_db=self.gain_db))
        if self.speed:
            steps.append(RandomSpeed(min_factor=1 - self.speed, max_factor=1 + self.speed))
        return nn.Sequential(*steps)

    def on_feature(self) -> nn.Sequential:
        """Returns what is done to features ``(batch, channels, bins, frames)``."""
        steps: list[nn.Module] = []
        if self.crop:
            steps.append(RandomCrop(self.crop))
        if self.equaliser:
            steps.append(RandomEqualiser(self.equaliser))
        if self.time_mask:
            steps.append(TimeMask(self.time_mask, count=self.masks))
        if self.frequency_mask:
            steps.append(FrequencyMask(self.frequency_mask, count=self.masks))
        return nn.Sequential(*steps)


@dataclass(frozen=True, kw_only=True)
class FinetuneConfig:
    """What :func:`~musgenre.finetune` learns from the tracks, and how.

    The head learns first, on a backbone that is frozen. Then the backbone's stages learn too, from the output end: all
    at once or a few at a time, those further from the output more slowly. A backbone without pretrained weights has
    nothing to preserve: unless ``freeze`` says otherwise, everything learns in one stage of ``head_epochs + epochs``
    epochs at ``head_learning_rate``.

    Attributes:
        audio: Rate and windows of the model.
        hidden: Widths of the dense layers before the output; ``None`` takes the backbone's default.
        dropout: Share of units dropped before each dense layer, in [0, 1).
        head_epochs: Epochs of the first stage, in which the backbone is frozen; 0 skips it.
        head_learning_rate: Its learning rate.
        epochs: Epochs in which the backbone learns too; 0 skips them. Gradual unfreezing shares them evenly among its
            stages, and the last one takes the remainder.
        learning_rate: The head's learning rate in them.
        freeze: How many of the backbone's stages, counted from the input, never learn; ``"none"`` (or 0) or ``"all"``.
        gradual: How many more stages of the backbone are freed at a time, from the output end; 0 frees at once all
            that are to learn.
        rate_decay: Each stage of the backbone learns at this share of the rate of what follows it, the last at this
            share of ``learning_rate``; in (0, 1] (discriminative rates: Howard and Ruder, "Universal Language Model
            Fine-tuning for Text Classification", 2018, arXiv:1801.06146, which has 1 / 2.6).
        optimizer: ``"adamw"`` or ``"adam"``.
        weight_decay: The optimiser's.
        schedule: What the rates do after the warm-up of each stage: ``"constant"``, or ``"cosine"`` down to 0.
        warmup: Share of each stage's steps in which the rates rise in a straight line, in [0, 1).
        label_smoothing: Share of the truth that is spread over all genres, in [0, 1).
        augmentation: How training windows are varied.
        views: How many variants of each training window are kept for a stage in which the backbone is frozen; its
            epochs take turns at them.
        batch_size: Windows a batch.
        windows_per_track: Random windows of each track in an epoch.
        balanced: Whether every genre is drawn equally often, however many tracks it has.
        class_weights: Whether the loss counts a genre the more, the fewer tracks it has; in place of ``balanced``.
        patience: A stage ends after this many epochs without a lower validation loss.
        cache: Directory in which the embeddings of frozen stages are kept from epoch to epoch and run to run; ``None``
            is the user's cache directory.
        precision: Lightning's: ``"32-true"``, or ``"bf16-mixed"`` for speed where the processor has bfloat16; ``None``
            takes the latter on a GPU that has it.
        allow_leakage: Whether a split that leaks is trained on all the same, and the model's ``split`` says so.
        seed: Makes the run repeatable on the same machine with the same versions.
        name: Name of the model; ``None`` makes one of backbone and dataset.

    Raises:
        ParameterError: A value is out of range, or two contradict each other.
    """

    audio: AudioSpec = field(default_factory=AudioSpec)
    hidden: tuple[int, ...] | None = None
    dropout: float = 0.5
    head_epochs: int = 10
    head_learning_rate: float = 1e-3
    epochs: int = 10
    learning_rate: float = 1e-4
    freeze: int | Literal["all", "none"] = "none"
    gradual: int = 0
    rate_decay: float = 0.4
    optimizer: Literal["adamw", "adam"] = "adamw"
    weight_decay: float = 0.01
    schedule: Literal["constant", "cosine"] = "cosine"
    warmup: float = 0.1
    label_smoothing: float = 0.0
    augmentation: Augmentation = field(default_factory=Augmentation)
    views: int = 1
    batch_size: int = 16
    windows_per_track: int = 1
    balanced: bool = False
    class_weights: bool = False
    patience: int = 5
    cache: Path | None = None
    precision: Literal["32-true", "bf16-mixed"] | None = None
    allow_leakage: bool = False
    seed: int = 0
    name: str | None = None

    def __post_init__(self) -> None:
        for told, (fits, names) in _RANGES.items():
            for name in names:
                if not fits(getattr(self, name)):
                    raise ParameterError(f"{name} must be {told}, not {getattr(self, name)!r}.")
        counted = isinstance(self.freeze, int) and not isinstance(self.freeze, bool) and self.freeze >= 0
        if not counted and self.freeze not in ("all", "none"):
            raise ParameterError(f"freeze must be 'all', 'none' or a number of stages, not {self.freeze!r}.")
        for name, allowed in _CHOICES.items():
            if getattr(self, name) not in allowed:
                raise ParameterError(f"{name} must be one of {allowed}, not {getattr(self, name)!r}.")
        if self.balanced and self.class_weights:
            raise ParameterError("balanced and class_weights make up for uneven genres twice: choose one.")
        if self.head_epochs + self.epochs == 0:
            raise ParameterError("head_epochs and epochs are both 0: there is nothing to do.")

    def plan(self, backbone: Backbone) -> list[Stage]:
        """Returns the stages that :func:`~musgenre.finetune` goes through, as plain data.

        Raises:
            ParameterError: The backbone has fewer stages than are to stay frozen, nothing is left to be done, or the
                epochs are fewer than the stages that share them.

        Example:
            >>> from musgenre.backbones.vgg import VGG16Slim
            >>> for stage in FinetuneConfig(freeze=4, gradual=1).plan(VGG16Slim(in_channels=1)):
            ...     print(stage.name, stage.epochs, [f"{rate:.1e}" for rate in stage.backbone_rates])
            head 10 []
            backbone-1 5 ['4.0e-05']
            backbone-2 5 ['1.6e-05', '4.0e-05']
        """
        total = len(backbone.stages())
        whole = self.freeze in ("none", 0)
        if whole and not backbone.pretrained:
            return [self._stage("everything", self.head_epochs + self.epochs, free=total, whole=True, new=True)]
        kept = 0 if whole else total if self.freeze == "all" else int(self.freeze)
        if kept > total:
            raise ParameterError(f"The backbone has {total} stages: freeze 0 to {total} of them, not {kept}.")
        stages = [self._stage("head", self.head_epochs, free=0)] if self.head_epochs else []
        if self.epochs and (whole or kept < total):
            last = total - kept
            counts = [*range(self.gradual, last, self.gradual), last] if self.gradual else [last]
            share, more = divmod(self.epochs, len(counts))
            if share == 0:
                raise ParameterError(
                    f"{self.epochs} epochs cannot be shared by {len(counts)} stages of gradual unfreezing: give at "
                    "least as many epochs, or a larger number for gradual."
                )
            for number, free in enumerate(counts, start=1):
                ends = number == len(counts)
                name = "backbone" if len(counts) == 1 else f"backbone-{number}"
                stages.append(self._stage(name, share + more * ends, free=free, whole=whole and ends))
        if not stages:
            raise ParameterError(f"freeze={self.freeze!r} leaves the head alone to learn, and head_epochs is 0.")
        return stages

    def _stage(self, name: str, epochs: int, *, free: int, whole: bool = False, new: bool = False) -> Stage:
        rate = self.head_learning_rate if new or not (free or whole) else self.learning_rate
        decay = 1.0 if new else self.rate_decay
        rates = tuple(rate * decay**further for further in range(free, 0, -1))
        return Stage(
            name,
            epochs=epochs,
            learning_rate=rate,
            backbone_rates=rates,
            rest_rate=rate * decay ** max(free, 1) if whole else None,
            optimizer=self.optimizer,
            weight_decay=self.weight_decay,
            schedule=self.schedule,
            warmup=self.warmup,
            label_smoothing=self.label_smoothing,
        )


def training_record(config: FinetuneConfig, plan: list[Stage]) -> dict[str, Any]:
    """Returns how a model was trained, in JSON's types, as the model keeps it: ``config`` and ``stages``.

    What changes nothing of the model is left out.

    Example:
        >>> config = FinetuneConfig(head_epochs=1)
        >>> training_record(config, [Stage("head", 1, 1e-3)])["stages"][0]["learning_rate"]
        0.001
    """
    told = {key: value for key, value in to_dict(config).items() if key not in ("cache", "name")}
    return {"config": told, "stages": [to_dict(stage) for stage in plan]}
