"""Features and backbones that are registered in this process alone, on their way to the processes that train folds."""

from __future__ import annotations

import pickle
from typing import Any

import joblib  # type: ignore[import-untyped]

from musgenre.backbones.base import BACKBONES
from musgenre.core.config import Component
from musgenre.core.errors import PluginError
from musgenre.core.registry import Registry
from musgenre.features.base import FEATURES
from musgenre.training.recipes import Recipe

_REGISTRIES: dict[str, Registry[Any]] = {"backbone": BACKBONES, "feature": FEATURES}
_INSTEAD = "Put it into an installed package with an entry point, or train with jobs=1."

Parcel = tuple[str, str, bytes]
"""Kind and name of a plugin, and its factory pickled."""


def packed(recipe: Recipe) -> list[Parcel]:
    """Returns what of a recipe a new process would not find by its name.

    Raises:
        UnknownNameError: There is no such backbone or feature.
        PluginError: What is registered here cannot be pickled; or a plugin fails to import.
    """
    backbone = Component.of(recipe.backbone).name
    default = BACKBONES.entry(backbone).default_feature
    feature = Component.of(recipe.feature or default).name
    return [_pack(kind, name) for kind, name in (("backbone", backbone), ("feature", feature)) if _is_here(kind, name)]


def unpack(parcels: list[Parcel]) -> None:
    """Registers in this process what another one has packed.

    Raises:
        PluginError: What a plugin is made of cannot be imported here.
    """
    for kind, name, pickled in parcels:
        try:
            # Pickled by the process that started this one.
            [factory] = pickle.loads(pickled)  # nosec B301
        except Exception as error:
            raise PluginError(
                f"The {kind} {name!r} is registered in the process that asks alone, and a process that trains a fold "
                f"cannot be given it: {error!r}. {_INSTEAD}"
            ) from error
        _REGISTRIES[kind].register(name)(factory)


def _is_here(kind: str, name: str) -> bool:
    here = [entry.name for entry in _REGISTRIES[kind].entries() if entry.origin == "registered here"]
    return name in here or any(name.startswith(family) for family in here if family.endswith("/"))


def _pack(kind: str, name: str) -> Parcel:
    try:
        # By value where the factory was defined in a notebook, a script or a function; by name where in a module. In a
        # list, because joblib wraps the making of instances where it is given a class.
        factory = joblib.wrap_non_picklable_objects([_REGISTRIES[kind].get(name)], keep_wrapper=False)
        return kind, name, pickle.dumps(factory)
    except (pickle.PicklingError, TypeError, AttributeError) as error:
        raise PluginError(f"The {kind} {name!r} cannot be sent to another process: {error}. {_INSTEAD}") from error
