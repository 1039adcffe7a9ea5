"""Tracks with precomputed embeddings, on which a head is trained without decoding audio."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from musgenre.core.errors import DatasetError
from musgenre.datasets.base import MissingTrack, Track, TrackDataset


class TrackVectors(TrackDataset):
    """Tracks with precomputed embeddings, on which :func:`musgenre.finetune` trains a head.

    :func:`musgenre.scale.read_embeddings` reads them from a collection.

    Args:
        tracks: As for :class:`~musgenre.datasets.base.TrackDataset`; their files need not exist.
        vectors: Embeddings of the tracks, in the same order.
        labels: The genres.
        classifier: The :class:`~musgenre.GenreClassifier` whose backbone computed the embeddings.
        name: Name of the dataset.
        missing: Tracks without an embedding.

    Attributes:
        vectors: The embeddings.
        classifier: The classifier whose backbone computed them.

    Shape:
        - vectors: ``(tracks, classifier.embedding_size)``, float32

    Raises:
        DatasetError: The shape of ``vectors`` is wrong; or as ``TrackDataset``.
    """

    def __init__(
        self,
        tracks: Iterable[Track],
        vectors: npt.ArrayLike,
        *,
        labels: Sequence[str],
        classifier: Any,
        name: str,
        missing: Sequence[MissingTrack] = (),
    ) -> None:
        super().__init__(tracks, labels=labels, name=name, missing=missing)
        self.vectors = np.asarray(vectors, np.float32)
        self.classifier = classifier
        expected = (len(self.tracks), classifier.embedding_size)
        if self.vectors.shape != expected:
            raise DatasetError(f"{name}: expected embeddings of shape {expected}, got {self.vectors.shape}.")

    def select(self, track_ids: Iterable[str]) -> TrackVectors:
        """Return the tracks with these ids and their embeddings, in the given order, with the same labels.

        Raises:
            DatasetError: There is no id, an id occurs twice, or the dataset has no such track.
        """
        chosen = super().select(track_ids)
        positions = {track.id: position for position, track in enumerate(self.tracks)}
        rows = [positions[track.id] for track in chosen]
        selected = TrackVectors(
            chosen, self.vectors[rows], labels=self.labels, classifier=self.classifier, name=self.name
        )
        selected.split = self.split
        return selected
