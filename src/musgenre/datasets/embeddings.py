"""Tracks whose embeddings are known already, so that a head learns from them and no audio is decoded."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from musgenre.core.errors import DatasetError
from musgenre.datasets.base import MissingTrack, Track, TrackDataset


class TrackVectors(TrackDataset):
    """Tracks with an embedding each. :func:`musgenre.finetune` trains a head on them; nothing else can learn.

    :func:`musgenre.scale.read_embeddings` reads them from a collection.

    Args:
        tracks: As for :class:`~musgenre.datasets.base.TrackDataset`; their files need not be there.
        vectors: Their embeddings, in the same order.
        labels: The genres.
        classifier: The :class:`~musgenre.GenreClassifier` whose backbone gave the embeddings.
        name: What the dataset is called.
        missing: The tracks that had to be left out.

    Attributes:
        vectors: The embeddings.
        classifier: What gave them.

    Shape:
        - vectors: ``(tracks, classifier.embedding_size)``, float32

    Raises:
        DatasetError: The vectors are not one for each track, or not as long as the backbone's; or as ``TrackDataset``.
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
            raise DatasetError(f"{name}: embeddings of shape {self.vectors.shape}; {expected} are needed.")

    def select(self, track_ids: Iterable[str]) -> TrackVectors:
        """Returns the tracks of these ids with their embeddings, in the order given, under the same labels.

        Raises:
            DatasetError: No id is given, one is given twice, or the dataset has no such track.
        """
        chosen = super().select(track_ids)
        places = {track.id: place for place, track in enumerate(self.tracks)}
        rows = [places[track.id] for track in chosen]
        selected = TrackVectors(
            chosen, self.vectors[rows], labels=self.labels, classifier=self.classifier, name=self.name
        )
        selected.split = self.split
        return selected
