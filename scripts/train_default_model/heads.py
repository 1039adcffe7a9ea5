"""Linear layers fitted by logistic regression: on the teacher's embeddings, and on the student's."""

from __future__ import annotations

import copy

import numpy as np
import numpy.typing as npt
import torch
from mixtures import Mixtures
from signals import not_music
from sklearn.linear_model import LogisticRegression
from torch import nn

from musgenre.datasets.windows import GridWindows
from musgenre.models.network import GenreNetwork

NOT_MUSIC = 200


def fit_teacher_layer(
    mixtures: Mixtures, clips: npt.NDArray[np.intp], *, labels: npt.NDArray[np.intp], tracks: int
) -> LogisticRegression:
    """Fit the linear layer of the teacher on balanced genres, with a total weight equal to the number of tracks."""
    clips = clips[mixtures.plain[clips] & (mixtures.tracks[clips, 0] >= 0)]
    genres = labels[mixtures.tracks[clips, 0]]
    counts = np.bincount(genres)
    weights = tracks / np.count_nonzero(counts) / counts[genres]
    embeddings = mixtures.embeddings[clips].mean(axis=1, dtype=np.float32)
    return LogisticRegression(C=0.1, max_iter=300).fit(embeddings, genres, sample_weight=weights)


@torch.inference_mode()
def add_second_layer(network: GenreNetwork, windows: GridWindows, *, rate: int) -> GenreNetwork:
    """Add the coefficients of a logistic regression on unmodified tracks to the student's output layer.

    The output layer was trained on augmented clips; the logistic regression is fitted on windows as in prediction. Both
    are about equally accurate, and their sum is more accurate.

    Args:
        network: The student.
        windows: Windows of its training tracks. Genres have equal weights, as have the tracks of a genre.
        rate: Sample rate, in hertz.
    """
    vectors, labels, tracks = [], [], []
    for waveform, label, number in (windows[index] for index in range(len(windows))):
        vectors.append(_vector(network, waveform))
        labels.append(label)
        tracks.append(number)
    genre, track = np.array(labels), np.array(tracks)
    weights = 1 / np.bincount(track)[track]
    weights *= len(set(tracks)) / len(set(labels)) / np.bincount(genre, weights=weights)[genre]
    # Signals that are not music have uniform targets and the total weight of one genre.
    draws, classes = np.random.default_rng(5), np.unique(genre)
    waves = [
        torch.from_numpy(not_music(windows.audio.window_samples, rate=rate, draws=draws)) for _ in range(NOT_MUSIC)
    ]
    rejected = np.repeat([_vector(network, wave) for wave in waves], len(classes), axis=0)
    layer = LogisticRegression(C=0.03, max_iter=400).fit(
        np.concatenate([vectors, rejected]),
        np.concatenate([genre, np.tile(classes, NOT_MUSIC)]),
        sample_weight=np.concatenate(
            [weights, np.full(len(rejected), len(set(tracks)) / len(classes) / len(rejected))],
        ),
    )
    combined = copy.deepcopy(network)
    last = [module for module in combined.head.modules() if isinstance(module, nn.Linear)][-1]
    rows = torch.from_numpy(layer.classes_)
    last.weight[rows] += torch.from_numpy(layer.coef_).float()
    last.bias[rows] += torch.from_numpy(layer.intercept_).float()
    return combined


def _vector(network: GenreNetwork, waveform: torch.Tensor) -> npt.NDArray[np.float32]:
    vector: npt.NDArray[np.float32] = network.backbone(network.feature(waveform[None]))[0].numpy()
    return vector
