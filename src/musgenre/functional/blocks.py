"""Computation in blocks that fit into the second-level cache of a CPU, with preallocated buffers.

On a CPU, reading a tensor from main memory takes as long as a simple computation on it. Nothing in this module is
differentiable: a function that uses it has a second implementation for gradients, compilers, exporters and GPUs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

_BLOCK_VALUES = 2**18
_BLOCK_FRAME_SAMPLES = 300_000
"""Samples in the frames of one block. With their spectrum they slightly exceed the cache, but smaller blocks cost more
in function calls than they save."""


def can_use_blocks(*tensors: Tensor) -> bool:
    """Return whether tensors can be processed in blocks: on a CPU, without gradients, and outside a compiled graph."""
    needs_gradient = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)
    on_cpu = all(tensor.device.type == "cpu" and tensor.is_floating_point() for tensor in tensors)
    return on_cpu and not needs_gradient and not torch.compiler.is_compiling()


def apply_in_blocks(tensor: Tensor, function: Callable[..., object], *parameters: Tensor) -> None:
    """Apply an element-wise function to a tensor in place.

    Args:
        tensor: The tensor to modify.
        function: Modifies the block that it receives in place, element by element. It also receives the parameters of
            the block's example.
        *parameters: One value for each example.

    Shape:
        - tensor: ``(..., bins, frames)``
        - parameters: ``(..., 1, 1)``
    """
    if tensor.numel() <= _BLOCK_VALUES or not tensor.is_contiguous():
        function(tensor, *parameters)
        return
    examples = tensor.view(-1, tensor.shape[-2] * tensor.shape[-1])
    for example, *values in zip(examples, *(parameter.flatten() for parameter in parameters), strict=True):
        for block in example.split(_BLOCK_VALUES):
            function(block, *values)


def mel_power_in_blocks(
    waveforms: Tensor,
    *,
    window: Tensor,
    hop_length: int,
    filterbank: Tensor,
    groups: Sequence[tuple[slice, slice]],
) -> Tensor:
    """Compute a mel power spectrogram block by block; see :func:`~musgenre.functional.mel_power_spectrogram`.

    Args:
        waveforms: The signals.
        window: The window; its length is that of the Fourier transform, in samples.
        hop_length: Samples between the starts of successive frames.
        filterbank: Weights of the mel bands.
        groups: Non-zero blocks of ``filterbank``, from :func:`~musgenre.functional.mel_groups`.

    Shape:
        ``(batch, samples)`` to ``(batch, n_mels, frames)``.
    """
    n_fft = len(window)
    frame_count = 1 + (waveforms.shape[-1] + 2 * (n_fft // 2) - n_fft) // hop_length
    block_frames = math.ceil(frame_count / math.ceil(frame_count * n_fft / _BLOCK_FRAME_SAMPLES))
    mel = waveforms.new_empty((len(waveforms), len(filterbank), frame_count))
    buffers = _MelBuffers(window, filterbank, groups=groups, size=block_frames)
    for waveform, bands in zip(waveforms, mel, strict=True):
        for first in range(0, frame_count, block_frames):
            numbers = range(first, min(first + block_frames, frame_count))
            if len(numbers) != buffers.size:  # the last block of a waveform, or the first of the next
                buffers = _MelBuffers(window, filterbank, groups=groups, size=len(numbers))
            frames = _centred_frames(waveform, numbers, n_fft=n_fft, hop_length=hop_length)
            bands[:, first : numbers.stop] = buffers.mel(frames)
    return mel


class _MelBuffers:
    """Preallocated buffers for one block of frames.

    Views of the buffers are created once: creating one takes as long as a small matrix product, and each call into
    PyTorch makes threads wait for the interpreter lock.

    Args:
        window: The window by which frames are multiplied.
        filterbank: Weights of the mel bands.
        groups: Non-zero blocks of ``filterbank``.
        size: Number of frames in a block.
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
        """Return the mel bands of one block of frames, in a buffer that the next call overwrites.

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


def _centred_frames(waveform: Tensor, numbers: range, *, n_fft: int, hop_length: int) -> Tensor:
    """Return centred frames as a view; only frames that extend beyond the waveform are copied and zero-padded."""
    start = numbers.start * hop_length - n_fft // 2
    stop = start + (len(numbers) - 1) * hop_length + n_fft
    section = waveform[max(0, start) : max(0, stop)]
    if start < 0 or stop > len(waveform):
        section = torch.nn.functional.pad(section, (max(0, -start), max(0, stop - len(waveform))))
    return section.unfold(-1, n_fft, hop_length)
