"""``musgenre list``, ``musgenre info`` and ``musgenre check``."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from musgenre.cli.options import JsonOption
from musgenre.core.errors import ContractError, UnknownNameError

if TYPE_CHECKING:
    from musgenre.core.registry import Registry

DEVELOPMENT_EXTRAS = {"app-test", "bench", "dev", "docs", "lint", "test"}
"""Extras that ``musgenre info`` does not list."""


def list_entries(
    kind: Annotated[
        Literal["backbones", "features", "datasets"] | None,
        typer.Argument(help="Kind of components.", show_default="all kinds"),
    ] = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """List the available backbones, features and datasets.

    Includes components of other installed packages, and the errors of those that cannot be imported. A name that ends
    in NAME is a prefix, for all models of another library.
    """
    registries = {name: registry for name, registry in _registries().items() if kind in (None, name)}
    rows = [row for name, registry in registries.items() for row in _rows(name, registry)]
    if as_json:
        typer.echo(json.dumps(rows, indent=2, ensure_ascii=False))
        return
    width = max((len(row["name"]) for row in rows), default=0)
    previous = kind
    for index, row in enumerate(rows):
        if kind is None and row["kind"] != previous:
            previous = row["kind"]
            typer.echo(f"{'' if index == 0 else chr(10)}{previous}:")
        typer.echo(f"{row['name']:<{width}}  {row['origin']:<16} {row['target']}")
        if row["error"]:
            typer.echo(f"{'':<{width}}  broken: {row['error']}")


def info(*, as_json: JsonOption = False) -> None:
    """Print versions, devices, caches and plugins, for bug reports."""
    environment = _environment()
    if as_json:
        typer.echo(json.dumps(environment, indent=2, ensure_ascii=False))
        return
    width = max(map(len, environment))
    for name, value in environment.items():
        lines = value if isinstance(value, list) else [value]
        for index, line in enumerate(lines or ["none"]):
            typer.echo(f"{name if index == 0 else '':<{width}}  {line}")


def check(
    name: Annotated[str, typer.Argument(help="Name from 'musgenre list backbones' or 'musgenre list features'.")],
    *,
    sample_rate: Annotated[int, typer.Option(min=1, metavar="HERTZ", help="Sample rate of the audio.")] = 22_050,
    skip: Annotated[list[str] | None, typer.Option(metavar="CHECK", help="Check to skip; can be repeated.")] = None,
) -> None:
    """Check that a backbone or feature meets its contract, and report violations."""
    from musgenre.backbones.base import BACKBONES
    from musgenre.features.base import FEATURES
    from musgenre.testing.backbones import check_backbone
    from musgenre.testing.features import check_feature

    run = check_feature if name in FEATURES else check_backbone
    if name in FEATURES and name in BACKBONES:
        raise UnknownNameError(f"{name!r} is both a feature and a backbone: rename one of them.")
    try:
        typer.echo(run(name, sample_rate=sample_rate, skip=skip or ()))
    except ContractError as error:
        typer.echo(error)
        raise typer.Exit(2) from error


def _registries() -> dict[str, Registry[Any]]:
    from musgenre.backbones.base import BACKBONES
    from musgenre.datasets.base import DATASETS
    from musgenre.features.base import FEATURES

    return {"backbones": BACKBONES, "features": FEATURES, "datasets": DATASETS}


def _rows(kind: str, registry: Registry[Any]) -> list[dict[str, Any]]:
    broken = registry.broken()
    return [
        {
            "kind": kind,
            "name": f"{entry.name}NAME" if entry.name.endswith("/") else entry.name,
            "origin": entry.origin,
            "target": entry.target,
            "error": str(broken[entry.name]) if entry.name in broken else None,
        }
        for entry in registry.entries()
    ]


def _environment() -> dict[str, str | list[str]]:
    import huggingface_hub.constants
    import torch

    from musgenre.core.download import cache_directory
    from musgenre.models.serialization import BUNDLED, DEFAULT_MODEL

    packages, extras = _packages()
    return {
        "musgenre": f"{importlib.metadata.version('musgenre')} in {Path(__file__).parents[1]}",
        "python": f"{platform.python_version()} ({platform.python_implementation()})",
        "system": f"{platform.platform()}, {os.cpu_count()} CPUs",
        "packages": packages,
        "extras": extras,
        "devices": _devices(),
        "threads": str(torch.get_num_threads()),
        "default model": DEFAULT_MODEL,
        "bundled models": sorted(BUNDLED),
        "cache": _cache(cache_directory(), variable="MUSGENRE_CACHE"),
        "cache of the hub": _cache(Path(huggingface_hub.constants.HF_HUB_CACHE), variable="HF_HOME"),
        "plugins": _plugins(_registries()),
    }


def _packages() -> tuple[list[str], list[str]]:
    """Return the versions of the required packages, and of the packages of each extra."""
    required: list[str] = []
    extras: dict[str, list[str]] = {}
    for requirement in importlib.metadata.requires("musgenre") or ():
        name = re.match(r"[\w.-]+", requirement)
        extra = re.search(r"""extra\s*==\s*["']([\w-]+)["']""", requirement)
        if name is None or name[0] == "musgenre" or (extra and extra[1] in DEVELOPMENT_EXTRAS):
            continue
        packages = extras.setdefault(extra[1], []) if extra else required
        packages.append(f"{name[0]} {_version(name[0])}")
    return required, [f"{extra}: {', '.join(packages)}" for extra, packages in sorted(extras.items())]


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "(not installed)"


def _devices() -> list[str]:
    import torch

    gpus = [f"cuda:{index} {torch.cuda.get_device_name(index)}" for index in range(torch.cuda.device_count())]
    return [*gpus, f"cpu {platform.processor() or platform.machine()}"]


def _cache(directory: Path, *, variable: str) -> str:
    """Describe the path and the size of a cache, and the environment variable that moves it."""
    files = [path for path in directory.rglob("*") if path.is_file()] if directory.is_dir() else []
    size = sum(path.stat().st_size for path in files if not path.is_symlink())
    return f"{directory}, {size / 1e6:,.1f} MB ({variable} is {os.environ.get(variable) or 'not set'})"


def _plugins(registries: Mapping[str, Registry[Any]]) -> list[str]:
    plugins = []
    for kind, registry in registries.items():
        broken = registry.broken()
        for entry in registry.entries():
            if entry.origin != "musgenre":
                state = f"broken: {broken[entry.name]}" if entry.name in broken else "works"
                plugins.append(f"{entry.name} ({kind}) of {entry.origin} {_version(entry.origin)}: {state}")
    return plugins
