"""How a name or an option is taken back: it works and warns for a while, and says when it ends and what replaces it."""

from __future__ import annotations

import functools
import inspect
import warnings
from collections.abc import Callable
from typing import Any, TypeVar

from musgenre.core.errors import ParameterError

F = TypeVar("F", bound=Callable[..., Any])


def deprecated(*, since: str, until: str, instead: str) -> Callable[[F], F]:
    """Returns a decorator for a function or method that is going to be removed.

    Args:
        since: The version that first warns.
        until: The version that no longer has it; a test fails once that version has come.
        instead: What to write in its place.

    Example:
        >>> @deprecated(since="0.2", until="0.4", instead="predict()")
        ... def guess(song: str) -> str:
        ...     \"\"\"Guesses.\"\"\"
        ...     return "jazz"
        >>> with warnings.catch_warnings(record=True) as caught:
        ...     warnings.simplefilter("always")
        ...     guess("song.mp3"), str(caught[0].message)
        ('jazz', 'guess is deprecated since musgenre 0.2 and will be removed in 0.4: use predict().')
    """

    def decorate(function: F) -> F:
        told = _message(function.__qualname__, since=since, until=until, instead=instead)

        @functools.wraps(function)
        def warning(*args: Any, **kwargs: Any) -> Any:
            warnings.warn(told, DeprecationWarning, stacklevel=2)
            return function(*args, **kwargs)

        note = f".. deprecated:: {since}\n   Use {instead}; removed in {until}.\n"
        warning.__doc__ = f"{inspect.getdoc(function) or ''}\n\n{note}"
        return warning  # type: ignore[return-value]  # the same signature

    return decorate


def renamed(old: str, new: str, *, since: str, until: str) -> Callable[[F], F]:
    """Returns a decorator for a function whose keyword-only parameter ``old`` is called ``new`` from now on.

    Args:
        old: The name that is going to be removed.
        new: The name in the function's signature.
        since: The version that first warns.
        until: The version that no longer takes ``old``.

    Raises:
        ParameterError: From the function, when it is given both.

    Example:
        >>> @renamed("rate", "sample_rate", since="0.2", until="0.4")
        ... def seconds(samples: int, *, sample_rate: int) -> float:
        ...     return samples / sample_rate
        >>> with warnings.catch_warnings(record=True) as caught:
        ...     warnings.simplefilter("always")
        ...     seconds(16_000, rate=8_000), str(caught[0].message)
        (2.0, 'seconds(rate=) is deprecated since musgenre 0.2 and will be removed in 0.4: use sample_rate=.')
    """

    def decorate(function: F) -> F:
        told = _message(f"{function.__qualname__}({old}=)", since=since, until=until, instead=f"{new}=")

        @functools.wraps(function)
        def warning(*args: Any, **kwargs: Any) -> Any:
            if old in kwargs:
                if new in kwargs:
                    raise ParameterError(f"{function.__qualname__} was given {old!r} and {new!r}: give {new!r} alone.")
                warnings.warn(told, DeprecationWarning, stacklevel=2)
                kwargs[new] = kwargs.pop(old)
            return function(*args, **kwargs)

        return warning  # type: ignore[return-value]  # the same signature

    return decorate


def _message(what: str, *, since: str, until: str, instead: str) -> str:
    return f"{what} is deprecated since musgenre {since} and will be removed in {until}: use {instead}."
