"""Training of the student by knowledge distillation: pretraining on embeddings, then training of the genres.

Pretraining needs no labels and is shared by all folds: the targets are the teacher's embeddings of free music. The
genres are trained on the tracks of a fold. Their targets are a mixture of the labels and the teacher's predictions (by
a linear layer, fitted on the same tracks), which generalises better to other artists than labels alone.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import lightning.pytorch as pl
import numpy as np
import numpy.typing as npt
import torch
from heads import fit_teacher_layer
from mixtures import Mixtures
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, IterableDataset

from musgenre.core.config import ModelConfig
from musgenre.models.network import GenreNetwork
from musgenre.transforms.augment import FrequencyMask, TimeMask

State = dict[str, Tensor]


@dataclass(frozen=True)
class Settings:
    """Hyperparameters.

    Attributes:
        hearing_steps: Steps of the pretraining.
        hearing_rate: Maximum learning rate of the pretraining (one cycle).
        hearing_warm_up: Fraction of the pretraining steps with increasing learning rate.
        steps: Steps of the training of the genres.
        learning_rate: Maximum learning rate (one cycle).
        warm_up: Fraction of the steps with increasing learning rate.
        batch_size: Clips per step.
        music: Clips of free music per step in the training of the genres, with the teacher's predictions as targets,
            to prevent forgetting.
        music_share: Weight of their loss.
        frames: Frames per training example; 128 frames are 1.5 s. With shorter examples, padding has too much influence
            for windows of 3 s.
        weight_decay: Of matrices; biases and normalisation layers have none.
        teacher_share: Weight of the teacher's predictions in the targets; the rest is the label.
        teacher_temperature: Divisor of the teacher's logits.
        frequency_mask: Maximum width of the frequency mask in bins.
        time_mask: Maximum width of the time mask in frames.
    """

    hearing_steps: int = 20_000
    hearing_rate: float = 1e-3
    hearing_warm_up: float = 0.05
    steps: int = 2_000
    learning_rate: float = 1e-3
    warm_up: float = 0.1
    batch_size: int = 24
    music: int = 8
    music_share: float = 0.5
    frames: int = 128
    weight_decay: float = 0.05
    teacher_share: float = 0.6
    teacher_temperature: float = 0.7
    frequency_mask: int = 12
    time_mask: int = 21


@dataclass(frozen=True)
class TrainingClips:
    """Training clips with targets and sampling weights.

    Attributes:
        mixtures: All clips.
        clips: Indices of the training clips, ``(count,)``.
        genres: Target distributions, ``(count, classes)``; ``None`` for pretraining.
        weights: Sampling probabilities, ``(count,)``.
    """

    mixtures: Mixtures
    clips: npt.NDArray[np.intp]
    genres: npt.NDArray[np.float32] | None
    weights: npt.NDArray[np.float64]

    @classmethod
    def from_music(
        cls, music: Mixtures, *, head: LogisticRegression | None = None, temperature: float = 1.0
    ) -> TrainingClips:
        """Return free music, with the predictions of the teacher's layer as targets if it is given."""
        clips = np.flatnonzero(music.has_usable_targets())
        genres = None
        if head is not None:
            predictions = head.decision_function(music.embeddings[clips].mean(axis=1, dtype=np.float32))
            genres = softmax(predictions / temperature, axis=1).astype(np.float32)
        return cls(music, clips, genres, np.full(len(clips), 1 / len(clips)))

    @classmethod
    def from_tracks(
        cls, mixtures: Mixtures, labels: npt.NDArray[np.intp], *, tracks: frozenset[int], settings: Settings
    ) -> tuple[TrainingClips, LogisticRegression]:
        """Return the clips of the training tracks, with balanced genres, and the teacher's layer.

        Args:
            mixtures: Clips of all tracks.
            labels: Label of every track, ``(tracks,)``.
            tracks: Indices of the training tracks; clips that contain another track are excluded.
            settings: Hyperparameters of the targets.
        """
        allowed = np.array([*(number in tracks for number in range(len(labels))), True])  # the last is -1, not music
        clips = np.flatnonzero(allowed[mixtures.tracks].all(axis=1))
        head = fit_teacher_layer(mixtures, clips, labels=labels, tracks=len(tracks))
        music = mixtures.tracks[clips, 0] >= 0
        genres = np.full((len(clips), labels.max() + 1), 1 / (labels.max() + 1), dtype=np.float32)
        embeddings = mixtures.embeddings[clips[music]].mean(axis=1, dtype=np.float32)
        predictions = softmax(head.decision_function(embeddings) / settings.teacher_temperature, axis=1)
        genres[music] = settings.teacher_share * predictions
        first, second = labels[mixtures.tracks[clips[music]]].T
        rest = 1 - settings.teacher_share
        shares = rest * mixtures.shares[clips[music]]
        np.add.at(genres, (np.flatnonzero(music), first), shares)
        np.add.at(genres, (np.flatnonzero(music), second), rest - shares)
        even = (genres / genres[music].sum(axis=0)).sum(axis=1) * music.sum() / genres.shape[1]
        weights = np.where(music, even, 1.0).astype(np.float64)
        return cls(mixtures, clips, genres, weights / weights.sum()), head


