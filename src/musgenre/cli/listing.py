"""``musgenre list``."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from musgenre.registry import Registry


class Kind(str, enum.Enum):
    """What ``musgenre list`` can list."""

    backbones = "backbones"
    features = "features"
    datasets = "datasets"


def list_entries(kind: Annotated[Kind, typer.Argument(help="What to list.")]) -> None:
    """List what is built in, installed or announced by other packages.

    A name that ends in NAME stands for a whole family of names that another library knows.
    """
    entries = _registry(kind).entries()
    names = [f"{entry.name}NAME" if entry.name.endswith("/") else entry.name for entry in entries]
    width = max(map(len, names), default=0)
    for name, entry in zip(names, entries, strict=True):
        typer.echo(f"{name:<{width}}  {entry.origin:<16} {entry.target}")


def _registry(kind: Kind) -> Registry[Any]:
    from musgenre.backbones.base import BACKBONES
    from musgenre.datasets.base import DATASETS
    from musgenre.features.base import FEATURES

    registries: dict[Kind, Registry[Any]] = {
        Kind.backbones: BACKBONES,
        Kind.features: FEATURES,
        Kind.datasets: DATASETS,
    }
    return registries[kind]
