"""One look-up for features, backbones and datasets, wherever they come from.

Built-ins, entry points of installed packages and decorated functions all end in
:meth:`Registry.get`. Listing imports nothing; a plugin that fails to import fails only when it is
asked for.

A name that ends in a slash, such as ``"timm/"``, stands for a family of names that another library knows. What is
registered under it is a function from the rest of a name to the factory: ``get("timm/resnet18")`` is what the function
gives for ``"resnet18"``.
"""

from __future__ import annotations

import difflib
import importlib.metadata
import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from musgenre.core.errors import ConfigError, MusgenreError, ParameterError, PluginError, UnknownNameError

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])

_POSITIONAL_ONLY, _POSITIONAL = inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD
_FEW = 30
"""As many names are listed in a message."""


@dataclass(frozen=True)
class Entry:
    """One name in a registry.

    Attributes:
        name: The name to ask for; one that ends in a slash begins the names of a family.
        origin: ``"musgenre"``, the name of the installed package, or ``"registered here"``.
        target: ``"module:attribute"`` of the factory, or of a family's function.
    """

    name: str
    origin: str
    target: str


class Registry(Generic[T]):
    """Factories by name.

    Args:
        kind: What is registered, in the singular, for messages: ``"backbone"``.
        group: The entry-point group in which other packages announce theirs.
        builtins: Name to ``"module:attribute"``, the form that entry points have as well.
        positional: How many leading parameters of a factory may be positional.

    Example:
        >>> shapes = Registry("shape", group="example.shapes", builtins={"ordered": "collections:OrderedDict"})
        >>> @shapes.register("square")
        ... def square(*, side: float) -> float:
        ...     return side * side
        >>> shapes.build("square", {"side": 3.0})
        9.0
        >>> shapes.names()
        ['ordered', 'square']
        >>> @shapes.register("polygon/")
        ... def polygon(sides: str):
        ...     def make(*, side: float = 1.0) -> float:
        ...         return int(sides) * side
        ...     return make
        >>> shapes.build("polygon/4", {"side": 3.0})
        12.0
        >>> shapes.get("squara")
        Traceback (most recent call last):
        ...
        musgenre.core.errors.UnknownNameError: There is no shape 'squara'. Close: square. All: ...
    """

    def __init__(self, kind: str, *, group: str, builtins: Mapping[str, str], positional: int = 0) -> None:
        self.kind = kind
        self.group = group
        self._positional = positional
        self._builtins = {name: importlib.metadata.EntryPoint(name, target, group) for name, target in builtins.items()}
        self._registered: dict[str, Callable[..., T]] = {}

    def register(self, name: str) -> Callable[[F], F]:
        """Returns a decorator that registers a factory, or with a slash at the end a family, in this process.

        To register again under the same name (a notebook's cell that runs twice) replaces what was
        registered here before; a built-in cannot be replaced.

        Raises:
            ParameterError: The name is empty or a built-in's.
            PluginError: The factory takes ``*args``, ``**kwargs`` or too many positional parameters, or a family's
                function something else than one name.
        """
        if not name or name != name.strip():
            raise ParameterError(f"A {self.kind} needs a name without outer spaces, not {name!r}.")
        if name in self._builtins:
            raise ParameterError(f"{name!r} is a {self.kind} of musgenre itself: choose another name.")

        def decorate(factory: F) -> F:
            self._check(name, factory)
            self._registered[name] = factory
            return factory

        return decorate

    def unregister(self, name: str) -> None:
        """Takes back what :meth:`register` did in this process.

        Raises:
            UnknownNameError: Nothing was registered here under that name.
        """
        if name not in self._registered:
            raise unknown_name(name, kind=f"{self.kind} registered here", names=self._registered)
        del self._registered[name]

    def registered(self) -> dict[str, Callable[..., T]]:
        """Returns the factories that were registered in this process, by name."""
        return dict(self._registered)

    def get(self, name: str) -> Callable[..., T]:
        """Returns the factory called ``name``, importing it if need be.

        Raises:
            UnknownNameError: Nothing has that name; the message lists close ones.
            PluginError: The plugin fails to import (the cause is chained), is announced by two
                packages, or does not have the signature that the contract asks for.
        """
        names, family = self.names(), name[: name.find("/") + 1]
        if family in names and (name == family or name not in names):
            return self._member(family, name.removeprefix(family))
        return self._find(name)

    def build(self, name: str, options: Mapping[str, Any]) -> T:
        """Calls the factory called ``name`` with ``options`` as keyword arguments.

        Raises:
            ConfigError: The factory has no such option, or a required one is missing.
            UnknownNameError, PluginError: As :meth:`get`.
        """
        factory = self.get(name)
        known = inspect.signature(factory).parameters
        for option in options:
            if option not in known:
                close = close_names(option, known)
                raise ConfigError(
                    f"The {self.kind} {name!r} has no option {option!r}.{close} Its options: {', '.join(known)}."
                )
        missing = [p.name for p in known.values() if p.default is p.empty and p.name not in options]
        if missing:
            raise ConfigError(f"The {self.kind} {name!r} needs the options {', '.join(missing)}.")
        return factory(**options)

    def accepts(self, name: str, option: str) -> bool:
        """Says whether the factory called ``name`` has a parameter called ``option``."""
        return option in inspect.signature(self.get(name)).parameters

    def names(self) -> list[str]:
        """Returns every name, sorted, and families without their members; imports none of the factories."""
        return sorted({entry.name for entry in self.entries()})

    def entries(self) -> list[Entry]:
        """Returns every entry with its origin, sorted by name; imports none of the factories."""
        entries = [
            Entry(point.name, _origin(point), point.value) for points in self._announced().values() for point in points
        ]
        entries += [
            Entry(name, "registered here", f"{factory.__module__}:{_qualname(factory)}")
            for name, factory in self._registered.items()
        ]
        return sorted(entries, key=lambda entry: (entry.name, entry.origin))

    def broken(self) -> dict[str, MusgenreError]:
        """Imports what other packages announce, and returns the error of each name that does not work.

        A function of a family is imported and not called: it has no members of its own.
        """
        names = sorted({entry.name for entry in self.entries() if entry.origin != "musgenre"})
        return {name: error for name in names if (error := self._error(name)) is not None}

    def __contains__(self, name: object) -> bool:
        return name in self.names()

    def _find(self, name: str) -> Callable[..., Any]:
        if name in self._registered:
            return self._registered[name]
        found = self._announced().get(name, [])
        if not found:
            raise unknown_name(name, kind=self.kind, names=self.names())
        if len(found) > 1:
            origins = " and ".join(_origin(point) for point in found)
            raise PluginError(f"The {self.kind} {name!r} is announced by {origins}: uninstall one of them.")
        point = found[0]
        try:
            factory: Callable[..., Any] = point.load()
        except (Exception, SystemExit) as error:
            raise PluginError(
                f"The {self.kind} {name!r} of {_origin(point)} ({point.value}) failed to import: {error!r}."
            ) from error
        self._check(name, factory)
        return factory

    def _error(self, name: str) -> MusgenreError | None:
        try:
            self._find(name)
        except MusgenreError as error:
            return error
        return None

    def _member(self, family: str, member: str) -> Callable[..., T]:
        if not member:
            raise UnknownNameError(
                f"{family!r} begins the names of a family: put the name of one {self.kind} after it."
            )
        find = self._find(family)
        try:
            factory: Callable[..., T] = find(member)
        except MusgenreError:
            raise
        except Exception as error:
            raise PluginError(
                f"The {self.kind} {family + member!r} cannot be had from its family: {error!r}."
            ) from error
        self._check(family + member, factory)
        return factory

    def _announced(self) -> dict[str, list[importlib.metadata.EntryPoint]]:
        announced = {name: [point] for name, point in self._builtins.items()}
        for point in importlib.metadata.entry_points(group=self.group):
            announced.setdefault(point.name, []).append(point)
        return announced

    def _check(self, name: str, factory: Callable[..., Any]) -> None:
        if not callable(factory):
            raise PluginError(f"The {self.kind} {name!r} must be a callable, not {type(factory).__name__}.")
        try:
            parameters = list(inspect.signature(factory).parameters.values())
        except ValueError as error:
            raise PluginError(
                f"The {self.kind} {name!r} does not tell its parameters: wrap it in a function."
            ) from error
        if name.endswith("/"):
            if len(parameters) != 1 or parameters[0].kind not in (_POSITIONAL, _POSITIONAL_ONLY):
                raise PluginError(f"The family {name!r} must take one thing, the name of a {self.kind} in it.")
            return
        wrong = [
            str(p)
            for place, p in enumerate(parameters)
            if p.kind is not p.KEYWORD_ONLY
            and (place >= self._positional or p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD))
        ]
        if wrong:
            raise PluginError(
                f"The {self.kind} {name!r} takes {', '.join(wrong)}: name every option as a keyword-only "
                "parameter (after a '*'), so that a misspelled one is an error."
            )


