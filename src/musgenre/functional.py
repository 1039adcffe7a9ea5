"""Pure functions from waveforms to spectra and pictures.

Each takes a tensor first and the rest by keyword, accepts any leading dimensions, keeps the tensor's
dtype and device, and differentiates. Words, defaults and results are librosa's (McFee et al.,
"librosa: Audio and Music Signal Analysis in Python", 2015), but for two names: ``f_min_hz`` and
``f_max_hz`` carry their unit, and ``floor_db`` is librosa's ``top_db``.
"""

from __future__ import annotations

import math
import numbers
from contextlib import nullcontext
from typing import Literal

import torch
from torch import Tensor

from musgenre.errors import ParameterError


def check_positive(**counts: object) -> None:
    """Checks parameters that count something, given by name.

    Raises:
        ParameterError: One is not a whole number of at least 1.
    """
    for name, value in counts.items():
        if isinstance(value, bool) or not isinstance(value, numbers.Integral) or int(value) < 1:
            raise ParameterError(f"{name} must be a whole number of at least 1, not {value!r}.")


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
    if waveform.ndim < 1 or waveform.shape[-1] < 1 or not waveform.is_floating_point():
        got = f"the shape {tuple(waveform.shape)} of {waveform.dtype}"
        raise ParameterError(f"A waveform needs samples along its last dimension, in floating point, not {got}.")
    if window is None:
        window = torch.hann_window(n_fft, dtype=torch.float64)
    if window.shape != (n_fft,):
        raise ParameterError(f"The window must have the shape ({n_fft},), not {tuple(window.shape)}.")
    padded = torch.nn.functional.pad(waveform, (n_fft // 2, n_fft // 2))
    spectrum = torch.fft.rfft(frame(padded, frame_length=n_fft, hop_length=hop_length) * window.to(waveform))
    # Not abs() ** 2: its square root costs time, and its gradient is undefined at silence.
    power: Tensor = (spectrum.real.square() + spectrum.imag.square()).transpose(-2, -1)
    return power


def mel_filterbank(
    *, sample_rate: int, n_fft: int = 2048, n_mels: int = 128, f_min_hz: float = 0.0, f_max_hz: float | None = None
) -> Tensor:
    """Returns librosa's triangular mel filters: Slaney's scale, each of unit area.

    They are the numbers that librosa's own features use, which are rounded to float32, here as float64.

    Args:
        sample_rate: Rate of the audio, in hertz.
        n_fft: Length of the Fourier transform, in samples.
        n_mels: Number of bands.
        f_min_hz: Lower edge of the lowest band.
        f_max_hz: Upper edge of the highest band; ``None`` is half the sample rate.

    Shape:
        Returns ``(n_mels, n_fft // 2 + 1)``.

    Raises:
        ParameterError: A count is not positive, or not ``0 <= f_min_hz < f_max_hz <= sample_rate / 2``.
    """
    check_positive(sample_rate=sample_rate, n_fft=n_fft, n_mels=n_mels)
    f_max = sample_rate / 2 if f_max_hz is None else f_max_hz
    if not 0 <= f_min_hz < f_max <= sample_rate / 2:
        raise ParameterError(
            f"Need 0 <= f_min_hz < f_max_hz <= {sample_rate / 2:g} (half the sample rate), "
            f"not f_min_hz={f_min_hz!r} and f_max_hz={f_max_hz!r}."
        )
    import librosa.filters

    bank = librosa.filters.mel(
        sr=sample_rate, n_fft=n_fft, n_mels=n_mels, fmin=f_min_hz, fmax=f_max, htk=False, norm="slaney"
    )
    return torch.from_numpy(bank).double()


def mel_spectrogram(power: Tensor, *, filterbank: Tensor) -> Tensor:
    """Sums a power spectrogram into bands.

    Args:
        power: Power by frequency, from :func:`power_spectrogram`.
        filterbank: Weights, from :func:`mel_filterbank`.

    Shape:
        ``(..., bins, frames)`` with ``(n_mels, bins)`` to ``(..., n_mels, frames)``.

    Raises:
        ParameterError: The two differ in ``bins``.
    """
    return _project(power, filterbank)


def to_decibel(
    power: Tensor, *, reference: float | Literal["max"] = 1.0, amin: float = 1e-10, floor_db: float | None = 80.0
) -> Tensor:
    """Turns power into decibels, as ``librosa.power_to_db`` does.

    Maxima are taken for each example, over the last two dimensions, where librosa takes one of the whole
    array: what a batch holds beside an example changes nothing about it.

    Args:
        power: Power, not negative.
        reference: Power that becomes 0 dB; ``"max"`` is the example's maximum.
        amin: Lesser powers, and a lesser reference, count as this one.
        floor_db: Decibels below the example's maximum at which it is cut off; ``None`` cuts nothing.

    Shape:
        ``(..., bins, frames)``, unchanged.

    Raises:
        ParameterError: ``reference`` or ``amin`` is not positive, ``floor_db`` is negative, or ``power`` has
            fewer than two dimensions.

    Example:
        >>> to_decibel(torch.tensor([[1e-12, 0.01, 1.0, 100.0]]), reference="max")
        tensor([[-80., -40., -20.,   0.]])
    """
    if reference != "max" and not _is_power(reference):
        raise ParameterError(f'reference must be a positive power or "max", not {reference!r}.')
    if not _is_power(amin):
        raise ParameterError(f"amin must be a positive power, not {amin!r}.")
    if floor_db is not None and not floor_db >= 0:
        raise ParameterError(f"floor_db must be None or at least 0 dB, not {floor_db!r}.")
    if power.ndim < 2:
        raise ParameterError(f"Power needs the shape (..., bins, frames), not {tuple(power.shape)}.")
    decibel = 10 * power.clamp(min=amin).log10()
    if reference == "max":
        decibel = decibel - decibel.amax(dim=(-2, -1), keepdim=True)
    else:
        decibel = decibel - 10 * math.log10(max(amin, reference))
    if floor_db is None:
        return decibel
    return decibel.maximum(decibel.amax(dim=(-2, -1), keepdim=True) - floor_db)


def dct_matrix(*, n_mfcc: int = 20, n_mels: int = 128) -> Tensor:
    """Returns the first rows of the orthonormal discrete cosine transform of type II, in float64.

    Args:
        n_mfcc: Number of rows, at most ``n_mels``.
        n_mels: Length of what is transformed.

    Shape:
        Returns ``(n_mfcc, n_mels)``.

    Raises:
        ParameterError: A count is not positive, or there are more rows than bands.

    Example:
        >>> basis = dct_matrix(n_mfcc=4, n_mels=4)
        >>> torch.allclose(basis @ basis.T, torch.eye(4, dtype=torch.float64))
        True
    """
    check_positive(n_mfcc=n_mfcc, n_mels=n_mels)
    if n_mfcc > n_mels:
        raise ParameterError(f"n_mfcc ({n_mfcc}) must not exceed n_mels ({n_mels}).")
    order, band = torch.arange(n_mfcc, dtype=torch.float64), torch.arange(n_mels, dtype=torch.float64)
    basis = torch.cos(torch.pi / n_mels * torch.outer(order, band + 0.5)) * math.sqrt(2 / n_mels)
    basis[0] /= math.sqrt(2)
    return basis


def mfcc(decibel: Tensor, *, n_mfcc: int = 20, dct: Tensor | None = None) -> Tensor:
    """Computes mel-frequency cepstral coefficients, as ``librosa.feature.mfcc`` does from ``S``.

    Args:
        decibel: A mel spectrogram in decibels.
        n_mfcc: Number of coefficients, at most ``n_mels``.
        dct: The rows of :func:`dct_matrix`; ``None`` computes them anew.

    Shape:
        ``(..., n_mels, frames)`` to ``(..., n_mfcc, frames)``.

    Raises:
        ParameterError: ``n_mfcc`` exceeds the number of bands, or ``dct`` does not fit.
    """
    basis = dct_matrix(n_mfcc=n_mfcc, n_mels=decibel.shape[-2]) if dct is None else dct[:n_mfcc]
    return _project(decibel, basis)


def resize(picture: Tensor, *, size: tuple[int, int]) -> Tensor:
    """Resizes pictures bilinearly.

    Where a picture shrinks, neighbouring pixels are averaged (antialiasing), so that every frame of a long
    song counts; where it grows, this changes nothing.

    Args:
        picture: The pictures.
        size: New height and width, in pixels.

    Shape:
        ``(..., height, width)`` to ``(..., *size)``.

    Raises:
        ParameterError: ``size`` is not positive, or ``picture`` has fewer than two dimensions.

    Example:
        >>> resize(torch.tensor([[0.0, 1.0], [2.0, 3.0]]), size=(1, 1))
        tensor([[1.5000]])
    """
    check_positive(height=size[0], width=size[1])
    if picture.ndim < 2:
        raise ParameterError(f"A picture needs the shape (..., height, width), not {tuple(picture.shape)}.")
    one_channel = picture.reshape(-1, 1, *picture.shape[-2:])
    resized = torch.nn.functional.interpolate(one_channel, size, mode="bilinear", antialias=True)
    return resized.reshape(*picture.shape[:-2], *size)


def normalise(picture: Tensor, *, mean: Tensor, std: Tensor) -> Tensor:
    """Subtracts a mean from each channel and divides by a deviation.

    Args:
        picture: The pictures.
        mean: ``(channels,)``, or ``(1,)`` for all channels alike.
        std: ``(channels,)`` or ``(1,)``.

    Shape:
        ``(..., channels, height, width)``, unchanged.
    """
    return (picture - mean.to(picture)[:, None, None]) / std.to(picture)[:, None, None]


def _project(spectrum: Tensor, matrix: Tensor) -> Tensor:
    if spectrum.ndim < 2 or spectrum.shape[-2] != matrix.shape[-1]:
        raise ParameterError(f"Need a spectrum of {matrix.shape[-1]} bins by frames, not {tuple(spectrum.shape)}.")
    # Powers overflow half precision, so a product must not be carried out in it under autocast.
    device = spectrum.device.type
    exactly = torch.autocast(device, enabled=False) if torch.amp.is_autocast_available(device) else nullcontext()
    with exactly:
        return matrix.to(spectrum) @ spectrum


def _is_power(value: object) -> bool:
    return isinstance(value, numbers.Real) and 0 < float(value) < math.inf
