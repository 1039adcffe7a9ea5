"""What the functions here ask of their parameters."""

from __future__ import annotations

import math
import numbers

from musgenre.core.errors import ParameterError

_MOST_NUMBERS = 2**24


def check_positive(**counts: object) -> None:
    """Checks parameters that count something, given by name.

    Raises:
        ParameterError: One is not a whole number of at least 1.
    """
    for name, value in counts.items():
        if isinstance(value, bool) or not isinstance(value, numbers.Integral) or int(value) < 1:
            raise ParameterError(f"{name} must be a whole number of at least 1, not {value!r}.")


def check_size(rows: int, columns: int, *, what: str) -> None:
    """Checks that a matrix is of a size that a feature can have a use for, before memory is taken for it.

    Raises:
        ParameterError: It has more than 16,777,216 numbers.
    """
    if rows * columns > _MOST_NUMBERS:
        raise ParameterError(f"{what} of {rows} x {columns} numbers; at most {_MOST_NUMBERS:,} are possible.")


def is_power(value: object) -> bool:
    """Says whether a value is a positive, finite number."""
    return isinstance(value, numbers.Real) and 0 < float(value) < math.inf
