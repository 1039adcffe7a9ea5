"""From a collection's embeddings to a dataset that a head learns from."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from musgenre.core.errors import DatasetError
from musgenre.datasets.base import MissingTrack, Track
from musgenre.datasets.embeddings import TrackVectors
from musgenre.models.classifier import GenreClassifier
from musgenre.scale.dependencies import needed
from musgenre.scale.filesystems import resolve
from musgenre.scale.schema import revision_of


def read_embeddings(
    collection: str | os.PathLike[str],
    labels: Mapping[str, str],
    *,
    classifier: GenreClassifier,
    groups: Mapping[str, str] | None = None,
    filesystem: Any = None,
) -> TrackVectors:
    """Reads the embeddings of those songs of a collection whose genres are known.

    :func:`musgenre.finetune` trains a head on them, over the classifier's backbone, and decodes nothing.

    Args:
        collection: What :func:`~musgenre.scale.predict_collection` wrote with ``embedding=True``.
        labels: The genre of each song, by id; the collection may hold more.
        classifier: The classifier that predicted the collection.
        groups: What must not stand on both sides of a split (the artist), by id.
        filesystem: As for :func:`~musgenre.scale.predict_collection`.

    Returns:
        The songs, with the genres that occur, sorted; ``missing`` names those that have no embedding.

    Raises:
        DatasetError: There is no such collection, it has no embeddings, another model gave them, or no song has one.
    """
    found, path = resolve(collection, filesystem=filesystem)
    pa = needed("pyarrow")
    try:
        rows = needed("pyarrow.dataset").dataset(path, format="parquet", filesystem=found)
    except (OSError, pa.ArrowException) as error:
        raise DatasetError(f"{collection}: cannot be read as a collection ({error}).") from error
    if "embedding" not in rows.schema.names:
        raise DatasetError(f"{collection}: has no embeddings; predict it with embedding=True.")
    revision = (rows.schema.metadata or {}).get(b"musgenre.revision", b"").decode()
    if revision != (own := revision_of(classifier)):
        raise DatasetError(
            f"{collection}: its model has the revision {revision!r}, and not {own!r} as this classifier; give the "
            "classifier that predicted it."
        )
    known: dict[str, tuple[Track, Any]] = {}
    left = dict(labels)
    for batch in rows.to_batches(columns=["id", "embedding", "duration_seconds"]):
        for row in batch.filter(pa.compute.is_in(batch["id"], pa.array(left, pa.string()))).to_pylist():
            if row["embedding"] is not None:
                group = (groups or {}).get(row["id"])
                label = left.pop(row["id"])
                track = Track(row["id"], Path(row["id"]), label, group, row["duration_seconds"])
                known[track.id] = (track, row["embedding"])
    missing = [MissingTrack(one, "the collection has no embedding of it") for one in left]
    name = os.path.basename(os.fspath(collection).rstrip("/"))
    genres = sorted(set(labels.values()))
    # Ray writes rows in any order; what is learnt shall not depend on it.
    pairs = [known[one] for one in sorted(known)]
    tracks, vectors = [track for track, _ in pairs], [vector for _, vector in pairs]
    return TrackVectors(tracks, vectors, labels=genres, classifier=classifier, name=name, missing=missing)
