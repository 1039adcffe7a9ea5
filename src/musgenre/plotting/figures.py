"""What all pictures share: axes of their own, and a file that is never half written."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from musgenre.atomic import replacing
from musgenre.errors import ParameterError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def own_axes(width: float, height: float) -> Axes:
    """Returns axes on a new figure of this size in inches, without ``pyplot``."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained").subplots()


def save_figure(figure: Figure, path: str | os.PathLike[str]) -> None:
    """Writes a figure as PNG beside its place and then moves it there, so that a picture is never half written.

    Raises:
        ParameterError: No file can be written at ``path`` (its directory is missing or read-only).
    """
    target = Path(path)
    try:
        with replacing(target) as partial:
            figure.savefig(partial, format="png")
    except OSError as error:
        raise ParameterError(f"The picture cannot be written to {str(target)!r}: {error.strerror or error}.") from error
