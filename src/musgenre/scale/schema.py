"""The rows of a collection: their columns, and the version that is kept in every Parquet file."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from musgenre.core.config import ModelConfig, to_dict
from musgenre.scale.dependencies import needed

if TYPE_CHECKING:
    import pyarrow as pa

    from musgenre.models.classifier import GenreClassifier

SCHEMA_VERSION = 1
"""Version of the rows, ``musgenre.schema_version`` in a file's metadata; it rises when a column changes its meaning."""


def schema_of(
    config: ModelConfig, *, revision: str, embedding_size: int | None = None, windows: bool = False
) -> pa.Schema:
    """Returns the columns of a collection that a model has predicted.

    Args:
        config: The model.
        revision: What :func:`revision_of` says of it.
        embedding_size: Length of the embeddings, where there is a column of them.
        windows: Whether there is a column of windows.

    Raises:
        ParameterError: The extra ``scale`` is not installed.
    """
    pa = needed("pyarrow")
    told = {
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
    return pa.schema(columns, metadata={f"musgenre.{key}": value for key, value in told.items()})


def revision_of(classifier: GenreClassifier) -> str:
    """Returns 16 hexadecimal digits that differ whenever a model's configuration or weights do."""
    import torch

    told = {
        key: value for key, value in to_dict(classifier.config).items() if key not in ("scores", "training", "split")
    }
    digest = hashlib.sha256(json.dumps(told, sort_keys=True, default=str).encode())
    for name, tensor in classifier.network.state_dict().items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()[:16]


def table_of(columns: dict[str, list[Any]], schema: pa.Schema) -> pa.Table:
    """Returns the columns that :func:`~musgenre.scale.predict_batch` gives, and the model, as rows of a collection."""
    pa = needed("pyarrow")
    count = len(columns["id"])
    model = {name: [schema.metadata[f"musgenre.{name}".encode()].decode()] * count for name in ("model", "revision")}
    told = {**columns, **model}
    return pa.table({field.name: pa.array(told[field.name], field.type) for field in schema}, schema=schema)
