"""The student and how it learns: first to hear as the teacher does, then the genres.

The first part needs no labels, and so no fold: it learns from free music alone what the teacher's embedding of a clip
is. The second learns genres from the tracks of a fold, in part as their labels say and in part as the teacher would
name them (by a linear layer of its own, fitted on the same tracks), which carries over to other artists better than
bare labels.
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
from heads import teachers_layer
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
    """How the student learns.

    Attributes:
        hearing_steps: Steps of the first part, on free music.
        hearing_rate: Its highest learning rate; one cycle.
        hearing_warm_up: Share of its steps in which the rate rises.
        steps: Steps of the second part.
        learning_rate: Its highest learning rate; one cycle.
        warm_up: Share of its steps in which the rate rises.
        batch_size: Clips a step.
        music: How many of them are free music in the second part, so that the student does not forget it; their genres
            are what the teacher says.
        music_share: Weight of these genres.
        frames: How much of a clip is heard at once; 128 frames are 1.5 s. With a second the borders of the pictures
            weigh so much that a model of 3 s windows is another one.
        weight_decay: Of matrices; biases and normalisations have none.
        teacher_share: Share of the teacher's answer in the genre that is learnt; the rest is the label.
        teacher_temperature: The teacher's logits are divided by it.
        frequency_mask: Widest run of bins that is hidden.
        time_mask: Longest run of frames that is hidden.
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
class Lessons:
    """Clips to learn from.

    Attributes:
        mixtures: The clips.
        clips: Numbers of those that may be heard, ``(count,)``.
        genres: What each is, as probabilities, ``(count, classes)``; ``None`` where only hearing is learnt.
        weights: How often each is drawn, ``(count,)``; they sum to one.
    """

    mixtures: Mixtures
    clips: npt.NDArray[np.intp]
    genres: npt.NDArray[np.float32] | None
    weights: npt.NDArray[np.float64]

    @classmethod
    def of_music(cls, music: Mixtures, *, head: LogisticRegression | None = None, temperature: float = 1.0) -> Lessons:
        """Returns free music, with the genres that the teacher's layer gives it, if one is given."""
        clips = np.flatnonzero(music.heard())
        genres = None
        if head is not None:
            answers = head.decision_function(music.embeddings[clips].mean(axis=1, dtype=np.float32))
            genres = softmax(answers / temperature, axis=1).astype(np.float32)
        return cls(music, clips, genres, np.full(len(clips), 1 / len(clips)))

    @classmethod
    def of_tracks(
        cls, mixtures: Mixtures, labels: npt.NDArray[np.intp], *, tracks: frozenset[int], settings: Settings
    ) -> tuple[Lessons, LogisticRegression]:
        """Returns the clips of some tracks with their genres, drawn equally often, and the teacher's layer.

        Args:
            mixtures: Clips of all tracks.
            labels: The label of every track, ``(tracks,)``.
            tracks: Numbers of the tracks to learn from; a clip in which another one is heard is left out.
            settings: How the genres are told.
        """
        allowed = np.array([*(number in tracks for number in range(len(labels))), True])  # the last is -1, no music
        clips = np.flatnonzero(allowed[mixtures.tracks].all(axis=1))
        head = teachers_layer(mixtures, clips, labels=labels, tracks=len(tracks))
        music = mixtures.tracks[clips, 0] >= 0
        genres = np.full((len(clips), labels.max() + 1), 1 / (labels.max() + 1), dtype=np.float32)
        embeddings = mixtures.embeddings[clips[music]].mean(axis=1, dtype=np.float32)
        answers = softmax(head.decision_function(embeddings) / settings.teacher_temperature, axis=1)
        genres[music] = settings.teacher_share * answers
        first, second = labels[mixtures.tracks[clips[music]]].T
        rest = 1 - settings.teacher_share
        shares = rest * mixtures.shares[clips[music]]
        np.add.at(genres, (np.flatnonzero(music), first), shares)
        np.add.at(genres, (np.flatnonzero(music), second), rest - shares)
        even = (genres / genres[music].sum(axis=0)).sum(axis=1) * music.sum() / genres.shape[1]
        weights = np.where(music, even, 1.0).astype(np.float64)
        return cls(mixtures, clips, genres, weights / weights.sum()), head


def learn_to_hear(config: ModelConfig, music: Mixtures, *, scores: nn.Linear, settings: Settings) -> State:
    """Trains a student to hear as the teacher does; what comes back starts every :func:`train`.

    Args:
        config: The model.
        music: Clips of free music.
        scores: The teacher's own output layer.
        settings: How the student learns.
    """
    torch.manual_seed(0)
    lessons = Lessons.of_music(music)
    known = music.embeddings[lessons.clips[::10]].mean(axis=1, dtype=np.float32)
    course = _Course(GenreNetwork.from_config(config), scores=scores, settings=settings)
    course.standardise_by(torch.from_numpy(known))
    batches = _Batches([(lessons, settings.batch_size)], frames=settings.frames, seed=0)
    _fit(course, batches, cycle=_Cycle(settings.hearing_steps, settings.hearing_rate, settings.hearing_warm_up))
    return {name: value for name, value in course.state_dict().items() if not name.startswith("network.head.")}


