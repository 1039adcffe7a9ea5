"""Schema of the rows of a collection, and its version in the metadata of every Parquet file."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from musgenre.core.config import ModelConfig, to_dict
from musgenre.scale.dependencies import require

if TYPE_CHECKING:
    import pyarrow as pa

    from musgenre.models.classifier import GenreClassifier

SCHEMA_VERSION = 1
"""Version of the schema, ``musgenre.schema_version`` in the metadata. It increases when a column's meaning changes."""


def collection_schema(
    config: ModelConfig, *, revision: str, embedding_size: int | None = None, windows: bool = False
) -> pa.Schema:
    """Returns the schema of a collection.

    Args:
        config: Configuration of the model.
        revision: Revision of the model; see :func:`model_revision`.
        embedding_size: Length of the embeddings; without one, there is no column of embeddings.
        windows: Whether there is a column of windows.

    Raises:
        ParameterError: The extra ``scale`` is not installed.
    """
    pa = require("pyarrow")
    metadata = {
        "schema_version": str(SCHEMA_VERSION),
        "model": config.name,
        "revision": revision,
        "labels": json.dumps(config.labels),
    }
    window = pa.struct([("start_seconds", pa.float64()), ("probabilities", pa.list_(pa.float32()))])
    columns = [
        ("id", pa.string()),
        ("label", pa.string()),
        ("probability", pa.float64()),
        ("probabilities", pa.struct([(label, pa.float64()) for label in config.labels])),
        ("duration_seconds", pa.float64()),
        *([("windows", pa.list_(window))] if windows else []),
        *([("embedding", pa.list_(pa.float32()))] if embedding_size else []),
        ("model", pa.string()),
        ("revision", pa.string()),
        ("error", pa.struct([("kind", pa.string()), ("message", pa.string())])),
        ("seconds", pa.float64()),
    ]
    return pa.schema(columns, metadata={f"musgenre.{key}": value for key, value in metadata.items()})


def model_revision(classifier: GenreClassifier) -> str:
    """Returns 16 hexadecimal digits that identify a model's configuration and weights."""
    import torch

    config = {
        key: value for key, value in to_dict(classifier.config).items() if key not in ("scores", "training", "split")
    }
    digest = hashlib.sha256(json.dumps(config, sort_keys=True, default=str).encode())
    for name, tensor in classifier.network.state_dict().items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()[:16]


def to_table(columns: dict[str, list[Any]], schema: pa.Schema) -> pa.Table:
    """Returns the columns of :func:`~musgenre.scale.predict_batch` as rows of a collection, with the model."""
    pa = require("pyarrow")
    count = len(columns["id"])
    model = {name: [schema.metadata[f"musgenre.{name}".encode()].decode()] * count for name in ("model", "revision")}
    rows = {**columns, **model}
    return pa.table({field.name: pa.array(rows[field.name], field.type) for field in schema}, schema=schema)
