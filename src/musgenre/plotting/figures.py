"""Shared by all plots: colours, axes on a new figure, and saving figures."""

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
"""Colour of each label by index: seven of Okabe and Ito (2008) and three dark ones of Paul Tol.

All pairs, including those with :data:`OTHER_COLOUR`, are distinguishable in simulations of red-, green- and
blue-blindness (Machado et al., 2009). From the eleventh label on, the colours are repeated with a hatch.
"""

FREQUENCY_TICKS_HZ = (0, 256, 512, 1024, 2048, 4096, 8192, 16_384)
"""Frequencies of the ticks of a spectrogram's frequency axis."""


def new_axes(width: float, height: float) -> Axes:
    """Returns axes on a new figure of the given size in inches, without ``pyplot``."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained").subplots()


def save_figure(figure: Figure, path: str | os.PathLike[str]) -> None:
    """Writes a figure to a PNG file. An existing file is replaced atomically; on failure it is unchanged.

    Raises:
        ParameterError: The file cannot be written (its directory is missing or read-only).
    """
    target = Path(path)
    try:
        with atomic_write(target) as partial:
            figure.savefig(partial, format="png")
    except OSError as error:
        raise ParameterError(
            f"The figure could not be written to {str(target)!r}: {error.strerror or error}."
        ) from error
