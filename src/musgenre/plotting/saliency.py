"""Plots of saliency maps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from musgenre.core.errors import ParameterError
from musgenre.plotting.figures import FREQUENCY_TICKS_HZ, new_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MAX_PERCENTILE = 99.5
"""Percentile of the absolute saliency at which colours saturate: single outliers would make all other cells pale."""


def plot_saliency(
    saliency: npt.ArrayLike,
    *,
    spectrogram: npt.ArrayLike,
    seconds: tuple[float, float],
    bins_hz: npt.ArrayLike | None = None,
    smooth_cells: float = 0.0,
    ax: Axes | None = None,
) -> Axes:
    """Plots a saliency map over a spectrogram: the spectrogram in grey, the saliency in colour.

    Positive saliency (evidence for the prediction) is orange, negative saliency is violet, and cells with a saliency
    near 0 are transparent.

    Args:
        saliency: Saliency of each cell, of any scale.
        spectrogram: Input of the network, of any scale; larger values are darker.
        seconds: Start and end of the spectrogram in seconds.
        bins_hz: Frequency of each bin in hertz, in ascending order; ``None`` if bins are not frequencies.
        smooth_cells: Standard deviation in cells of a Gaussian blur of the saliency; 0 disables it.
        ax: Axes to draw on; ``None`` creates a new figure.

    Returns:
        The axes, with seconds on the x-axis and bins, or their frequencies if known, on the y-axis. The first image is
        the spectrogram, the second the saliency.

    Raises:
        ParameterError: The shapes differ, an array is empty or not finite, ``bins_hz`` has a different length, or
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
            f"Expected saliency and spectrogram of one shape (bins, frames), got {weights.shape} and {cells.shape}."
        )
    if not (np.isfinite(weights).all() and np.isfinite(cells).all()):
        raise ParameterError("The saliency or the spectrogram contains NaN or infinity.")
    if not 0 <= smooth_cells < np.inf:
        raise ParameterError(f"smooth_cells must be finite and at least 0, got {smooth_cells!r}.")
    if smooth_cells:
        from scipy.ndimage import gaussian_filter

        weights = gaussian_filter(weights, smooth_cells, mode="nearest")
    ax = new_axes(9, 4) if ax is None else ax
    options: dict[str, Any] = {"origin": "lower", "aspect": "auto", "extent": (*seconds, -0.5, len(cells) - 0.5)}
    ax.imshow(cells, cmap="gray_r", **options)
    magnitudes = np.abs(weights)
    limit = np.percentile(magnitudes, _MAX_PERCENTILE) or magnitudes.max() or 1.0
    alpha = np.clip(magnitudes / limit, 0, 1) * 0.85
    image = ax.imshow(weights, cmap="PuOr_r", vmin=-limit, vmax=limit, alpha=alpha, **options)
    bar = ax.figure.colorbar(image, cax=ax.inset_axes((1.015, 0, 0.015, 1)), label="Saliency")
    if bar.solids is not None:
        bar.solids.set_alpha(1)
    bar.outline.set_visible(False)
    if weights.min() >= 0:
        bar.ax.set_ylim(0, limit)
    ax.set(xlim=seconds, xlabel="Time (s)", ylabel="Bin")
    if bins_hz is not None:
        _label_frequencies(ax, np.asarray(bins_hz, dtype=np.float64), bins=len(cells))
    return ax


def _label_frequencies(ax: Axes, bins_hz: npt.NDArray[np.float64], *, bins: int) -> None:
    if bins_hz.shape != (bins,):
        raise ParameterError(f"Expected bins_hz of the shape ({bins},), got {bins_hz.shape}.")
    ticks = [hertz for hertz in FREQUENCY_TICKS_HZ if bins_hz[0] <= hertz <= bins_hz[-1]]
    ax.set_yticks(np.interp(ticks, bins_hz, np.arange(bins)), [f"{hertz:,}" for hertz in ticks])
    ax.set_ylabel("Frequency (Hz)")