def pretrain(config: ModelConfig, music: Mixtures, *, scores: nn.Linear, settings: Settings) -> State:
    """Train a student to predict the teacher's embeddings; return the initial state for :func:`train`.

    Args:
        config: The model.
        music: Clips of free music.
        scores: The output layer of the teacher.
        settings: Hyperparameters.
    """
    torch.manual_seed(0)
    source = TrainingClips.from_music(music)
    embeddings = music.embeddings[source.clips[::10]].mean(axis=1, dtype=np.float32)
    module = _Distillation(GenreNetwork.from_config(config), scores=scores, settings=settings)
    module.fit_standardisation(torch.from_numpy(embeddings))
    batches = _Batches([(source, settings.batch_size)], frames=settings.frames, seed=0)
    _fit(module, batches, cycle=_Cycle(settings.hearing_steps, settings.hearing_rate, settings.hearing_warm_up))
    return {name: value for name, value in module.state_dict().items() if not name.startswith("network.head.")}


def train(
    config: ModelConfig, sources: list[tuple[TrainingClips, int]], *, pretrained: State, settings: Settings, seed: int
) -> GenreNetwork:
    """Train the genres of a pretrained student.

    Args:
        config: The model.
        sources: The tracks and the free music, each with its number of clips per batch.
        pretrained: The result of :func:`pretrain`.
        settings: Hyperparameters.
        seed: Random seed.

    Returns:
        The network, without the layers for distillation.
    """
    torch.manual_seed(seed)
    network = GenreNetwork.from_config(config)
    classes, units = pretrained["scores.weight"].shape
    module = _Distillation(network, scores=nn.Linear(units, classes), settings=settings)
    module.load_state_dict({**module.state_dict(), **pretrained})
    batches = _Batches(sources, frames=settings.frames, seed=seed)
    _fit(module, batches, cycle=_Cycle(settings.steps, settings.learning_rate, settings.warm_up))
    return network.eval()


class _Cycle(NamedTuple):
    steps: int
    rate: float
    warm_up: float


def _fit(module: _Distillation, batches: _Batches, *, cycle: _Cycle) -> None:
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    module.cycle = cycle
    trainer = pl.Trainer(
        max_steps=cycle.steps,
        precision="bf16-mixed",
        gradient_clip_val=2.0,
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=False,
    )
    trainer.fit(module, DataLoader(batches, batch_size=None))


class _Batches(IterableDataset[dict[str, Tensor]]):
    """Infinite stream of batches with a fixed number of clips from each source."""

    def __init__(self, sources: list[tuple[TrainingClips, int]], *, frames: int, seed: int) -> None:
        self.sources = [(source, count, source.weights.cumsum()) for source, count in sources]
        self.usable = [source.mixtures.has_usable_targets() for source, _ in sources]
        self.frames = frames
        self.seed = seed

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        draws = np.random.default_rng(self.seed)
        last = self.sources[0][0].mixtures.features.shape[2] - self.frames
        while True:
            start = int(draws.integers(last + 1))
            parts = []
            for (source, count, cumulated), usable in zip(self.sources, self.usable, strict=True):
                rows = np.minimum(np.searchsorted(cumulated, draws.random(count)), len(cumulated) - 1)
                clips = source.clips[rows]
                part = {
                    "features": source.mixtures.features[clips, None, :, start : start + self.frames],
                    "embeddings": source.mixtures.embeddings[clips].mean(axis=1, dtype=np.float32),
                    "usable": usable[clips],
                }
                parts.append(part if source.genres is None else {**part, "genres": source.genres[rows]})
            joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
            yield {name: torch.from_numpy(array.astype(np.float32)) for name, array in joined.items()}


