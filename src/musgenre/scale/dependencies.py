"""Imports of the optional dependencies in the extra ``scale``."""

from __future__ import annotations

import importlib
from typing import Any

from musgenre.core.errors import ParameterError


def require(name: str) -> Any:
    """Imports a module of the extra.

    Args:
        name: Full name of the module, such as ``"pyarrow.dataset"``.

    Raises:
        ParameterError: The module is not installed.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise ParameterError(f'{error}: install the extra with pip install "musgenre[scale]".') from error
