"""From a waveform to power by frequency."""

from __future__ import annotations

import torch
from torch import Tensor

from musgenre.core.errors import ParameterError
from musgenre.functional.checks import check_positive


def frame(waveform: Tensor, *, frame_length: int, hop_length: int) -> Tensor:
    """Cuts a signal into overlapping frames, as a view; samples after the last whole frame are left out.

    Args:
        waveform: The signal.
        frame_length: Samples in a frame.
        hop_length: Samples from one frame's start to the next one's.

    Shape:
        ``(..., samples)`` to ``(..., frames, frame_length)``, where librosa has the last two the other way
        round; ``frames`` is ``1 + (samples - frame_length) // hop_length``.

    Raises:
        ParameterError: The signal is shorter than a frame, or a length is not positive.

    Example:
        >>> frame(torch.arange(5), frame_length=3, hop_length=2)
        tensor([[0, 1, 2],
                [2, 3, 4]])
    """
    check_positive(frame_length=frame_length, hop_length=hop_length)
    if waveform.ndim < 1 or waveform.shape[-1] < frame_length:
        raise ParameterError(f"A signal of shape {tuple(waveform.shape)} is shorter than a frame of {frame_length}.")
    return waveform.unfold(-1, frame_length, hop_length)


def power_spectrogram(
    waveform: Tensor, *, n_fft: int = 2048, hop_length: int = 512, window: Tensor | None = None
) -> Tensor:
    """Computes the squared magnitude of the short-time Fourier transform, as librosa's ``stft`` has it.

    Frames are centred: the signal is padded with ``n_fft // 2`` zeros at both ends.

    Args:
        waveform: The signal, of floating-point numbers.
        n_fft: Length of the transform and of the window, in samples.
        hop_length: Samples from one frame to the next.
        window: ``(n_fft,)``; ``None`` is the periodic Hann window.

    Shape:
        ``(..., samples)`` to ``(..., n_fft // 2 + 1, frames)``; for an even ``n_fft``, ``frames`` is
        ``1 + samples // hop_length``.

    Raises:
        ParameterError: The signal has no sample or whole numbers, or a length or the window does not fit.

    Example:
        >>> tone = torch.sin(torch.arange(8192) * (2 * torch.pi * 100 / 2048))
        >>> power = power_spectrogram(tone)
        >>> power.shape, power[:, 8].argmax().item()
        (torch.Size([1025, 17]), 100)
    """
    check_positive(n_fft=n_fft, hop_length=hop_length)
    check_waveform(waveform)
    if window is None:
        window = torch.hann_window(n_fft, dtype=torch.float64)
    if window.shape != (n_fft,):
        raise ParameterError(f"The window must have the shape ({n_fft},), not {tuple(window.shape)}.")
    padded = torch.nn.functional.pad(waveform, (n_fft // 2, n_fft // 2))
    frames = frame(padded, frame_length=n_fft, hop_length=hop_length)
    return power_of_frames(frames, window=window.to(waveform)).transpose(-2, -1)


def check_waveform(waveform: Tensor) -> None:
    """Checks that there are samples along the last dimension, in floating point.

    Raises:
        ParameterError: There are none, or they are whole numbers.
    """
    if waveform.ndim < 1 or waveform.shape[-1] < 1 or not waveform.is_floating_point():
        got = f"the shape {tuple(waveform.shape)} of {waveform.dtype}"
        raise ParameterError(f"A waveform needs samples along its last dimension, in floating point, not {got}.")


def power_of_frames(frames: Tensor, *, window: Tensor) -> Tensor:
    """Returns the squared magnitude of each frame's Fourier transform.

    Shape:
        ``(..., frames, n_fft)`` with ``(n_fft,)`` to ``(..., frames, n_fft // 2 + 1)``.
    """
    # Squares of neighbouring numbers, then sums, because strided passes cost more. Not abs() ** 2: its square root
    # costs time as well, and its gradient is undefined at silence.
    squares = torch.view_as_real(torch.fft.rfft(frames * window)).square()
    return squares[..., 0] + squares[..., 1]