class _Distillation(pl.LightningModule):
    """The network with two linear layers that predict the teacher's embedding and AudioSet logits.

    The targets are square roots of the embedding, which reduces the influence of its few large values, and both targets
    are standardised, which keeps the gradients of these layers in range.
    """

    roots_mean: Tensor
    roots_deviation: Tensor
    logits_mean: Tensor
    logits_deviation: Tensor

    def __init__(self, network: GenreNetwork, *, scores: nn.Linear, settings: Settings) -> None:
        super().__init__()
        self.network = network
        self.settings = settings
        self.scores = scores.requires_grad_(False)
        size = network.backbone.out_features
        self.to_embedding = nn.Linear(size, scores.in_features)
        self.to_scores = nn.Linear(size, scores.out_features)
        self.register_buffer("roots_mean", torch.zeros(scores.in_features))
        self.register_buffer("roots_deviation", torch.ones(()))
        self.register_buffer("logits_mean", torch.zeros(scores.out_features))
        self.register_buffer("logits_deviation", torch.ones(scores.out_features))
        self.masks = nn.Sequential(FrequencyMask(settings.frequency_mask), TimeMask(settings.time_mask))
        self.cycle = _Cycle(0, 0.0, 0.0)

    @torch.no_grad()
    def fit_standardisation(self, embeddings: Tensor) -> None:
        """Set means and standard deviations from embeddings ``(clips, 1024)``."""
        roots, logits = embeddings.sqrt(), self.scores(embeddings)
        self.roots_mean.copy_(roots.mean(dim=0))
        self.roots_deviation.copy_(roots.var(dim=0).mean().sqrt())
        self.logits_mean.copy_(logits.mean(dim=0))
        self.logits_deviation.copy_(logits.std(dim=0))

    def training_step(self, batch: dict[str, Tensor], _index: int) -> Tensor:
        """Return the sum of the losses of embedding, logits and genres."""
        features = batch["features"].contiguous(memory_format=torch.channels_last)
        vectors = self.network.backbone(self.masks(features))
        usable = batch["usable"] > 0
        with torch.no_grad(), torch.autocast(self.device.type, enabled=False):
            roots = (batch["embeddings"].sqrt() - self.roots_mean) / self.roots_deviation
            logits = (self.scores(batch["embeddings"]) - self.logits_mean) / self.logits_deviation
        loss = F.mse_loss(self.to_embedding(vectors).float()[usable], roots[usable])
        loss = loss + F.mse_loss(self.to_scores(vectors).float()[usable], logits[usable])
        if "genres" in batch:
            own = self.settings.batch_size - self.settings.music
            logits = self.network.head(vectors).float()
            loss = loss + F.cross_entropy(logits[:own], batch["genres"][:own])
            loss = loss + self.settings.music_share * F.cross_entropy(logits[own:], batch["genres"][own:])
        return loss

    def configure_optimizers(self) -> Any:
        """Return AdamW with a one-cycle learning rate schedule."""
        trainable = [parameter for parameter in self.parameters() if parameter.requires_grad]
        matrices = [parameter for parameter in trainable if parameter.ndim > 1]
        others = [parameter for parameter in trainable if parameter.ndim < 2]
        decay = self.settings.weight_decay
        groups = [{"params": matrices, "weight_decay": decay}, {"params": others, "weight_decay": 0.0}]
        steps, rate, warm_up = self.cycle
        optimizer = torch.optim.AdamW(groups, lr=rate)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps, pct_start=warm_up)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
