"""Plots of a recording: mel spectrogram and genre probabilities over time."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from musgenre.audio import load
from musgenre.core.errors import ParameterError
from musgenre.plotting.figures import COLOURS, FREQUENCY_TICKS_HZ, new_axes, save_figure
from musgenre.transforms.spectral import MelSpectrogram, ToDecibel

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from musgenre.core.config import Prediction

OTHER_COLOUR = "#D0D0D0"
"""Colour of the genres whose probability is less than :data:`NAMED_SHARE` in every window."""

NAMED_SHARE = 0.15
"""Probability that a genre must reach in at least one window to be shown separately in a timeline."""

_HATCHES = ("", "//", "..", "xx")
_FLOOR_DB = 80.0
_HOP_LENGTH = 512


def plot_spectrogram(waveform: npt.ArrayLike, *, sample_rate: int, ax: Axes | None = None) -> Axes:
    """Plots a mel spectrogram in decibels, computed by the same transforms as the input of the network.

    The y-axis is linear in mel and labelled in hertz. Levels are relative to the maximum and limited to a range of
    80 dB.

    Args:
        waveform: Samples, ``(samples,)`` or ``(channels, samples)``.
        sample_rate: Sample rate in hertz.
        ax: Axes to draw on; ``None`` creates a new figure.

    Returns:
        The axes, with seconds on the x-axis and mels on the y-axis.

    Raises:
        AudioError: The waveform is invalid (too short, not finite, or without channels).
        ParameterError: ``sample_rate`` is out of range.

    Example:
        >>> tone = np.sin(2 * np.pi * 440 * np.arange(22_050) / 22_050)
        >>> ax = plot_spectrogram(tone, sample_rate=22_050)
        >>> ax.images[0].get_array().shape
        (128, 44)
    """
    mono = load((waveform, sample_rate), sample_rate=sample_rate)
    mel = MelSpectrogram(sample_rate=sample_rate, hop_length=_HOP_LENGTH)
    with torch.inference_mode():
        decibels = ToDecibel(reference="max", floor_db=_FLOOR_DB)(mel(torch.from_numpy(mono))).numpy()
    ax = new_axes(12, 4) if ax is None else ax
    _plot_decibels(ax, decibels, sample_rate=sample_rate)
    ax.set(xlim=(0, mono.size / sample_rate), xlabel="Time (s)", ylabel="Frequency (Hz, mel scale)")
    ax.set_title("Mel spectrogram", loc="left")
    return ax


def plot_timeline(prediction: Prediction, *, ax: Axes | None = None) -> Axes:
    """Plots genre probabilities over time as stacked areas.

    Each window extends to the start of the next one, and the last window to the end of the recording. Genres that never
    reach :data:`NAMED_SHARE` are combined into one grey area, except for the predicted genre.

    Args:
        prediction: Prediction for the recording.
        ax: Axes to draw on; ``None`` creates a new figure.

    Returns:
        The axes, with seconds on the x-axis and the probability, in [0, 1], on the y-axis.

    Raises:
        ParameterError: The prediction contains no windows.

    Example:
        >>> from musgenre.core.config import Prediction, Windows
        >>> windows = Windows(np.array([0.0, 3.0]), np.array([[0.9, 0.1], [0.3, 0.7]]))
        >>> ax = plot_timeline(Prediction({"jazz": 0.6, "rock": 0.4}, windows=windows, duration_seconds=6.0))
        >>> ax.get_title(loc="left")
        'Genre over time: jazz, 60 %'
    """
    from matplotlib.ticker import PercentFormatter

    if len(prediction.windows.start_seconds) == 0:
        raise ParameterError("The prediction contains no windows, so there is no timeline to plot.")
    ax = new_axes(12, 4) if ax is None else ax
    _plot_layers(ax, prediction)
    ax.set(ylim=(0, 1), xlabel="Time (s)", ylabel="Probability")
    ax.yaxis.set_major_formatter(PercentFormatter(xmax=1, symbol=" %"))
    percent = 100 * prediction.probability
    ax.set_title(f"Genre over time: {prediction.label}, {percent:.0f} %", loc="left", parse_math=False)
    return ax


def save_overview(
    waveform: npt.ArrayLike, *, sample_rate: int, prediction: Prediction, path: str | os.PathLike[str]
) -> None:
    """Writes a PNG file with the mel spectrogram and the genre timeline of a recording on a shared time axis.

    An existing file is replaced atomically; on failure it is unchanged.

    Args:
        waveform: Samples, ``(samples,)`` or ``(channels, samples)``.
        sample_rate: Sample rate in hertz.
        prediction: Prediction for the same recording.
        path: Path of the PNG file, in an existing directory.

    Raises:
        AudioError: The waveform is invalid.
        ParameterError: ``sample_rate`` is out of range, the prediction contains no windows, or the file cannot be
            written (its directory is missing or read-only).
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 7), dpi=100, layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
    plot_spectrogram(waveform, sample_rate=sample_rate, ax=upper)
    plot_timeline(prediction, ax=lower)
    upper.set_xlabel("")
    lower.set_xlim(0, prediction.duration_seconds)
    save_figure(figure, path)


