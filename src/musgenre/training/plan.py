"""What a run is told, as plain data: how windows are varied, and what learns when."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from torch import nn

from musgenre.backbones.base import Backbone
from musgenre.errors import ParameterError
from musgenre.specs import AudioSpec
from musgenre.transforms.augment import FrequencyMask, RandomCrop, RandomEqualiser, RandomGain, RandomSpeed, TimeMask

_PRECISIONS = ("32-true", "bf16-mixed")


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


@dataclass(frozen=True)
class Stage:
    """One stage of fine-tuning.

    Attributes:
        name: For people and the history.
        epochs: Passes over the training tracks, at most.
        learning_rate: The highest rate.
        unfrozen: How many of the backbone's stages learn, counted from the output; the head always does.
        optimizer: ``"adamw"`` or ``"adam"``.
        weight_decay: The optimiser's.
        schedule: ``"constant"``, or ``"cosine"`` for a warm-up over a tenth of the steps and a cosine to zero.
        label_smoothing: Share of the truth that is spread over all genres, in [0, 1).
    """

    name: str
    epochs: int
    learning_rate: float
    unfrozen: int
    optimizer: Literal["adamw", "adam"] = "adamw"
    weight_decay: float = 0.01
    schedule: Literal["constant", "cosine"] = "constant"
    label_smoothing: float = 0.0


@dataclass(frozen=True, kw_only=True)
class FinetuneConfig:
    """How :func:`~musgenre.finetune` trains.

    A pretrained backbone is frozen while the head learns; then its last stages learn too. A backbone without
    pretrained weights has nothing to preserve: everything learns in one stage of ``head_epochs + epochs``
    epochs at ``head_learning_rate``.

    Attributes:
        audio: Rate and windows of the model.
        hidden: Widths of the dense layers before the output; ``None`` takes the backbone's default.
        dropout: Share of units dropped before each dense layer, in [0, 1).
        head_epochs: Epochs of the first stage, in which the backbone is frozen; 0 skips it.
        head_learning_rate: Its learning rate.
        epochs: Epochs of the second stage, in which the last stages of the backbone learn too; 0 skips it.
        learning_rate: Its learning rate, as a rule lower.
        unfreeze: How many stages of the backbone learn in the second stage, or ``"all"``.
        optimizer: ``"adamw"`` or ``"adam"``.
        weight_decay: The optimiser's.
        schedule: ``"constant"``, or ``"cosine"`` with a warm-up, within each stage.
        label_smoothing: Share of the truth that is spread over all genres, in [0, 1).
        augmentation: How training windows are varied.
        batch_size: Windows a batch.
        windows_per_track: Random windows of each track in an epoch.
        balanced: Whether every genre is drawn equally often, however many tracks it has.
        patience: A stage ends after this many epochs without a lower validation loss.
        workers: Processes that decode; 0 decodes in the process that trains.
        cache: Directory in which spectrograms are kept from epoch to epoch and run to run. Training then
            sees each track's windows on the fixed grid of prediction instead of random ones, and
            augmentation of samples is refused.
        precision: Lightning's: ``"32-true"``, or ``"bf16-mixed"`` for speed where the processor has bfloat16.
        seed: Makes the run repeatable on the same machine with the same versions.
        progress: Whether a progress bar is shown.
    """

    audio: AudioSpec = field(default_factory=AudioSpec)
    hidden: tuple[int, ...] | None = None
    dropout: float = 0.5
    head_epochs: int = 10
    head_learning_rate: float = 1e-3
    epochs: int = 10
    learning_rate: float = 1e-4
    unfreeze: int | Literal["all"] = 2
    optimizer: Literal["adamw", "adam"] = "adamw"
    weight_decay: float = 0.01
    schedule: Literal["constant", "cosine"] = "constant"
    label_smoothing: float = 0.0
    augmentation: Augmentation = field(default_factory=Augmentation)
    batch_size: int = 16
    windows_per_track: int = 1
    balanced: bool = False
    patience: int = 5
    workers: int = 0
    cache: Path | None = None
    precision: Literal["32-true", "bf16-mixed"] = "32-true"
    seed: int = 0
    progress: bool = True

    def __post_init__(self) -> None:
        for name in ("batch_size", "windows_per_track", "patience"):
            if getattr(self, name) < 1:
                raise ParameterError(f"{name} must be at least 1, not {getattr(self, name)!r}.")
        for name in ("head_epochs", "epochs", "workers", "seed", "weight_decay"):
            if getattr(self, name) < 0:
                raise ParameterError(f"{name} must not be negative, got {getattr(self, name)!r}.")
        if self.head_epochs + self.epochs == 0:
            raise ParameterError("head_epochs and epochs are both 0: there is nothing to do.")
        choices = {"optimizer": ("adamw", "adam"), "schedule": ("constant", "cosine"), "precision": _PRECISIONS}
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise ParameterError(f"{name} must be one of {allowed}, not {getattr(self, name)!r}.")

    def plan(self, backbone: Backbone) -> list[Stage]:
        """Returns the stages that :func:`~musgenre.finetune` goes through, as plain data."""
        everything = len(backbone.stages())
        unfrozen = everything if self.unfreeze == "all" else self.unfreeze
        stages = [
            ("head", self.head_epochs, self.head_learning_rate, 0),
            ("backbone", self.epochs, self.learning_rate, unfrozen),
        ]
        if not backbone.pretrained:
            stages = [("everything", self.head_epochs + self.epochs, self.head_learning_rate, everything)]
        return [
            Stage(
                name,
                epochs=epochs,
                learning_rate=rate,
                unfrozen=count,
                optimizer=self.optimizer,
                weight_decay=self.weight_decay,
                schedule=self.schedule,
                label_smoothing=self.label_smoothing,
            )
            for name, epochs, rate, count in stages
            if epochs
        ]
