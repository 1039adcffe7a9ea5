"""Pictures of what a network looked at."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from musgenre.core.errors import ParameterError
from musgenre.plotting.figures import FREQUENCY_TICKS_HZ, own_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_STRONG = 99.5
"""The percentile of a map's sizes that has full colour: a few cells stand out so far that all others would be pale."""


def plot_saliency(
    saliency: npt.ArrayLike,
    *,
    spectrogram: npt.ArrayLike,
    seconds: tuple[float, float],
    bins_hz: npt.ArrayLike | None = None,
    smooth_cells: float = 0.0,
    ax: Axes | None = None,
) -> Axes:
    """Draws a saliency map over a spectrogram: the spectrogram in grey, and in colour what counted.

    What speaks for the answer is orange, what speaks against it is violet, and what does not matter has no colour.

    Args:
        saliency: The weight of each cell, of any scale.
        spectrogram: What the network saw, of any scale; the louder, the darker.
        seconds: Where it starts and ends, in seconds.
        bins_hz: The frequency of each row in hertz, not falling; ``None`` where rows are no frequencies.
        smooth_cells: The saliency is blurred over so many cells (the deviation of a Gaussian), since single cells can
            be too speckled to be read; 0 shows it as it is.
        ax: Where to draw; by default on a new figure.

    Returns:
        The axes: seconds across, bins upwards, with the frequencies beside them where these are known. The first image
        is the spectrogram, the second the saliency.

    Raises:
        ParameterError: The two differ in shape, hold no cell or what is no number, ``bins_hz`` has another length, or
            ``smooth_cells`` is negative.

    Shape:
        - saliency, spectrogram: ``(bins, frames)``
        - bins_hz: ``(bins,)``

    Example:
        >>> ax = plot_saliency([[0, 1], [0, 0]], spectrogram=[[0, 1], [2, 3]], seconds=(6.0, 9.0))
        >>> [image.get_array().tolist() for image in ax.images]
        [[[0.0, 1.0], [2.0, 3.0]], [[0.0, 1.0], [0.0, 0.0]]]
        >>> [float(seconds) for seconds in ax.get_xlim()]
        [6.0, 9.0]
    """
    weights, cells = np.asarray(saliency, dtype=np.float64), np.asarray(spectrogram, dtype=np.float64)
    if weights.shape != cells.shape or cells.ndim != 2 or not cells.size:
        raise ParameterError(
            f"Saliency and spectrogram need one shape (bins, frames), not {weights.shape} and {cells.shape}."
        )
    if not (np.isfinite(weights).all() and np.isfinite(cells).all()):
        raise ParameterError("Saliency or spectrogram holds what is no finite number.")
    if not 0 <= smooth_cells < np.inf:
        raise ParameterError(f"smooth_cells must be finite and at least 0, not {smooth_cells!r}.")
    if smooth_cells:
        from scipy.ndimage import gaussian_filter

        weights = gaussian_filter(weights, smooth_cells, mode="nearest")
    ax = own_axes(9, 4) if ax is None else ax
    place: dict[str, Any] = {"origin": "lower", "aspect": "auto", "extent": (*seconds, -0.5, len(cells) - 0.5)}
    ax.imshow(cells, cmap="gray_r", **place)
    sizes = np.abs(weights)
    full = np.percentile(sizes, _STRONG) or sizes.max() or 1.0
    image = ax.imshow(weights, cmap="PuOr_r", vmin=-full, vmax=full, alpha=np.clip(sizes / full, 0, 1) * 0.85, **place)
    bar = ax.figure.colorbar(image, cax=ax.inset_axes((1.015, 0, 0.015, 1)), label="Saliency")
    if bar.solids is not None:
        bar.solids.set_alpha(1)
    bar.outline.set_visible(False)
    if weights.min() >= 0:
        bar.ax.set_ylim(0, full)
    ax.set(xlim=seconds, xlabel="Time (s)", ylabel="Bin")
    if bins_hz is not None:
        _name_frequencies(ax, np.asarray(bins_hz, dtype=np.float64), bins=len(cells))
    return ax


def _name_frequencies(ax: Axes, bins_hz: npt.NDArray[np.float64], *, bins: int) -> None:
    if bins_hz.shape != (bins,):
        raise ParameterError(f"bins_hz needs a frequency for each of {bins} bins, not the shape {bins_hz.shape}.")
    ticks = [hertz for hertz in FREQUENCY_TICKS_HZ if bins_hz[0] <= hertz <= bins_hz[-1]]
    ax.set_yticks(np.interp(ticks, bins_hz, np.arange(bins)), [f"{hertz:,}" for hertz in ticks])
    ax.set_ylabel("Frequency (Hz)")
