"""The student and how it learns: the genres that the teacher would name, and on the side what the teacher hears.

The teacher names genres through a linear layer of its own, fitted on the training tracks of the fold. This carries
over to other artists better than the bare labels do, by which a network of this size learns artists by heart.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import lightning.pytorch as pl
import numpy as np
import numpy.typing as npt
import torch
from mixtures import Mixtures
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, IterableDataset

from musgenre.network import GenreNetwork
from musgenre.specs import ModelConfig
from musgenre.transforms.augment import FrequencyMask, TimeMask


@dataclass(frozen=True)
class Settings:
    """How the student learns.

    Attributes:
        steps: Steps of the optimiser.
        batch_size: Clips a step.
        frames: How much of a clip is heard at once; 128 frames are 1.5 s. With a second the borders of the pictures
            weigh so much that a model of 3 s windows is another one.
        learning_rate: The highest; one cycle.
        weight_decay: Of matrices; biases and normalisations have none.
        teacher_share: Share of the teacher's answer in what is learnt; the rest is the label.
        teacher_temperature: The teacher's logits are divided by it.
        embedding_loss: Weight of the squared distance to the teacher's embedding, in units of its variance.
        score_loss: Weight of the cross-entropy of the 521 scores, summed over them.
        frequency_mask: Widest run of bins that is hidden.
        time_mask: Longest run of frames that is hidden.
    """

    steps: int = 2_600
    batch_size: int = 24
    frames: int = 128
    learning_rate: float = 2e-3
    weight_decay: float = 0.05
    teacher_share: float = 0.7
    teacher_temperature: float = 0.7
    embedding_loss: float = 1.0
    score_loss: float = 0.1
    frequency_mask: int = 12
    time_mask: int = 21


@dataclass(frozen=True)
class Lessons:
    """What may be learnt from.

    Attributes:
        mixtures: Clips of all tracks.
        labels: The label of every track, ``(tracks,)``.
        tracks: Numbers of the tracks to learn from; a clip in which another one is heard is left out.
    """

    mixtures: Mixtures
    labels: npt.NDArray[np.intp]
    tracks: frozenset[int]

    def chosen(self) -> npt.NDArray[np.intp]:
        """Returns the numbers of the clips that are left."""
        allowed = np.array([*(number in self.tracks for number in range(len(self.labels))), True])  # -1 is no music
        return np.flatnonzero(allowed[self.mixtures.tracks].all(axis=1))

    def targets(self, settings: Settings) -> npt.NDArray[np.float32]:
        """Returns the genres of every clip, ``(clips, classes)``; all alike for no music."""
        music = self.mixtures.tracks[:, 0] >= 0
        targets = np.full((len(music), self.labels.max() + 1), 1 / (self.labels.max() + 1), dtype=np.float32)
        embeddings = self.mixtures.embeddings.mean(axis=1, dtype=np.float32)
        answers = self._head().decision_function(embeddings[music]) / settings.teacher_temperature
        targets[music] = settings.teacher_share * softmax(answers, axis=1)
        first, second = self.labels[self.mixtures.tracks[music]].T
        places, shares = np.flatnonzero(music), (1 - settings.teacher_share) * self.mixtures.shares[music]
        np.add.at(targets, (places, first), shares)
        np.add.at(targets, (places, second), 1 - settings.teacher_share - shares)
        return targets

    def _head(self) -> LogisticRegression:
        """Returns the teacher's own layer: genres count the same, and all clips together as much as the tracks do."""
        clips = self.chosen()
        clips = clips[self.mixtures.plain[clips] & (self.mixtures.tracks[clips, 0] >= 0)]
        labels = self.labels[self.mixtures.tracks[clips, 0]]
        counts = np.bincount(labels)
        weights = len(self.tracks) / np.count_nonzero(counts) / counts[labels]
        embeddings = self.mixtures.embeddings[clips].mean(axis=1, dtype=np.float32)
        return LogisticRegression(C=0.1, max_iter=300).fit(embeddings, labels, sample_weight=weights)


