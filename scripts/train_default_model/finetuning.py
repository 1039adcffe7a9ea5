"""Training: the backbone with cross-fitted output layers, then the final output layer."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from signals import not_music
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn

from musgenre.core.config import AudioSpec
from musgenre.datasets.base import TrackDataset
from musgenre.datasets.spectrograms import StoredSpectrogram
from musgenre.models.network import GenreNetwork

Floats = npt.NDArray[np.float32]
Integers = npt.NDArray[np.intp]

_BATCH = 32


@dataclass(frozen=True)
class Settings:
    """Hyperparameters of the training.

    Attributes:
        window_starts: Start of each window of a track, in seconds.
        excerpt_starts: Start of each excerpt of a track, in seconds. An excerpt is repeated to the length of a window,
            as recordings that are shorter than a window are in prediction.
        excerpt_columns: Length of an excerpt, in columns of the spectrogram.
        signals: Number of signals that are not music; their targets are uniform.
        signals_weight: Their total weight in the output layer, in tracks.
        inverse_regularisation: ``C`` of the logistic regression.
        iterations: Maximum number of iterations of the logistic regression.
        parts: Number of groups of artists for the cross-fitted output layers.
        steps: Number of training steps of the backbone.
        batch_size: Windows in a training batch.
        learning_rate: Learning rate of the backbone.
        label_smoothing: Weight of the uniform distribution in the targets.
    """

    window_starts: tuple[float, ...] = (0.0, 3.7, 7.4, 11.2, 14.9, 18.6, 22.4)
    excerpt_starts: tuple[float, ...] = (3.0, 14.0, 25.0)
    excerpt_columns: int = 33
    signals: int = 800
    signals_weight: float = 200.0
    inverse_regularisation: float = 0.005
    iterations: int = 150
    parts: int = 4
    steps: int = 150
    batch_size: int = 24
    learning_rate: float = 2e-5
    label_smoothing: float = 0.05


@dataclass(frozen=True)
class Examples:
    """Input of the backbone for the windows of all tracks, and for signals that are not music.

    Attributes:
        tracks: ``(tracks, windows, 1, bins, frames)``.
        labels: Label of each track.
        groups: Artist of each track.
        signals: ``(signals, 1, bins, frames)``.
    """

    tracks: Tensor
    labels: Integers
    groups: npt.NDArray[np.str_]
    signals: Tensor

    @classmethod
    def compute(cls, data: TrackDataset, network: GenreNetwork, *, audio: AudioSpec, settings: Settings) -> Examples:
        """Compute the feature of all windows."""
        frames = network.feature.out_shape(audio.window_samples)[2]
        tracks = [_features(network, _windows(track.spectrogram, frames=frames, settings=settings)) for track in data]
        groups = np.array([track.group or track.id for track in data])
        signals = _features(network, _signals(audio, count=settings.signals))
        return cls(torch.stack(tracks), np.array(data.label_indices()), groups, signals)

    def select(self, rows: Integers) -> Examples:
        """Return some of the tracks, and all signals."""
        return Examples(self.tracks[rows], self.labels[rows], self.groups[rows], self.signals)


@dataclass(frozen=True)
class Layer:
    """Output layer.

    Attributes:
        weight: ``(classes, entries)``.
        bias: ``(classes,)``.
    """

    weight: Tensor
    bias: Tensor

    @classmethod
    def fit(cls, vectors: Floats, signals: Floats, *, labels: Integers, settings: Settings) -> Layer:
        """Fit a logistic regression on standardised embeddings; all tracks have the same weight.

        Args:
            vectors: Embeddings of the windows, ``(tracks, windows, entries)``.
            signals: Embeddings of signals that are not music, ``(signals, entries)``.
            labels: Label of each track.
            settings: Hyperparameters.
        """
        windows, classes = vectors.shape[1], np.unique(labels)
        rows = vectors.reshape(-1, vectors.shape[2])
        scaler = StandardScaler().fit(rows)
        # A uniform target is one row for each class.
        rejected = np.repeat(signals, len(classes), axis=0)
        model = LogisticRegression(C=settings.inverse_regularisation, max_iter=settings.iterations)
        model.fit(
            scaler.transform(np.concatenate([rows, rejected])),
            np.concatenate([np.repeat(labels, windows), np.tile(classes, len(signals))]),
            sample_weight=np.concatenate(
                [np.full(len(rows), 1 / windows), np.full(len(rejected), settings.signals_weight / len(rejected))]
            ),
        )
        weight = model.coef_ / scaler.scale_  # the standardisation becomes part of the layer
        bias = model.intercept_ - weight @ scaler.mean_
        return cls(torch.from_numpy(weight).float(), torch.from_numpy(bias).float())


def train(network: GenreNetwork, examples: Examples, *, settings: Settings, seed: int) -> GenreNetwork:
    """Return a copy of a network that is trained on examples.

    The loss of a window is that of an output layer that was fitted on other artists. An output layer that was fitted on
    the same artists has almost no errors on them, from which the backbone could learn.

    Args:
        network: The network with a pretrained backbone.
        examples: The examples.
        settings: Hyperparameters.
        seed: Seed of the batches and parts.
    """
    trained = copy.deepcopy(network).eval()
    folds = StratifiedGroupKFold(settings.parts, shuffle=True, random_state=seed)
    parts = np.zeros(len(examples.labels), np.intp)
    for part, (_, rows) in enumerate(folds.split(parts, examples.labels, examples.groups)):
        parts[rows] = part
    optimizer = torch.optim.AdamW(trained.backbone.parameters(), lr=settings.learning_rate, weight_decay=0.0)
    draws = np.random.default_rng(seed)
    layers = _cross_fitted(trained, examples, parts=parts, settings=settings) if settings.steps else []
    for _ in range(settings.steps):
        tracks = draws.choice(len(parts), settings.batch_size, replace=False)
        windows = draws.integers(examples.tracks.shape[1], size=settings.batch_size)
        vectors = trained.backbone(examples.tracks[tracks, windows])
        weights = torch.stack([layers[part].weight for part in parts[tracks]])
        biases = torch.stack([layers[part].bias for part in parts[tracks]])
        loss = nn.functional.cross_entropy(
            torch.einsum("bd,bkd->bk", vectors, weights) + biases,
            torch.from_numpy(examples.labels[tracks]),
            label_smoothing=settings.label_smoothing,
        )
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
    vectors, signals = _embed(trained, examples)
    final = Layer.fit(vectors, signals, labels=examples.labels, settings=settings)
    (layer,) = (module for module in trained.head.modules() if isinstance(module, nn.Linear))
    layer.load_state_dict({"weight": final.weight, "bias": final.bias})
    return trained


def _cross_fitted(network: GenreNetwork, examples: Examples, *, parts: Integers, settings: Settings) -> list[Layer]:
    """Return for each part an output layer that is fitted on the other parts, with an eighth of the signals."""
    vectors, signals = _embed(network, replace(examples, signals=examples.signals[::8]))
    return [
        Layer.fit(vectors[parts != part], signals, labels=examples.labels[parts != part], settings=settings)
        for part in range(settings.parts)
    ]


@torch.inference_mode()
def _embed(network: GenreNetwork, examples: Examples) -> tuple[Floats, Floats]:
    """Return the embeddings of the windows of the tracks, and those of the signals."""

    def embedded(features: Tensor) -> Floats:
        vectors: Floats = torch.cat([network.backbone(batch) for batch in torch.split(features, _BATCH)]).numpy()
        return vectors

    windows = embedded(examples.tracks.flatten(0, 1))
    return windows.reshape(*examples.tracks.shape[:2], -1), embedded(examples.signals)


@torch.no_grad()
def _features(network: GenreNetwork, windows: Sequence[Floats]) -> Tensor:
    """Return the features of windows, of audio or of a mel spectrogram."""
    return torch.cat([network.feature(torch.from_numpy(window[None])) for window in windows])


def _windows(spectrogram: StoredSpectrogram | None, *, frames: int, settings: Settings) -> list[Floats]:
    if spectrogram is None:
        raise SystemExit("The data must be stored spectrograms: musgenre.datasets.store_spectrograms writes them.")
    whole = [spectrogram.window(start, frames=frames) for start in settings.window_starts]
    columns = [
        int(np.abs(spectrogram.centres() - start * spectrogram.settings.sample_rate).argmin())
        for start in settings.excerpt_starts
    ]
    excerpts = [
        replace(spectrogram, levels=spectrogram.levels[:, column : column + settings.excerpt_columns])
        for column in columns
    ]
    return [*whole, *(excerpt.window(0.0, frames=frames) for excerpt in excerpts)]


def _signals(audio: AudioSpec, *, count: int) -> list[Floats]:
    """Return signals that are not music, half of which are shorter than a window and repeated."""
    draws, full = np.random.default_rng(5), audio.window_samples
    lengths = [full if draws.random() < 0.5 else int(draws.integers(full // 5, full)) for _ in range(count)]
    return [np.resize(not_music(length, rate=audio.sample_rate, draws=draws), full) for length in lengths]
