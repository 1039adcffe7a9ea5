"""What the extra ``scale`` brings, or a clear error."""

from __future__ import annotations

import importlib
from typing import Any

from musgenre.core.errors import ParameterError


def needed(name: str) -> Any:
    """Imports a module of the extra.

    Args:
        name: Its full name, such as ``"pyarrow.dataset"``.

    Raises:
        ParameterError: It is not installed.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise ParameterError(f'{error}: install the extra with pip install "musgenre[scale]".') from error
