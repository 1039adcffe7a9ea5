"""Embeddings of a collection as a dataset for training a head."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from musgenre.core.errors import DatasetError
from musgenre.datasets.base import MissingTrack, Track
from musgenre.datasets.embeddings import TrackVectors
from musgenre.models.classifier import GenreClassifier
from musgenre.scale.dependencies import require
from musgenre.scale.filesystems import resolve
from musgenre.scale.schema import model_revision


def read_embeddings(
    collection: str | os.PathLike[str],
    labels: Mapping[str, str],
    *,
    classifier: GenreClassifier,
    groups: Mapping[str, str] | None = None,
    filesystem: Any = None,
) -> TrackVectors:
    """Reads the embeddings of labelled songs in a collection.

    :func:`musgenre.finetune` trains a head on them, on top of the classifier's backbone, without decoding audio.

    Args:
        collection: The output of :func:`~musgenre.scale.predict_collection` with ``embedding=True``.
        labels: Ids to genres. The collection may hold other songs as well.
        classifier: The classifier that predicted the collection.
        groups: Ids to groups, such as artists, that splits keep together.
        filesystem: See :func:`~musgenre.scale.predict_collection`.

    Returns:
        The songs, with sorted genres; ``missing`` lists songs without an embedding.

    Raises:
        DatasetError: There is no such collection, it has no embeddings, they belong to another model, or no song has
            one.
    """
    found, path = resolve(collection, filesystem=filesystem)
    pa = require("pyarrow")
    try:
        rows = require("pyarrow.dataset").dataset(path, format="parquet", filesystem=found)
    except (OSError, pa.ArrowException) as error:
        raise DatasetError(f"{collection}: cannot be read as a collection ({error}).") from error
    if "embedding" not in rows.schema.names:
        raise DatasetError(f"{collection}: has no embeddings; predict it with embedding=True.")
    expected = model_revision(classifier)
    revision = (rows.schema.metadata or {}).get(b"musgenre.revision", b"").decode()
    if revision != expected:
        raise DatasetError(
            f"{collection}: predicted by the model revision {revision!r}, but this classifier is {expected!r}; give "
            "the classifier that predicted it."
        )
    found_tracks: dict[str, tuple[Track, Any]] = {}
    remaining = dict(labels)
    for batch in rows.to_batches(columns=["id", "embedding", "duration_seconds"]):
        for row in batch.filter(pa.compute.is_in(batch["id"], pa.array(remaining, pa.string()))).to_pylist():
            if row["embedding"] is not None:
                group = (groups or {}).get(row["id"])
                label = remaining.pop(row["id"])
                track = Track(row["id"], Path(row["id"]), label, group, row["duration_seconds"])
                found_tracks[track.id] = (track, row["embedding"])
    missing = [MissingTrack(one, "the collection has no embedding of it") for one in remaining]
    name = os.path.basename(os.fspath(collection).rstrip("/"))
    genres = sorted(set(labels.values()))
    # Sorted, because Ray writes rows in any order and training must not depend on it.
    pairs = [found_tracks[one] for one in sorted(found_tracks)]
    tracks, vectors = [track for track, _ in pairs], [vector for _, vector in pairs]
    return TrackVectors(tracks, vectors, labels=genres, classifier=classifier, name=name, missing=missing)
