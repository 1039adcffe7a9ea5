"""``musgenre list``, ``musgenre info`` and ``musgenre check``: what is here, and whether it works."""

from __future__ import annotations

import enum
import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from musgenre.core.errors import ContractError, UnknownNameError

if TYPE_CHECKING:
    from musgenre.core.registry import Registry


class Kind(str, enum.Enum):
    """What ``musgenre list`` can list."""

    backbones = "backbones"
    features = "features"
    datasets = "datasets"


AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def list_entries(
    kind: Annotated[
        Kind | None, typer.Argument(help="What to list; all three unless told.", show_default=False)
    ] = None,
    *,
    as_json: AsJson = False,
) -> None:
    """List what is built in and what other packages announce, where it comes from, and what of it is broken.

    A name that ends in NAME stands for a whole family of names that another library knows.
    """
    rows = [row for one in ([kind] if kind else Kind) for row in _rows(one)]
    if as_json:
        typer.echo(json.dumps(rows, indent=2, ensure_ascii=False))
        return
    width = max((len(row["name"]) for row in rows), default=0)
    for place, row in enumerate(rows):
        if kind is None and (place == 0 or rows[place - 1]["kind"] != row["kind"]):
            typer.echo(f"{'' if place == 0 else chr(10)}{row['kind']}:")
        typer.echo(f"{row['name']:<{width}}  {row['origin']:<16} {row['target']}")
        if row["error"]:
            typer.echo(f"{'':<{width}}  broken: {row['error']}")


def info(*, as_json: AsJson = False) -> None:
    """Print versions, device, cache and plugins, for a bug report."""
    from musgenre.cli.environment import facts

    found = facts({kind.value: _registry(kind) for kind in Kind})
    if as_json:
        typer.echo(json.dumps(found, indent=2, ensure_ascii=False))
        return
    width = max(map(len, found))
    for name, value in found.items():
        lines = value if isinstance(value, list) else [value]
        for place, line in enumerate(lines or ["none"]):
            typer.echo(f"{name if place == 0 else '':<{width}}  {line}")


def check(
    name: Annotated[str, typer.Argument(help="A name from 'musgenre list backbones' or 'musgenre list features'.")],
    *,
    sample_rate: Annotated[int, typer.Option(min=1, help="The rate of the audio, in hertz.")] = 22_050,
    skip: Annotated[
        list[str] | None, typer.Option(help="A check to leave out; can be given more than once.", show_default=False)
    ] = None,
) -> None:
    """Hold a backbone or feature of yours to all that musgenre relies on; what it breaks is told in words."""
    from musgenre.backbones.base import BACKBONES
    from musgenre.features.base import FEATURES
    from musgenre.testing.backbones import check_backbone
    from musgenre.testing.features import check_feature

    one = check_feature if name in FEATURES else check_backbone
    if name in FEATURES and name in BACKBONES:
        raise UnknownNameError(f"{name!r} is a feature and a backbone: rename one of them.")
    try:
        typer.echo(one(name, sample_rate=sample_rate, skip=skip or ()))
    except ContractError as error:
        typer.echo(error)
        raise typer.Exit(2) from error


def _rows(kind: Kind) -> list[dict[str, Any]]:
    registry = _registry(kind)
    broken = registry.broken()
    return [
        {
            "kind": kind.value,
            "name": f"{entry.name}NAME" if entry.name.endswith("/") else entry.name,
            "origin": entry.origin,
            "target": entry.target,
            "error": str(broken[entry.name]) if entry.name in broken else None,
        }
        for entry in registry.entries()
    ]


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