class _Layer(NamedTuple):
    """A stacked area of a timeline."""

    name: str
    colour: str
    hatch: str
    probabilities: npt.NDArray[np.float64]


def _plot_decibels(ax: Axes, decibels: npt.NDArray[np.float32], *, sample_rate: int) -> None:
    import librosa

    # Band i is centred on the (i + 1)th of bands + 2 points that are evenly spaced in mel, and frame j on sample
    # j * hop. The extent of an image is given by the edges of its outermost cells.
    bands, frames = decibels.shape
    top_mel = float(librosa.hz_to_mel(sample_rate / 2))
    mels, seconds = top_mel / (bands + 1), _HOP_LENGTH / sample_rate
    edges = (-seconds / 2, (frames - 0.5) * seconds, mels / 2, (bands + 0.5) * mels)
    image = ax.imshow(decibels, origin="lower", aspect="auto", extent=edges, cmap="magma", vmin=-_FLOOR_DB, vmax=0)
    ticks_hz = [tick for tick in FREQUENCY_TICKS_HZ if tick <= sample_rate / 2]
    ax.set_yticks([float(librosa.hz_to_mel(tick)) for tick in ticks_hz], [f"{tick:,}" for tick in ticks_hz])
    ax.set_ylim(0, top_mel)
    # An inset colour bar does not shrink the axes, so they stay aligned with a timeline below.
    bar = ax.figure.colorbar(image, cax=ax.inset_axes((1.015, 0, 0.015, 1)), label="Level (dB relative to the peak)")
    bar.outline.set_visible(False)


def _layers(prediction: Prediction) -> list[_Layer]:
    probabilities = prediction.windows.probabilities
    labels = list(prediction.probabilities)
    named = [
        i for i, label in enumerate(labels) if probabilities[:, i].max() >= NAMED_SHARE or label == prediction.label
    ]
    layers = [
        _Layer(labels[i], COLOURS[i % len(COLOURS)], _HATCHES[i // len(COLOURS) % len(_HATCHES)], probabilities[:, i])
        for i in named
    ]
    if len(named) < len(labels):
        layers.append(_Layer("other", OTHER_COLOUR, "", np.delete(probabilities, named, axis=1).sum(axis=1)))
    return layers


def _plot_layers(ax: Axes, prediction: Prediction) -> None:
    # Steps need a right edge, so the last window's probabilities are repeated at the end of the recording.
    starts = prediction.windows.start_seconds
    edges = np.append(starts, max(prediction.duration_seconds, starts[-1]))
    layers = _layers(prediction)
    heights = [np.append(layer.probabilities, layer.probabilities[-1]) for layer in layers]
    bounds = np.cumsum([np.zeros_like(edges), *heights], axis=0)
    # White outlines separate the areas. They become thinner with more windows, so that they do not hide them.
    outline: dict[str, Any] = {"edgecolor": "white", "linewidth": min(1.0, 60 / len(starts))}
    areas = [
        ax.fill_between(edges, lower, upper, step="post", facecolor=layer.colour, hatch=layer.hatch, **outline)
        for layer, lower, upper in zip(layers, bounds[:-1], bounds[1:], strict=True)
    ]
    ax.set_xlim(edges[0], edges[-1])
    # The legend lists the areas from top to bottom.
    names = [layer.name for layer in layers]
    columns = -(-len(names) // 11)
    legend = ax.legend(
        areas[::-1], names[::-1], loc="center left", bbox_to_anchor=(1.005, 0.5), frameon=False, ncols=columns
    )
    for text in legend.get_texts():
        text.set_parse_math(False)
