"""What the functions here ask of their parameters."""

from __future__ import annotations

import math
import numbers

from musgenre.errors import ParameterError


def check_positive(**counts: object) -> None:
    """Checks parameters that count something, given by name.

    Raises:
        ParameterError: One is not a whole number of at least 1.
    """
    for name, value in counts.items():
        if isinstance(value, bool) or not isinstance(value, numbers.Integral) or int(value) < 1:
            raise ParameterError(f"{name} must be a whole number of at least 1, not {value!r}.")


def is_power(value: object) -> bool:
    """Says whether a value is a positive, finite number."""
    return isinstance(value, numbers.Real) and 0 < float(value) < math.inf
