"""Registries of features, backbones and datasets.

A registry finds built-in factories, the entry points of installed packages and factories that were registered with a
decorator. Listing imports nothing; a plugin that fails to import raises only when it is requested.

A name that ends in a slash, such as ``"timm/"``, registers a family of names that another library defines. The
function under it maps the rest of a name to a factory: ``get("timm/resnet18")`` calls it with ``"resnet18"``.
"""

from __future__ import annotations

import contextlib
import difflib
import importlib.metadata
import inspect
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from musgenre.core.errors import ConfigError, MusgenreError, ParameterError, PluginError, UnknownNameError

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])

_POSITIONAL_ONLY, _POSITIONAL = inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD
_MAX_LISTED = 30
"""Maximum number of names that a message lists."""


@dataclass(frozen=True)
class Entry:
    """A name in a registry, without its factory, which listing does not import.

    Attributes:
        name: The registered name; a trailing slash marks a family.
        origin: ``"musgenre"``, the name of the installed package, or ``"registered here"``.
        target: ``"module:attribute"`` of the factory, or of a family's function.
    """

    name: str
    origin: str
    target: str


class Registry(Generic[T]):
    """Factories by name.

    Args:
        kind: Singular noun for what is registered, used in messages: ``"backbone"``.
        group: The entry-point group of other packages' factories.
        builtins: Name to ``"module:attribute"``, the format of entry points.
        positional: Number of leading parameters of a factory that may be positional.

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
        ...     def perimeter(*, side: float = 1.0) -> float:
        ...         return int(sides) * side
        ...     return perimeter
        >>> shapes.build("polygon/4", {"side": 3.0})
        12.0
        >>> shapes.get("squara")
        Traceback (most recent call last):
        ...
        musgenre.core.errors.UnknownNameError: There is no shape 'squara'. Did you mean 'square'? Available: ...
    """

    def __init__(self, kind: str, *, group: str, builtins: Mapping[str, str], positional: int = 0) -> None:
        self.kind = kind
        self.group = group
        self._positional = positional
        self._builtins = {name: importlib.metadata.EntryPoint(name, target, group) for name, target in builtins.items()}
        self._registered: dict[str, Callable[..., T]] = {}

    def register(self, name: str) -> Callable[[F], F]:
        """Returns a decorator that registers a factory in this process, or a family if ``name`` ends in a slash.

        Registering a name again replaces the earlier factory, as when a notebook cell is run twice. Built-in names
        cannot be replaced.

        Raises:
            ParameterError: The name is empty, has leading or trailing spaces, or is built in.
            PluginError: The factory takes ``*args``, ``**kwargs`` or too many positional parameters, or a family's
                function does not take exactly one name.
        """
        if not name or name != name.strip():
            raise ParameterError(f"A {self.kind} needs a name without leading or trailing spaces, got {name!r}.")
        if name in self._builtins:
            raise ParameterError(f"{name!r} is a built-in {self.kind}: choose another name.")

        def decorate(factory: F) -> F:
            self._check(name, factory)
            self._registered[name] = factory
            return factory

        return decorate

    def unregister(self, name: str) -> None:
        """Removes a factory that :meth:`register` added in this process.

        Raises:
            UnknownNameError: No factory was registered under that name in this process.
        """
        if name not in self._registered:
            raise unknown_name(name, kind=f"{self.kind} registered here", names=self._registered)
        del self._registered[name]

    def registered(self) -> dict[str, Callable[..., T]]:
        """Returns the factories that were registered in this process, by name."""
        return dict(self._registered)

    @contextlib.contextmanager
    def temporary(self, name: str, factory: Callable[..., T]) -> Iterator[None]:
        """Registers a factory for the duration of a ``with`` block, for tests.

        A factory that was registered under the same name is restored afterwards.

        Raises:
            ParameterError, PluginError: As :meth:`register`.

        Example:
            >>> shapes = Registry("shape", group="example.shapes", builtins={})
            >>> with shapes.temporary("square", lambda *, side: side * side):
            ...     shapes.names()
            ['square']
            >>> shapes.names()
            []
        """
        previous = self._registered.get(name)
        self.register(name)(factory)
        try:
            yield
        finally:
            self._registered.pop(name, None)
            if previous is not None:
                self._registered[name] = previous

    def get(self, name: str) -> Callable[..., T]:
        """Returns a factory, importing it if necessary.

        Raises:
            UnknownNameError: There is no such name; the message suggests similar ones.
            PluginError: The plugin fails to import (the cause is chained), two packages declare the name, or the
                factory's signature breaks the contract.
        """
        names, family = self.names(), name[: name.find("/") + 1]
        if family in names and (name == family or name not in names):
            return self._load_member(family, name.removeprefix(family))
        return self._load(name)

    def build(self, name: str, options: Mapping[str, Any]) -> T:
        """Calls a factory with ``options`` as keyword arguments.

        Raises:
            ConfigError: The factory has no such option, or a required one is missing.
            UnknownNameError, PluginError: As :meth:`get`.
        """
        factory = self.get(name)
        known = inspect.signature(factory).parameters
        for option in options:
            if option not in known:
                raise ConfigError(
                    f"The {self.kind} {name!r} got an unexpected option {option!r}.{did_you_mean(option, known)} "
                    f"Available: {', '.join(known) or 'none'}."
                )
        missing = [p.name for p in known.values() if p.default is p.empty and p.name not in options]
        if missing:
            raise ConfigError(f"The {self.kind} {name!r} requires the options {', '.join(missing)}.")
        return factory(**options)

    def accepts(self, name: str, option: str) -> bool:
        """Returns whether a factory has a parameter called ``option``."""
        return option in inspect.signature(self.get(name)).parameters

    def names(self) -> list[str]:
        """Returns all names, sorted, with families but without their members; imports no factory."""
        return sorted({entry.name for entry in self.entries()})

    def entries(self) -> list[Entry]:
        """Returns all entries with their origins, sorted by name; imports no factory."""
        points = itertools.chain.from_iterable(self._entry_points().values())
        entries = [Entry(point.name, _origin(point), point.value) for point in points]
        entries += [
            Entry(name, "registered here", f"{factory.__module__}:{_qualname(factory)}")
            for name, factory in self._registered.items()
        ]
        return sorted(entries, key=lambda entry: (entry.name, entry.origin))

    def broken(self) -> dict[str, MusgenreError]:
        """Imports all plugins and returns the errors of those that do not work, by name.

        The function of a family is imported but not called.
        """
        names = sorted({entry.name for entry in self.entries() if entry.origin != "musgenre"})
        return {name: error for name in names if (error := self._error(name)) is not None}

    def __contains__(self, name: object) -> bool:
        return name in self.names()

    def _load(self, name: str) -> Callable[..., Any]:
        if name in self._registered:
            return self._registered[name]
        points = self._entry_points().get(name, [])
        if not points:
            raise unknown_name(name, kind=self.kind, names=self.names())
        if len(points) > 1:
            origins = " and ".join(map(_origin, points))
            raise PluginError(f"The {self.kind} {name!r} is declared by {origins}: uninstall one of them.")
        (point,) = points
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
            self._load(name)
        except MusgenreError as error:
            return error
        return None

    def _load_member(self, family: str, member: str) -> Callable[..., T]:
        if not member:
            raise UnknownNameError(f"{family!r} is a family of names: append the name of a {self.kind} to it.")
        find = self._load(family)
        try:
            factory: Callable[..., T] = find(member)
        except MusgenreError:
            raise
        except Exception as error:
            raise PluginError(f"The {self.kind} {family + member!r} could not be created: {error!r}.") from error
        self._check(family + member, factory)
        return factory

    def _entry_points(self) -> dict[str, list[importlib.metadata.EntryPoint]]:
        points = {name: [point] for name, point in self._builtins.items()}
        for point in importlib.metadata.entry_points(group=self.group):
            points.setdefault(point.name, []).append(point)
        return points

    def _check(self, name: str, factory: Callable[..., Any]) -> None:
        if not callable(factory):
            raise PluginError(f"The {self.kind} {name!r} must be a callable, not {type(factory).__name__}.")
        try:
            parameters = list(inspect.signature(factory).parameters.values())
        except ValueError as error:
            raise PluginError(
                f"The {self.kind} {name!r} has no signature that can be inspected: wrap it in a function."
            ) from error
        if name.endswith("/"):
            if len(parameters) != 1 or parameters[0].kind not in (_POSITIONAL, _POSITIONAL_ONLY):
                raise PluginError(f"The family {name!r} must take one argument, the name of a {self.kind} in it.")
            return
        wrong = [
            str(p)
            for position, p in enumerate(parameters)
            if p.kind is not p.KEYWORD_ONLY
            and (position >= self._positional or p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD))
        ]
        if wrong:
            raise PluginError(
                f"The {self.kind} {name!r} takes {', '.join(wrong)}: name every option as a keyword-only "
                "parameter (after a '*'), so that a misspelled one is an error."
            )


