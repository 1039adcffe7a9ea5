"""Plain data that describe a training run: augmentation, stages, training configuration and run options."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypedDict

from torch import nn

from musgenre.backbones.base import Backbone
from musgenre.core.config import AudioSpec, to_dict
from musgenre.core.errors import ParameterError
from musgenre.core.registry import did_you_mean
from musgenre.datasets.base import TrackDataset
from musgenre.transforms.augment import FrequencyMask, RandomCrop, RandomEqualiser, RandomGain, RandomSpeed, TimeMask

if TYPE_CHECKING:
    from lightning.pytorch import Callback, Trainer
    from lightning.pytorch.loggers import Logger
    from lightning.pytorch.strategies import Strategy

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
_SET_ON_THE_TRAINER = ("accelerator", "devices", "num_nodes", "strategy", "callbacks", "loggers")


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """Random augmentation of training windows; each kind is off by default.

    Attributes:
        gain_db: Largest random gain, in decibels, up or down.
        speed: Largest random change of speed, as a fraction in [0, 1); the pitch changes with it.
        crop: Length of a random crop, in frames, for backbones that accept inputs of any size. Shorter inputs train
            faster and vary more. 0 uses complete windows.
        equaliser: Standard deviation of a smooth random curve that is added along the bins, in the feature's units; one
            unit of ``logmel`` is 40 dB.
        time_mask: Largest width of a SpecAugment time mask, in frames.
        frequency_mask: Largest width of a SpecAugment frequency mask, in bins.
        masks: Number of masks of each kind.
        mixup: Alpha of the Beta distribution from which the weight of the second window is drawn (Zhang et
            al., "mixup: Beyond Empirical Risk Minimization", 2018, arXiv:1710.09412).

    Raises:
        ParameterError: A value is negative, or ``speed`` is 1 or more.
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

    def check(self, dataset: TrackDataset) -> None:
        """Check that a dataset has what the augmentation is applied to.

        Raises:
            ParameterError: Samples would be augmented, but tracks have stored spectrograms in place of audio.
        """
        if dataset.has_spectrograms and len(self.on_waveform()):
            raise ParameterError(
                f"{dataset!r} has stored spectrograms, and gain_db and speed augment audio: set both to 0. Equaliser, "
                "masks, crop and mixup can be used."
            )

    def on_waveform(self) -> nn.Sequential:
        """Return the augmentation of samples ``(batch, samples)``."""
        steps: list[nn.Module] = []
        if self.gain_db:
            steps.append(RandomGain(min_db=-self.gain_db, max_db=self.gain_db))
        if self.speed:
            steps.append(RandomSpeed(min_factor=1 - self.speed, max_factor=1 + self.speed))
        return nn.Sequential(*steps)

    def on_feature(self) -> nn.Sequential:
        """Return the augmentation of features ``(batch, channels, bins, frames)``."""
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
    """One stage of fine-tuning: which parts are trained, for how many epochs, and at which learning rates.

    Learning rates are the peak values of the schedule. Parts without a learning rate are frozen: their weights and
    batch normalisation statistics do not change, and their dropout is off.

    Attributes:
        name: Name in the progress bar and in the history.
        epochs: Maximum number of epochs.
        learning_rate: Learning rate of the head, which is always trained.
        backbone_rates: Learning rates of the backbone's last stages, from input to output; earlier stages are frozen.
        rest_rate: Learning rate of the feature and of parameters outside of the backbone's stages; ``None`` freezes
            them.
        optimizer: ``"adamw"`` or ``"adam"``.
        weight_decay: Weight decay of the optimiser.
        schedule: Schedule after the warm-up: ``"constant"``, or ``"cosine"`` for half a cosine down to 0.
        warmup: Fraction of the steps with linear warm-up, in [0, 1).
        label_smoothing: Label smoothing of the loss, in [0, 1).
    """

    name: str
    epochs: int
    learning_rate: float
    backbone_rates: tuple[float, ...] = ()
    rest_rate: float | None = None
    optimizer: Literal["adamw", "adam"] = "adamw"
    weight_decay: float = 0.01
    schedule: Literal["constant", "cosine"] = "cosine"
    warmup: float = 0.1
    label_smoothing: float = 0.0

    @property
    def frozen(self) -> bool:
        """Whether only the head is trained, so that embeddings do not change between epochs."""
        return not self.backbone_rates and self.rest_rate is None

    @property
    def unfrozen(self) -> int:
        """Number of the backbone's stages that are trained, counted from the output."""
        return len(self.backbone_rates)

    def rate_factor(self, step: int, *, steps: int) -> float:
        """Return the factor by which the schedule multiplies all learning rates at one step.

        Args:
            step: Index of the step, from 0.
            steps: Total number of steps of the stage, at least 1.

        Example:
            >>> stage = Stage("head", 1, 1e-3, warmup=0.25)
            >>> [round(stage.rate_factor(step, steps=8), 2) for step in range(8)]
            [0.33, 0.67, 1.0, 0.93, 0.75, 0.5, 0.25, 0.07]
        """
        rising = min(round(self.warmup * steps), steps - 1)
        if step < rising:
            return (step + 1) / (rising + 1)
        if self.schedule == "constant":
            return 1.0
        return (1 + math.cos(math.pi * min((step - rising) / (steps - rising), 1.0))) / 2


