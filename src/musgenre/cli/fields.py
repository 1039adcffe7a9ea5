"""Commands of many options, each a dataclass."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any, TypeVar, get_type_hints

Options = TypeVar("Options")


def command_of(kind: type[Options]) -> Callable[[Callable[[Options], None]], Callable[..., None]]:
    """Returns a decorator that makes a function of one dataclass what typer makes a command of.

    Each field becomes an argument or an option, as its annotation (``Annotated[..., typer.Option(...)]``) says.

    Args:
        kind: The dataclass.

    Example:
        >>> @dataclasses.dataclass
        ... class Greeting:
        ...     name: str
        ...     loud: bool = False
        >>> @command_of(Greeting)
        ... def greet(options: Greeting) -> None:
        ...     told.append(options)
        >>> told = []
        >>> greet(name="Ella"), told
        (None, [Greeting(name='Ella', loud=False)])
        >>> inspect.signature(greet)
        <Signature (*, name: str, loud: bool = False) -> None>
    """

    def decorate(function: Callable[[Options], None]) -> Callable[..., None]:
        def command(**values: Any) -> None:
            function(kind(**values))

        hints = get_type_hints(kind, include_extras=True)
        parameters = [
            inspect.Parameter(
                field.name,
                inspect.Parameter.KEYWORD_ONLY,
                default=inspect.Parameter.empty if field.default is dataclasses.MISSING else field.default,
                annotation=hints[field.name],
            )
            for field in dataclasses.fields(kind)  # type: ignore[arg-type]
        ]
        # Read by typer in place of the function's own.
        command.__signature__ = inspect.Signature(parameters, return_annotation=None)  # type: ignore[attr-defined]
        command.__annotations__ = {**hints, "return": None}
        command.__name__, command.__doc__ = function.__name__, function.__doc__
        return command

    return decorate
