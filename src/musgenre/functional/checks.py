"""Validation of parameters that several functions share."""

from __future__ import annotations

import math
import numbers

from musgenre.core.errors import ParameterError

_MAX_MATRIX_VALUES = 2**24


def check_positive(**values: object) -> None:
    """Check that parameters are positive integers.

    Args:
        **values: Each value under the name of its parameter, which the message shows.

    Raises:
        ParameterError: A value is not an integer of at least 1.
    """
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, numbers.Integral) or int(value) < 1:
            raise ParameterError(f"{name} must be a positive integer, not {value!r}.")


def check_matrix_size(rows: int, columns: int, *, name: str) -> None:
    """Check the size of a matrix before memory is allocated for it.

    Args:
        rows: Number of rows.
        columns: Number of columns.
        name: Name of the matrix for the message, in the singular.

    Raises:
        ParameterError: The matrix would have more than 16,777,216 entries.
    """
    if rows * columns > _MAX_MATRIX_VALUES:
        raise ParameterError(
            f"The {name} would have {rows} x {columns} entries, more than the limit of {_MAX_MATRIX_VALUES:,}."
        )


def is_positive_finite(value: object) -> bool:
    """Return whether a value is a positive, finite real number."""
    return isinstance(value, numbers.Real) and 0 < float(value) < math.inf