@dataclass(frozen=True, kw_only=True)
class FinetuneConfig:
    """Training configuration of :func:`~musgenre.finetune`.

    The head is trained first, on a frozen backbone. Then the backbone's stages are trained as well, from the output
    end: all at once or a few at a time, with lower learning rates for stages further from the output. A backbone
    without pretrained weights is trained together with the head in one stage of ``head_epochs + epochs`` epochs at
    ``head_learning_rate``, unless ``freeze`` is set.

    Attributes:
        audio: Sample rate and windows of the model.
        hidden: Widths of the dense layers before the output; ``None`` uses the backbone's default.
        dropout: Dropout before each dense layer, in [0, 1).
        head_epochs: Epochs of the first stage, in which the backbone is frozen; 0 skips it.
        head_learning_rate: Learning rate of the first stage.
        epochs: Epochs in which the backbone is trained as well; 0 skips them. Gradual unfreezing divides them evenly
            among its stages; the last one takes the remainder.
        learning_rate: Learning rate of the head in these epochs.
        freeze: Number of the backbone's stages, counted from the input, that are never trained; or ``"none"`` (as 0) or
            ``"all"``.
        gradual: Number of stages that are unfrozen at a time, from the output end; 0 unfreezes all at once.
        rate_decay: Each stage of the backbone is trained at this fraction of the learning rate of the next part towards
            the output, in (0, 1] (discriminative learning rates: Howard and Ruder, "Universal Language Model
            Fine-tuning for Text Classification", 2018, arXiv:1801.06146, which uses 1 / 2.6).
        optimizer: ``"adamw"`` or ``"adam"``.
        weight_decay: Weight decay of the optimiser.
        schedule: Schedule after the warm-up of each stage: ``"constant"``, or ``"cosine"`` down to 0.
        warmup: Fraction of each stage's steps with linear warm-up, in [0, 1).
        label_smoothing: Label smoothing of the loss, in [0, 1).
        augmentation: Augmentation of training windows.
        views: Number of augmented views of each training window that are cached for stages in which the backbone is
            frozen; epochs use them in turn.
        batch_size: Windows in a batch.
        windows_per_track: Random windows of each track in an epoch.
        balanced: Whether to sample genres equally often, regardless of their numbers of tracks.
        class_weights: Whether to weight the loss of each genre by the inverse of its number of tracks; an alternative
            to ``balanced``.
        patience: Early stopping: a stage ends after this many epochs without a lower validation loss.
        cache: Directory in which the embeddings of frozen stages are cached between epochs and runs; ``None`` uses the
            user's cache directory.
        precision: Lightning's precision: ``"32-true"``, or ``"bf16-mixed"`` for speed where the processor supports
            bfloat16; ``None`` uses the latter on GPUs that support it.
        allow_leakage: Whether to train on a split that leaks; the model's ``split`` then mentions the leakage.
        seed: Random seed; with it, a run is reproducible on the same machine with the same versions.
        name: Name of the model; by default made from the names of backbone and dataset.

    Raises:
        ParameterError: A value is out of range, or two values contradict each other.
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
        for expected, (is_valid, names) in _RANGES.items():
            for name in names:
                if not is_valid(getattr(self, name)):
                    raise ParameterError(f"{name} must be {expected}, not {getattr(self, name)!r}.")
        is_count = isinstance(self.freeze, int) and not isinstance(self.freeze, bool) and self.freeze >= 0
        if not is_count and self.freeze not in ("all", "none"):
            raise ParameterError(f"freeze must be 'all', 'none' or a number of stages, not {self.freeze!r}.")
        for name, allowed in _CHOICES.items():
            if getattr(self, name) not in allowed:
                raise ParameterError(f"{name} must be one of {allowed}, not {getattr(self, name)!r}.")
        if self.balanced and self.class_weights:
            raise ParameterError("balanced and class_weights both correct for uneven genres: choose one.")
        if self.head_epochs + self.epochs == 0:
            raise ParameterError("head_epochs and epochs are both 0: set at least one of them.")

    def plan(self, backbone: Backbone) -> list[Stage]:
        """Return the stages of :func:`~musgenre.finetune` for a backbone.

        Raises:
            ParameterError: ``freeze`` exceeds the number of the backbone's stages, no stage remains, or there are fewer
                epochs than stages of gradual unfreezing.

        Example:
            >>> from musgenre.backbones.vgg import VGG16Slim
            >>> for stage in FinetuneConfig(freeze=4, gradual=1).plan(VGG16Slim(in_channels=1)):
            ...     print(stage.name, stage.epochs, [f"{rate:.1e}" for rate in stage.backbone_rates])
            head 10 []
            backbone-1 5 ['4.0e-05']
            backbone-2 5 ['1.6e-05', '4.0e-05']
        """
        total = len(backbone.stages())
        trains_all = self.freeze in ("none", 0)
        if trains_all and not backbone.pretrained:
            epochs = self.head_epochs + self.epochs
            return [self._stage("everything", epochs, unfrozen=total, trains_rest=True, from_scratch=True)]
        frozen = 0 if trains_all else total if self.freeze == "all" else int(self.freeze)
        if frozen > total:
            raise ParameterError(f"The backbone has {total} stages: freeze 0 to {total} of them, not {frozen}.")
        stages = [self._stage("head", self.head_epochs, unfrozen=0)] if self.head_epochs else []
        if self.epochs and (trains_all or frozen < total):
            unfrozen = total - frozen
            counts = [*range(self.gradual, unfrozen, self.gradual), unfrozen] if self.gradual else [unfrozen]
            share, remainder = divmod(self.epochs, len(counts))
            if share == 0:
                raise ParameterError(
                    f"{self.epochs} epochs cannot be divided among {len(counts)} stages of gradual unfreezing: use at "
                    "least as many epochs, or a larger number for gradual."
                )
            for number, count in enumerate(counts, start=1):
                is_last = number == len(counts)
                name = "backbone" if len(counts) == 1 else f"backbone-{number}"
                epochs = share + remainder * is_last
                stages.append(self._stage(name, epochs, unfrozen=count, trains_rest=trains_all and is_last))
        if not stages:
            raise ParameterError(f"With freeze={self.freeze!r} only the head is trained, and head_epochs is 0.")
        return stages

    def _stage(
        self, name: str, epochs: int, *, unfrozen: int, trains_rest: bool = False, from_scratch: bool = False
    ) -> Stage:
        only_head = not (unfrozen or trains_rest)
        rate = self.head_learning_rate if from_scratch or only_head else self.learning_rate
        decay = 1.0 if from_scratch else self.rate_decay
        rates = tuple(rate * decay**distance for distance in range(unfrozen, 0, -1))
        return Stage(
            name,
            epochs=epochs,
            learning_rate=rate,
            backbone_rates=rates,
            rest_rate=rate * decay ** max(unfrozen, 1) if trains_rest else None,
            optimizer=self.optimizer,
            weight_decay=self.weight_decay,
            schedule=self.schedule,
            warmup=self.warmup,
            label_smoothing=self.label_smoothing,
        )


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """Where and how :func:`~musgenre.finetune` runs; none of these options is meant to change the trained weights.

    Attributes:
        directory: Directory of the run's state, its history and, at the end, the model. It must be new or empty, or
            hold the run to resume. ``None`` saves nothing.
        resume: Whether to resume the run in ``directory`` after its last finished epoch; where there is none yet, a new
            run is started.
        accelerator: Lightning's accelerator: ``"auto"``, ``"cpu"``, ``"gpu"``, …
        devices: Lightning's devices: their number, their indices, or ``"auto"`` for all. ``batch_size`` is divided
            among them.
        num_nodes: Number of machines; more than one needs a ``directory`` on a disk that all of them share.
        strategy: Lightning's strategy: ``"auto"``, ``"ddp"``, … or a ``Strategy``.
        workers: Number of decoding processes for each device; 0 decodes in the training process, in a thread beside a
            GPU.
        progress: Whether to show a summary before training and a progress bar during it.
        callbacks: Lightning ``Callback`` objects, which are used in every stage.
        loggers: Lightning ``Logger`` objects; ``"tensorboard"`` writes to ``directory``. The step that they log is the
            number of the epoch, from 1, over all stages.
        trainer: A Lightning ``Trainer`` to use in every stage, with its own devices, precision, callbacks and loggers;
            the stages set its number of epochs.

    Raises:
        ParameterError: A value is out of range, or two values contradict each other.
    """

    directory: str | os.PathLike[str] | None = None
    resume: bool = False
    accelerator: str = "auto"
    devices: int | str | Sequence[int] = 1
    num_nodes: int = 1
    strategy: str | Strategy = "auto"
    workers: int = 0
    progress: bool = True
    callbacks: Sequence[Callback] = ()
    loggers: Sequence[Logger | Literal["tensorboard"]] = ()
    trainer: Trainer | None = None

    def __post_init__(self) -> None:
        if self.workers < 0:
            raise ParameterError(f"workers must be at least 0, not {self.workers!r}.")
        if self.num_nodes < 1:
            raise ParameterError(f"num_nodes must be at least 1, not {self.num_nodes!r}.")
        for logger in self.loggers:
            if isinstance(logger, str) and logger != "tensorboard":
                raise ParameterError(f"loggers must be Lightning loggers or 'tensorboard', not {logger!r}.")
        if self.trainer is not None:
            defaults = {field.name: field.default for field in dataclasses.fields(self)}
            if given := [name for name in _SET_ON_THE_TRAINER if getattr(self, name) not in (defaults[name], [])]:
                raise ParameterError(f"Pass {', '.join(given)} to your trainer instead of finetune().")
        if self.directory is None:
            needs_directory = {
                "resume=True": self.resume,
                "num_nodes above 1": self.num_nodes > 1,
                "the logger 'tensorboard'": "tensorboard" in self.loggers,
            }
            if given := [name for name, is_used in needs_directory.items() if is_used]:
                raise ParameterError(f"{' and '.join(given)} needs a directory: pass directory=...")

    @property
    def path(self) -> Path | None:
        """The directory as a path, or ``None``."""
        return None if self.directory is None else Path(self.directory).expanduser()


class FinetuneOptions(TypedDict, total=False):
    """Optional keywords of :func:`~musgenre.finetune`: fields of :class:`FinetuneConfig` and :class:`RunOptions`."""

    audio: AudioSpec
    hidden: tuple[int, ...] | None
    dropout: float
    head_epochs: int
    head_learning_rate: float
    epochs: int
    learning_rate: float
    freeze: int | Literal["all", "none"]
    gradual: int
    rate_decay: float
    optimizer: Literal["adamw", "adam"]
    weight_decay: float
    schedule: Literal["constant", "cosine"]
    warmup: float
    label_smoothing: float
    augmentation: Augmentation
    views: int
    batch_size: int
    windows_per_track: int
    balanced: bool
    class_weights: bool
    patience: int
    cache: Path | None
    precision: Literal["32-true", "bf16-mixed"] | None
    allow_leakage: bool
    seed: int
    name: str | None
    directory: str | os.PathLike[str] | None
    resume: bool
    accelerator: str
    devices: int | str | Sequence[int]
    num_nodes: int
    strategy: str | Strategy
    workers: int
    progress: bool
    callbacks: Sequence[Callback]
    loggers: Sequence[Logger | Literal["tensorboard"]]
    trainer: Trainer | None


def apply_options(config: FinetuneConfig, options: Mapping[str, Any]) -> tuple[FinetuneConfig, RunOptions]:
    """Return a training configuration with the fields among some options replaced, and the run options among them.

    Args:
        config: The training configuration.
        options: Fields of :class:`FinetuneConfig` and of :class:`RunOptions` by name.

    Raises:
        ParameterError: A name is unknown, or a value is out of range.

    Example:
        >>> config, run = apply_options(FinetuneConfig(), {"seed": 1, "devices": 2})
        >>> config.seed, run.devices
        (1, 2)
        >>> apply_options(FinetuneConfig(), {"epoch": 1})
        Traceback (most recent call last):
        ...
        musgenre.core.errors.ParameterError: Unexpected option 'epoch'. Did you mean 'epochs' or 'head_epochs'?
    """
    if unknown := [name for name in options if name not in FinetuneOptions.__annotations__]:
        hint = did_you_mean(unknown[0], FinetuneOptions.__annotations__)
        raise ParameterError(f"Unexpected option {unknown[0]!r}.{hint}")
    config_names = {field.name for field in dataclasses.fields(FinetuneConfig)}
    changes = {name: value for name, value in options.items() if name in config_names}
    run = RunOptions(**{name: value for name, value in options.items() if name not in config_names})
    return dataclasses.replace(config, **changes), run


def training_record(config: FinetuneConfig, plan: list[Stage]) -> dict[str, Any]:
    """Return ``config`` and ``stages`` as JSON types, for a model's configuration file.

    Settings that do not affect the model are omitted.

    Example:
        >>> config = FinetuneConfig(head_epochs=1)
        >>> training_record(config, [Stage("head", 1, 1e-3)])["stages"][0]["learning_rate"]
        0.001
    """
    settings = {key: value for key, value in to_dict(config).items() if key not in ("cache", "name")}
    return {"config": settings, "stages": [to_dict(stage) for stage in plan]}
