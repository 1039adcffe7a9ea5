"""Framing of signals and power spectrograms."""

from __future__ import annotations

import torch
from torch import Tensor

from musgenre.core.errors import ParameterError
from musgenre.functional.checks import check_positive


def frame(waveform: Tensor, *, frame_length: int, hop_length: int) -> Tensor:
    """Slice a signal into overlapping frames, as a view.

    Samples after the last complete frame are dropped, as in ``librosa.util.frame``.

    Args:
        waveform: The signal.
        frame_length: Length of a frame, in samples.
        hop_length: Samples between the starts of successive frames.

    Shape:
        ``(..., samples)`` to ``(..., frames, frame_length)``, with ``frames = 1 + (samples - frame_length) //
        hop_length``. librosa returns the last two dimensions in the opposite order.

    Raises:
        ParameterError: The signal is shorter than a frame, or a length is not a positive integer.

    Example:
        >>> frame(torch.arange(5), frame_length=3, hop_length=2)
        tensor([[0, 1, 2],
                [2, 3, 4]])
    """
    check_positive(frame_length=frame_length, hop_length=hop_length)
    if waveform.ndim < 1 or waveform.shape[-1] < frame_length:
        raise ParameterError(
            f"A signal of shape {tuple(waveform.shape)} is shorter than a frame of {frame_length} samples."
        )
    return waveform.unfold(-1, frame_length, hop_length)


def power_spectrogram(
    waveform: Tensor, *, n_fft: int = 2048, hop_length: int = 512, window: Tensor | None = None
) -> Tensor:
    """Compute a power spectrogram: the squared magnitude of the short-time Fourier transform.

    The result equals ``abs(librosa.stft(...)) ** 2``. Frames are centred: the signal is padded with ``n_fft // 2``
    zeros at both ends.

    Args:
        waveform: The signal, in floating point.
        n_fft: Length of the Fourier transform and of the window, in samples.
        hop_length: Samples between the starts of successive frames.
        window: Window of shape ``(n_fft,)``; ``None`` is the periodic Hann window.

    Shape:
        ``(..., samples)`` to ``(..., n_fft // 2 + 1, frames)``; for an even ``n_fft``, ``frames = 1 + samples //
        hop_length``.

    Raises:
        ParameterError: The signal is empty or not in floating point, a length is not a positive integer, or the shape
            of the window is wrong.

    Example:
        >>> tone = torch.sin(torch.arange(8192) * (2 * torch.pi * 100 / 2048))
        >>> power = power_spectrogram(tone)
        >>> power.shape, power[:, 8].argmax().item()
        (torch.Size([1025, 17]), 100)

    See Also:
        :func:`~musgenre.functional.mel_power_spectrogram`, :func:`~musgenre.functional.constant_q_power`
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
    """Check that a waveform has at least one sample along its last dimension and is in floating point.

    Raises:
        ParameterError: The waveform is empty or not in floating point.
    """
    if waveform.ndim < 1 or waveform.shape[-1] < 1 or not waveform.is_floating_point():
        raise ParameterError(
            "A waveform needs floating-point samples along its last dimension, not the shape "
            f"{tuple(waveform.shape)} of {waveform.dtype}."
        )


def power_of_frames(frames: Tensor, *, window: Tensor) -> Tensor:
    """Compute the power spectrum of each windowed frame.

    Shape:
        ``(..., frames, n_fft)`` and ``(n_fft,)`` to ``(..., frames, n_fft // 2 + 1)``.
    """
    # Contiguous squares are followed by sums because strided access is slower. abs() ** 2 would compute a square root
    # as well, whose gradient is undefined in silence.
    squares = torch.view_as_real(torch.fft.rfft(frames * window)).square()
    return squares[..., 0] + squares[..., 1]