def unknown_name(name: str, *, kind: str, names: Iterable[str]) -> UnknownNameError:
    """Returns the error for a name that is not there; the function of a family raises it for its own names.

    Args:
        name: The name that was asked for.
        kind: What was asked for, in the singular.
        names: The names that there are.

    Example:
        >>> unknown_name("resnet81", kind="backbone", names=["resnet18", "vgg11"])
        UnknownNameError("There is no backbone 'resnet81'. Close: resnet18. All: resnet18, vgg11.")
    """
    known = list(names)
    listed = f"All: {', '.join(known) or 'none'}." if len(known) <= _FEW else f"There are {len(known)} others."
    return UnknownNameError(f"There is no {kind} {name!r}.{close_names(name, known)} {listed}")


def _origin(point: importlib.metadata.EntryPoint) -> str:
    return point.dist.name if point.dist is not None else "musgenre"


def _qualname(factory: Callable[..., Any]) -> str:
    # A functools.partial, or an object with __call__, has no name of its own.
    return str(getattr(factory, "__qualname__", type(factory).__qualname__))


def close_names(name: str, names: Iterable[str]) -> str:
    """Returns what an error adds where some names are like the unknown one, a space before it; else nothing.

    Example:
        >>> close_names("job", ["jobs", "seeds"])
        ' Close: jobs.'
    """
    close = difflib.get_close_matches(name, list(names), n=3)
    return f" Close: {', '.join(close)}." if close else ""
