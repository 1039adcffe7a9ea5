"""Linear layers by logistic regression: the teacher's, from which the student learns, and a second one of its own."""

from __future__ import annotations

import copy

import numpy as np
import numpy.typing as npt
import torch
from mixtures import Mixtures
from signals import no_music
from sklearn.linear_model import LogisticRegression
from torch import nn

from musgenre.datasets.windows import GridWindows
from musgenre.models.network import GenreNetwork

NO_MUSIC = 200


def teachers_layer(
    mixtures: Mixtures, clips: npt.NDArray[np.intp], *, labels: npt.NDArray[np.intp], tracks: int
) -> LogisticRegression:
    """Returns the teacher's own layer: genres count the same, and all clips together as much as the tracks do."""
    clips = clips[mixtures.plain[clips] & (mixtures.tracks[clips, 0] >= 0)]
    genres = labels[mixtures.tracks[clips, 0]]
    counts = np.bincount(genres)
    weights = tracks / np.count_nonzero(counts) / counts[genres]
    embeddings = mixtures.embeddings[clips].mean(axis=1, dtype=np.float32)
    return LogisticRegression(C=0.1, max_iter=300).fit(embeddings, genres, sample_weight=weights)


@torch.inference_mode()
def with_second_layer(network: GenreNetwork, windows: GridWindows, *, rate: int) -> GenreNetwork:
    """Adds to the student's output layer a second one, fitted to the tracks as they are; the sum is one layer again.

    The first was learnt from varied clips while everything below it changed; this one sees what prediction sees. Each
    of the two is right about as often, and their sum more often.

    Args:
        network: The student.
        windows: Of the tracks that it has learnt from. Genres count the same, and so do the tracks of one.
        rate: Their sample rate, in hertz.
    """
    vectors, labels, tracks = [], [], []
    for waveform, label, number in (windows[index] for index in range(len(windows))):
        vectors.append(_vector(network, waveform))
        labels.append(label)
        tracks.append(number)
    genre, track = np.array(labels), np.array(tracks)
    weights = 1 / np.bincount(track)[track]
    weights *= len(set(tracks)) / len(set(labels)) / np.bincount(genre, weights=weights)[genre]
    # What is no music is every genre alike; all of it counts as much as the tracks of one genre.
    draws, classes = np.random.default_rng(5), np.unique(genre)
    waves = [torch.from_numpy(no_music(windows.audio.window_samples, rate=rate, draws=draws)) for _ in range(NO_MUSIC)]
    silent = np.repeat([_vector(network, wave) for wave in waves], len(classes), axis=0)
    layer = LogisticRegression(C=0.03, max_iter=400).fit(
        np.concatenate([vectors, silent]),
        np.concatenate([genre, np.tile(classes, NO_MUSIC)]),
        sample_weight=np.concatenate(
            [weights, np.full(len(silent), len(set(tracks)) / len(classes) / len(silent))],
        ),
    )
    settled = copy.deepcopy(network)
    last = [module for module in settled.head.modules() if isinstance(module, nn.Linear)][-1]
    places = torch.from_numpy(layer.classes_)
    last.weight[places] += torch.from_numpy(layer.coef_).float()
    last.bias[places] += torch.from_numpy(layer.intercept_).float()
    return settled


def _vector(network: GenreNetwork, waveform: torch.Tensor) -> npt.NDArray[np.float32]:
    vector: npt.NDArray[np.float32] = network.backbone(network.feature(waveform[None]))[0].numpy()
    return vector