def unknown_name(name: str, *, kind: str, names: Iterable[str]) -> UnknownNameError:
    """Returns the error for an unknown name, with suggestions; also for the functions of families.

    Args:
        name: The unknown name.
        kind: Singular noun for what was requested.
        names: The names that exist.

    Example:
        >>> unknown_name("resnet81", kind="backbone", names=["resnet18", "vgg11"])
        UnknownNameError("There is no backbone 'resnet81'. Did you mean 'resnet18'? Available: resnet18, vgg11.")
    """
    known = list(names)
    many = len(known) > _MAX_LISTED
    listed = f"{len(known)} are available." if many else f"Available: {', '.join(known) or 'none'}."
    return UnknownNameError(f"There is no {kind} {name!r}.{did_you_mean(name, known)} {listed}")


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """Returns a suggestion of similar names for an error message, with a leading space; empty if there are none.

    Example:
        >>> did_you_mean("job", ["jobs", "seeds"])
        " Did you mean 'jobs'?"
    """
    similar = difflib.get_close_matches(name, list(names), n=3)
    return f" Did you mean {' or '.join(map(repr, similar))}?" if similar else ""


def _origin(point: importlib.metadata.EntryPoint) -> str:
    return point.dist.name if point.dist is not None else "musgenre"


def _qualname(factory: Callable[..., Any]) -> str:
    # A functools.partial, or an object with __call__, has no __qualname__.
    return str(getattr(factory, "__qualname__", type(factory).__qualname__))