def train(config: ModelConfig, lessons: Lessons, *, settings: Settings, seed: int) -> GenreNetwork:
    """Trains a student.

    Args:
        config: The model.
        lessons: What it learns from.
        settings: How it learns.
        seed: Of its first weights and of all draws.

    Returns:
        The network; what it said to the teacher is left out.
    """
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    torch.manual_seed(seed)
    network = GenreNetwork.from_config(config)
    embeddings = lessons.mixtures.embeddings[lessons.chosen()[:3_000]].astype(np.float32).mean(axis=1)
    course = _Course(network, settings=settings, embeddings=torch.from_numpy(embeddings))
    trainer = pl.Trainer(
        max_steps=settings.steps,
        precision="bf16-mixed",
        gradient_clip_val=2.0,
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=False,
    )
    trainer.fit(course, DataLoader(_Batches(lessons, settings=settings, seed=seed), batch_size=None))
    return network.eval()


class _Batches(IterableDataset[tuple[Tensor, ...]]):
    """Draws batches without end: ``(pictures, genres, embeddings, scores)``; genres are drawn equally often."""

    def __init__(self, lessons: Lessons, *, settings: Settings, seed: int) -> None:
        self.mixtures = lessons.mixtures
        self.clips = lessons.chosen()
        self.targets = lessons.targets(settings)[self.clips]
        self.settings = settings
        self.seed = seed
        music = self.mixtures.tracks[self.clips, 0] >= 0
        even = (self.targets / self.targets[music].sum(axis=0)).sum(axis=1) * music.sum() / self.targets.shape[1]
        weights = np.where(music, even, 1.0)
        self.weights = weights / weights.sum()

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        draws = np.random.default_rng(self.seed)
        frames = self.settings.frames
        last = self.mixtures.pictures.shape[2] - frames
        while True:
            rows = draws.choice(len(self.clips), self.settings.batch_size, p=self.weights)
            clips = self.clips[rows]
            start = int(draws.integers(last + 1))
            arrays = (
                self.mixtures.pictures[clips, None, :, start : start + frames],
                self.targets[rows],
                self.mixtures.embeddings[clips].mean(axis=1, dtype=np.float32),
                self.mixtures.scores[clips].mean(axis=1, dtype=np.float32),
            )
            yield tuple(torch.from_numpy(array.astype(np.float32)) for array in arrays)


class _Course(pl.LightningModule):
    """The network, with two layers that tell the teacher what it heard."""

    def __init__(self, network: GenreNetwork, *, settings: Settings, embeddings: Tensor) -> None:
        super().__init__()
        self.network = network
        self.settings = settings
        size = network.backbone.out_features
        self.to_embedding = nn.Linear(size, embeddings.shape[1])
        self.to_scores = nn.Linear(size, 521)
        self.variance = float(embeddings.var(dim=0).mean())
        with torch.no_grad():
            self.to_embedding.bias.copy_(embeddings.mean(dim=0))
            self.to_scores.bias.fill_(-6.0)  # most of the 521 sounds are absent
        self.masks = nn.Sequential(FrequencyMask(settings.frequency_mask), TimeMask(settings.time_mask))

    def training_step(self, batch: tuple[Tensor, ...], _index: int) -> Tensor:
        """Returns the three losses, added up."""
        pictures, genres, embeddings, scores = batch
        pictures = pictures.contiguous(memory_format=torch.channels_last)
        vectors = self.network.backbone(self.masks(pictures))
        genre = F.cross_entropy(self.network.head(vectors).float(), genres)
        embedding = F.mse_loss(self.to_embedding(vectors).float(), embeddings) / self.variance
        told = self.to_scores(vectors).float()
        score = F.binary_cross_entropy_with_logits(told, scores.clamp(0, 1), reduction="sum") / len(scores)
        return genre + self.settings.embedding_loss * embedding + self.settings.score_loss * score

    def configure_optimizers(self) -> Any:
        """Returns AdamW, and one cycle of its rate."""
        rate, decay = self.settings.learning_rate, self.settings.weight_decay
        matrices = [parameter for parameter in self.parameters() if parameter.ndim > 1]
        others = [parameter for parameter in self.parameters() if parameter.ndim < 2]
        groups = [{"params": matrices, "weight_decay": decay}, {"params": others, "weight_decay": 0.0}]
        optimizer = torch.optim.AdamW(groups, lr=rate)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=self.settings.steps, pct_start=0.1)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
