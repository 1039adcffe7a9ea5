"""What a bug report needs to know of an installation."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from musgenre.core.registry import Registry

_OF_MUSGENRE = {"app-test", "bench", "dev", "docs", "lint", "test"}
"""Extras for those who work on musgenre itself."""


def facts(registries: Mapping[str, Registry[Any]]) -> dict[str, str | list[str]]:
    """Returns versions, devices, caches and plugins, by name.

    Args:
        registries: The registries by kind, in the plural.
    """
    import huggingface_hub.constants
    import torch

    from musgenre.core.download import cache_directory
    from musgenre.models.serialization import BUNDLED, DEFAULT_MODEL

    packages, extras = _packages()
    return {
        "musgenre": f"{importlib.metadata.version('musgenre')} in {Path(__file__).parents[1]}",
        "python": f"{platform.python_version()} ({platform.python_implementation()})",
        "system": f"{platform.platform()}, {os.cpu_count()} processors",
        "packages": packages,
        "extras": extras,
        "devices": _devices(),
        "threads": str(torch.get_num_threads()),
        "default model": DEFAULT_MODEL,
        "bundled models": sorted(BUNDLED),
        "cache": _size_of(cache_directory(), variable="MUSGENRE_CACHE"),
        "cache of the hub": _size_of(Path(huggingface_hub.constants.HF_HUB_CACHE), variable="HF_HOME"),
        "plugins": _plugins(registries),
    }


def _packages() -> tuple[list[str], list[str]]:
    """Returns what musgenre needs, and what its extras need, each with its version."""
    needed: list[str] = []
    extras: dict[str, list[str]] = {}
    for requirement in importlib.metadata.requires("musgenre") or ():
        name = re.match(r"[\w.-]+", requirement)
        extra = re.search(r"""extra\s*==\s*["']([\w-]+)["']""", requirement)
        if name is None or name[0] == "musgenre" or (extra and extra[1] in _OF_MUSGENRE):
            continue
        told = f"{name[0]} {_version(name[0])}"
        if extra:
            extras.setdefault(extra[1], []).append(told)
        else:
            needed.append(told)
    return needed, [f"{extra}: {', '.join(told)}" for extra, told in sorted(extras.items())]


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "is missing"


def _devices() -> list[str]:
    import torch

    gpus = [f"cuda:{place} {torch.cuda.get_device_name(place)}" for place in range(torch.cuda.device_count())]
    return [*gpus, f"cpu {platform.processor() or platform.machine()}"]


def _size_of(directory: Path, *, variable: str) -> str:
    files = [path for path in directory.rglob("*") if path.is_file()] if directory.is_dir() else []
    size = sum(path.stat().st_size for path in files if not path.is_symlink())
    named = os.environ.get(variable)
    return f"{directory}, {size / 1e6:,.1f} MB ({variable} is {named if named else 'not set'})"


def _plugins(registries: Mapping[str, Registry[Any]]) -> list[str]:
    told = []
    for kind, registry in registries.items():
        broken = registry.broken()
        for entry in registry.entries():
            if entry.origin != "musgenre":
                state = f"broken: {broken[entry.name]}" if entry.name in broken else "works"
                told.append(f"{entry.name} ({kind}) of {entry.origin} {_version(entry.origin)}: {state}")
    return told
