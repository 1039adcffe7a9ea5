"""What all pictures share: colours, axes of their own, and a file that is never half written."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from musgenre.core.errors import ParameterError
from musgenre.core.files import atomic_write

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = (
    "#0072B2",
    "#E69F00",
    "#661100",
    "#CC79A7",
    "#332288",
    "#56B4E9",
    "#D55E00",
    "#F0E442",
    "#009E73",
    "#882255",
)
"""One colour a label index: Okabe and Ito's seven (2008) and three dark ones of Paul Tol's.

Simulated red-, green- and blue-blindness (Machado et al., 2009) leave every pair, and each of them
and :data:`OTHER_COLOUR`, apart. The eleventh label starts again with the first colour, hatched.
"""

FREQUENCY_TICKS_HZ = (0, 256, 512, 1024, 2048, 4096, 8192, 16_384)
"""The frequencies that are named beside a spectrogram, where it reaches them."""


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
        with atomic_write(target) as partial:
            figure.savefig(partial, format="png")
    except OSError as error:
        raise ParameterError(f"The picture cannot be written to {str(target)!r}: {error.strerror or error}.") from error
