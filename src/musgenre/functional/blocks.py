"""Work on a processor in pieces that stay in its second-level cache, and in memory that is used again.

What is fetched from memory and worked on once costs as much as the arithmetic. Nothing here is differentiable, so a
function that uses it has a second way for gradients, which compilers, exporters and GPUs take as well.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

_PIECE_VALUES = 2**18
_FRAME_VALUES = 300_000
"""Samples of frames that are transformed together: with their spectrum they just leave the cache, but fewer cost more
in calls than they save."""


def by_pieces(*tensors: Tensor) -> bool:
    """Says whether tensors may be worked on in pieces: on a CPU, without gradients, and not to record a graph."""
    learns = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)
    on_cpu = all(tensor.device.type == "cpu" and tensor.is_floating_point() for tensor in tensors)
    return on_cpu and not learns and not torch.compiler.is_compiling()


def change(tensor: Tensor, step: Callable[..., object], *levels: Tensor) -> None:
    """Has a step change each number of a tensor in place.

    Args:
        tensor: What is changed.
        step: Changes the piece that it is given, each number by itself, by the levels of its example.
        *levels: Numbers that each example has of its own.

    Shape:
        - tensor: ``(..., bins, frames)``
        - levels: ``(..., 1, 1)``
    """
    if tensor.numel() <= _PIECE_VALUES or not tensor.is_contiguous():
        step(tensor, *levels)
        return
    examples = tensor.view(-1, tensor.shape[-2] * tensor.shape[-1])
    for example, *of_example in zip(examples, *(level.flatten() for level in levels), strict=True):
        for piece in example.split(_PIECE_VALUES):
            step(piece, *of_example)


def mel_of_frames(
    waveforms: Tensor,
    *,
    window: Tensor,
    hop_length: int,
    filterbank: Tensor,
    groups: Sequence[tuple[slice, slice]],
) -> Tensor:
    """Returns what :func:`~musgenre.functional.mel_power_spectrogram` does.

    Shape:
        ``(batch, samples)`` to ``(batch, n_mels, frames)``.
    """
    n_fft = len(window)
    count = 1 + (waveforms.shape[-1] + 2 * (n_fft // 2) - n_fft) // hop_length
    size = math.ceil(count / math.ceil(count * n_fft / _FRAME_VALUES))
    mel = waveforms.new_empty((len(waveforms), len(filterbank), count))
    bench = _MelBuffers(window, filterbank, groups=groups, size=size)
    for waveform, bands in zip(waveforms, mel, strict=True):
        for first in range(0, count, size):
            numbers = range(first, min(first + size, count))
            if len(numbers) != bench.size:  # the last piece, or the first of the next waveform
                bench = _MelBuffers(window, filterbank, groups=groups, size=len(numbers))
            frames = _frames(waveform, numbers, n_fft=n_fft, hop_length=hop_length)
            bands[:, first : numbers.stop] = bench.mel(frames)
    return mel


class _MelBuffers:
    """Memory in which a few frames after the other are worked on.

    Views of it are made once. To make one takes as long as a small product, and Python has threads wait for
    one another at each call.

    Args:
        window: What frames are multiplied with.
        filterbank: The bands.
        groups: Where it is not zero.
        size: Frames at a time.
    """

    def __init__(self, window: Tensor, filterbank: Tensor, *, groups: Sequence[tuple[slice, slice]], size: int) -> None:
        self.size = size
        self._window = window
        self._windowed = window.new_empty((size, len(window)))
        self._power = window.new_empty((size, filterbank.shape[1]))
        mel = window.new_empty((size, len(filterbank)))
        self._products = [(self._power[:, bins], filterbank[bands, bins].T, mel[:, bands]) for bands, bins in groups]
        self._mel = mel.T

    def mel(self, frames: Tensor) -> Tensor:
        """Returns the bands of some frames, which the next call overwrites.

        Shape:
            ``(size, n_fft)`` to ``(n_mels, size)``.
        """
        torch.mul(frames, self._window, out=self._windowed)
        spectrum = torch.view_as_real(torch.fft.rfft(self._windowed))
        spectrum.mul_(spectrum)
        torch.add(*spectrum.unbind(-1), out=self._power)
        for power, weights, bands in self._products:
            torch.mm(power, weights, out=bands)
        return self._mel


def _frames(waveform: Tensor, numbers: range, *, n_fft: int, hop_length: int) -> Tensor:
    """Returns centred frames; only those at the ends, where zeros come in, are copied."""
    start = numbers.start * hop_length - n_fft // 2
    stop = start + (len(numbers) - 1) * hop_length + n_fft
    part = waveform[max(0, start) : max(0, stop)]
    if start < 0 or stop > len(waveform):
        part = torch.nn.functional.pad(part, (max(0, -start), max(0, stop - len(waveform))))
    return part.unfold(-1, n_fft, hop_length)