def train(
    config: ModelConfig, lessons: list[tuple[Lessons, int]], *, hearing: State, settings: Settings, seed: int
) -> GenreNetwork:
    """Trains a student that has learnt to hear.

    Args:
        config: The model.
        lessons: The tracks and the free music, each with the number of its clips in a batch.
        hearing: What :func:`learn_to_hear` returned.
        settings: How it learns.
        seed: Of all draws.

    Returns:
        The network; what it said to the teacher is left out.
    """
    torch.manual_seed(seed)
    network = GenreNetwork.from_config(config)
    classes, units = hearing["scores.weight"].shape
    course = _Course(network, scores=nn.Linear(units, classes), settings=settings)
    course.load_state_dict({**course.state_dict(), **hearing})
    batches = _Batches(lessons, frames=settings.frames, seed=seed)
    _fit(course, batches, cycle=_Cycle(settings.steps, settings.learning_rate, settings.warm_up))
    return network.eval()


class _Cycle(NamedTuple):
    steps: int
    rate: float
    warm_up: float


def _fit(course: _Course, batches: _Batches, *, cycle: _Cycle) -> None:
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    course.cycle = cycle
    trainer = pl.Trainer(
        max_steps=cycle.steps,
        precision="bf16-mixed",
        gradient_clip_val=2.0,
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=False,
    )
    trainer.fit(course, DataLoader(batches, batch_size=None))


class _Batches(IterableDataset[dict[str, Tensor]]):
    """Draws batches without end, a part of each from every source."""

    def __init__(self, sources: list[tuple[Lessons, int]], *, frames: int, seed: int) -> None:
        self.sources = [(lessons, count, lessons.weights.cumsum()) for lessons, count in sources]
        self.heard = [lessons.mixtures.heard() for lessons, _ in sources]
        self.frames = frames
        self.seed = seed

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        draws = np.random.default_rng(self.seed)
        last = self.sources[0][0].mixtures.pictures.shape[2] - self.frames
        while True:
            start = int(draws.integers(last + 1))
            parts = []
            for (lessons, count, up_to), heard in zip(self.sources, self.heard, strict=True):
                rows = np.minimum(np.searchsorted(up_to, draws.random(count)), len(up_to) - 1)
                clips = lessons.clips[rows]
                part = {
                    "pictures": lessons.mixtures.pictures[clips, None, :, start : start + self.frames],
                    "embeddings": lessons.mixtures.embeddings[clips].mean(axis=1, dtype=np.float32),
                    "heard": heard[clips],
                }
                parts.append(part if lessons.genres is None else {**part, "genres": lessons.genres[rows]})
            joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
            yield {name: torch.from_numpy(array.astype(np.float32)) for name, array in joined.items()}


class _Course(pl.LightningModule):
    """The network, with two layers by which it tells what it hears: the teacher's embedding, and AudioSet's logits.

    Roots of the embedding are learnt, for its few large values would outweigh all others; and everything in units of
    its own deviation, without which the steps of the optimiser are too long for these layers.
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
    def standardise_by(self, embeddings: Tensor) -> None:
        """Takes the means and deviations of some embeddings ``(clips, 1024)``."""
        roots, logits = embeddings.sqrt(), self.scores(embeddings)
        self.roots_mean.copy_(roots.mean(dim=0))
        self.roots_deviation.copy_(roots.var(dim=0).mean().sqrt())
        self.logits_mean.copy_(logits.mean(dim=0))
        self.logits_deviation.copy_(logits.std(dim=0))

    def training_step(self, batch: dict[str, Tensor], _index: int) -> Tensor:
        """Returns the losses of the teacher's embedding, of its logits and of the genres, added up."""
        pictures = batch["pictures"].contiguous(memory_format=torch.channels_last)
        vectors = self.network.backbone(self.masks(pictures))
        heard = batch["heard"] > 0
        with torch.no_grad(), torch.autocast(self.device.type, enabled=False):
            roots = (batch["embeddings"].sqrt() - self.roots_mean) / self.roots_deviation
            logits = (self.scores(batch["embeddings"]) - self.logits_mean) / self.logits_deviation
        loss = F.mse_loss(self.to_embedding(vectors).float()[heard], roots[heard])
        loss = loss + F.mse_loss(self.to_scores(vectors).float()[heard], logits[heard])
        if "genres" in batch:
            own = self.settings.batch_size - self.settings.music
            said = self.network.head(vectors).float()
            loss = loss + F.cross_entropy(said[:own], batch["genres"][:own])
            loss = loss + self.settings.music_share * F.cross_entropy(said[own:], batch["genres"][own:])
        return loss

    def configure_optimizers(self) -> Any:
        """Returns AdamW, and one cycle of its rate."""
        learning = [parameter for parameter in self.parameters() if parameter.requires_grad]
        matrices = [parameter for parameter in learning if parameter.ndim > 1]
        others = [parameter for parameter in learning if parameter.ndim < 2]
        decay = self.settings.weight_decay
        groups = [{"params": matrices, "weight_decay": decay}, {"params": others, "weight_decay": 0.0}]
        steps, rate, warm_up = self.cycle
        optimizer = torch.optim.AdamW(groups, lr=rate)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps, pct_start=warm_up)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
