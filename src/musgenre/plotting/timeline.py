"""Pictures of a song: its spectrogram and its timeline of genres."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from musgenre.audio import load
from musgenre.core.errors import ParameterError
from musgenre.plotting.figures import COLOURS, FREQUENCY_TICKS_HZ, own_axes, save_figure
from musgenre.transforms.spectral import MelSpectrogram, ToDecibel

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from musgenre.core.config import Prediction

OTHER_COLOUR = "#D0D0D0"
"""For the genres that are too improbable throughout a song to be named."""

NAMED_SHARE = 0.15
"""A genre is named in a timeline if some window gives it at least this probability."""

_HATCHES = ("", "//", "..", "xx")
_FLOOR_DB = 80.0
_HOP_LENGTH = 512


def plot_spectrogram(waveform: npt.ArrayLike, *, sample_rate: int, ax: Axes | None = None) -> Axes:
    """Draws a mel spectrogram in decibels, computed by the transforms that feed the network.

    Every band is equally high, as the network sees it; the vertical axis names frequencies in hertz.
    The loudest cell is 0 dB and the colours end 80 dB below it.

    Args:
        waveform: Samples, ``(samples,)`` or ``(channels, samples)``.
        sample_rate: Samples a second, in hertz.
        ax: Where to draw; by default on a new figure.

    Returns:
        The axes: seconds across, mels upwards.

    Raises:
        AudioError: The samples cannot be used as audio (too short, not finite, no channel).
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
    ax = own_axes(12, 4) if ax is None else ax
    _draw_decibels(ax, decibels, sample_rate=sample_rate)
    ax.set(xlim=(0, mono.size / sample_rate), xlabel="Time (s)", ylabel="Frequency (Hz, mel scale)")
    ax.set_title("Mel spectrogram", loc="left")
    return ax


def plot_timeline(prediction: Prediction, *, ax: Axes | None = None) -> Axes:
    """Draws how the genre moves through a song: the probabilities of its windows, stacked.

    A window counts from its start to the next one's, the last to the end of the song. Genres that
    stay under :data:`NAMED_SHARE` throughout are one grey area; the song's own genre is always named.

    Args:
        prediction: What the classifier said of the song.
        ax: Where to draw; by default on a new figure.

    Returns:
        The axes: seconds across, probability in [0, 1] upwards.

    Raises:
        ParameterError: The prediction holds no window.

    Example:
        >>> from musgenre.core.config import Prediction, Windows
        >>> windows = Windows(np.array([0.0, 3.0]), np.array([[0.9, 0.1], [0.3, 0.7]]))
        >>> ax = plot_timeline(Prediction({"jazz": 0.6, "rock": 0.4}, windows=windows, duration_seconds=6.0))
        >>> ax.get_title(loc="left")
        'Genre over time: jazz, 60 %'
    """
    from matplotlib.ticker import PercentFormatter

    if len(prediction.windows.start_seconds) == 0:
        raise ParameterError("The prediction holds no window, so there is no timeline to draw.")
    ax = own_axes(12, 4) if ax is None else ax
    _draw_layers(ax, prediction)
    ax.set(ylim=(0, 1), xlabel="Time (s)", ylabel="Probability")
    ax.yaxis.set_major_formatter(PercentFormatter(xmax=1, symbol=" %"))
    share = 100 * prediction.probability
    ax.set_title(f"Genre over time: {prediction.label}, {share:.0f} %", loc="left", parse_math=False)
    return ax


def save_overview(
    waveform: npt.ArrayLike, *, sample_rate: int, prediction: Prediction, path: str | os.PathLike[str]
) -> None:
    """Writes a PNG of a song: its mel spectrogram over its timeline of genres, on one time axis.

    The file is written beside its place and then moved there, so that a picture is never half written.

    Args:
        waveform: Samples, ``(samples,)`` or ``(channels, samples)``.
        sample_rate: Samples a second, in hertz.
        prediction: What the classifier said of the same song.
        path: The PNG to write or to replace; its directory must exist.

    Raises:
        AudioError: The samples cannot be used as audio.
        ParameterError: ``sample_rate`` is out of range, the prediction holds no window, or no file can be
            written at ``path`` (its directory is missing or read-only).
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
    """One area of a timeline."""

    name: str
    colour: str
    hatch: str
    shares: npt.NDArray[np.float64]


def _draw_decibels(ax: Axes, decibels: npt.NDArray[np.float32], *, sample_rate: int) -> None:
    import librosa

    # Band i is centred on the (i + 1)th of bands + 2 points that divide the mel scale evenly, and
    # frame j on sample j * hop; an image wants the edges of its outermost cells.
    bands, frames = decibels.shape
    top_mel = float(librosa.hz_to_mel(sample_rate / 2))
    mels, seconds = top_mel / (bands + 1), _HOP_LENGTH / sample_rate
    edges = (-seconds / 2, (frames - 0.5) * seconds, mels / 2, (bands + 0.5) * mels)
    image = ax.imshow(decibels, origin="lower", aspect="auto", extent=edges, cmap="magma", vmin=-_FLOOR_DB, vmax=0)
    ticks_hz = [tick for tick in FREQUENCY_TICKS_HZ if tick <= sample_rate / 2]
    ax.set_yticks([float(librosa.hz_to_mel(tick)) for tick in ticks_hz], [f"{tick:,}" for tick in ticks_hz])
    ax.set_ylim(0, top_mel)
    # The bar hangs beside the axes and takes no room from them, so that a timeline below stays in line.
    bar = ax.figure.colorbar(image, cax=ax.inset_axes((1.015, 0, 0.015, 1)), label="Level (dB relative to the peak)")
    bar.outline.set_visible(False)


def _layers(prediction: Prediction) -> list[_Layer]:
    shares = prediction.windows.probabilities
    labels = list(prediction.probabilities)
    named = [i for i, label in enumerate(labels) if shares[:, i].max() >= NAMED_SHARE or label == prediction.label]
    layers = [
        _Layer(labels[i], COLOURS[i % len(COLOURS)], _HATCHES[i // len(COLOURS) % len(_HATCHES)], shares[:, i])
        for i in named
    ]
    if len(named) < len(labels):
        layers.append(_Layer("other", OTHER_COLOUR, "", np.delete(shares, named, axis=1).sum(axis=1)))
    return layers


def _draw_layers(ax: Axes, prediction: Prediction) -> None:
    # A step needs its right edge: the last window's shares stand once more at the end of the song.
    starts = prediction.windows.start_seconds
    edges = np.append(starts, max(prediction.duration_seconds, starts[-1]))
    layers = _layers(prediction)
    shares = [np.append(layer.shares, layer.shares[-1]) for layer in layers]
    bounds = np.cumsum([np.zeros_like(edges), *shares], axis=0)
    # White lines part the areas; between the many windows of a long song they would hide them.
    outline: dict[str, Any] = {"edgecolor": "white", "linewidth": min(1.0, 60 / len(starts))}
    areas = [
        ax.fill_between(edges, lower, upper, step="post", facecolor=layer.colour, hatch=layer.hatch, **outline)
        for layer, lower, upper in zip(layers, bounds[:-1], bounds[1:], strict=True)
    ]
    ax.set_xlim(edges[0], edges[-1])
    # Named from top to bottom, as the areas lie.
    names = [layer.name for layer in layers]
    columns = -(-len(names) // 11)
    legend = ax.legend(
        areas[::-1], names[::-1], loc="center left", bbox_to_anchor=(1.005, 0.5), frameon=False, ncols=columns
    )
    for text in legend.get_texts():
        text.set_parse_math(False)
