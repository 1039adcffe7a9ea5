"""Spectrograms, decibels and cepstral coefficients, with the names, defaults and results of librosa."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

from musgenre import functional


class Spectrogram(nn.Module):
    """Compute a power spectrogram with centred Hann windows; see :func:`musgenre.functional.power_spectrogram`.

    Args:
        n_fft: Length of the Fourier transform and of the window, in samples.
        hop_length: Samples between the starts of successive frames.

    Shape:
        ``(..., samples)`` to ``(..., n_fft // 2 + 1, frames)``.

    Raises:
        ParameterError: A length is not a positive integer; from ``forward``, the waveform is empty or not in floating
            point.

    Example:
        >>> Spectrogram(n_fft=512, hop_length=256)(torch.randn(2, 8000)).shape
        torch.Size([2, 257, 32])

    See Also:
        :class:`MelSpectrogram`
    """

    def __init__(self, *, n_fft: int = 2048, hop_length: int = 512) -> None:
        super().__init__()
        functional.check_positive(n_fft=n_fft, hop_length=hop_length)
        self.n_fft = n_fft
        self.hop_length = hop_length
        self.window = Constant(torch.hann_window(n_fft, dtype=torch.float64))

    def frame_count(self, samples: int) -> int:
        """Return the number of frames of a waveform of ``samples`` samples."""
        return 1 + (samples + 2 * (self.n_fft // 2) - self.n_fft) // self.hop_length

    def forward(self, waveform: Tensor) -> Tensor:
        """Compute the spectrogram."""
        return functional.power_spectrogram(
            waveform, n_fft=self.n_fft, hop_length=self.hop_length, window=self.window(waveform)
        )


class MelSpectrogram(Spectrogram):
    """Compute a mel-scaled power spectrogram, equal to ``librosa.feature.melspectrogram``.

    See :func:`musgenre.functional.mel_power_spectrogram`.

    Args:
        sample_rate: Rate of the audio, in hertz.
        n_fft: Length of the Fourier transform and of the window, in samples.
        hop_length: Samples between the starts of successive frames.
        n_mels: Number of mel bands.
        f_min_hz: Lower edge of the lowest band, in hertz.
        f_max_hz: Upper edge of the highest band, in hertz; ``None`` is half the sample rate.

    Shape:
        ``(..., samples)`` to ``(..., n_mels, frames)``.

    Raises:
        ParameterError: A parameter is out of range; from ``forward``, the waveform is empty or not in floating point.

    Example:
        >>> logmel = nn.Sequential(MelSpectrogram(sample_rate=22_050), ToDecibel(reference="max"))
        >>> logmel(torch.randn(2, 66_150)).shape
        torch.Size([2, 128, 130])

    See Also:
        :class:`Spectrogram`, :class:`MFCC`
    """

    def __init__(
        self,
        *,
        sample_rate: int,
        n_fft: int = 2048,
        hop_length: int = 512,
        n_mels: int = 128,
        f_min_hz: float = 0.0,
        f_max_hz: float | None = None,
    ) -> None:
        super().__init__(n_fft=n_fft, hop_length=hop_length)
        self.sample_rate = sample_rate
        self.n_mels = n_mels
        self.filterbank = Constant(
            bank := functional.mel_filterbank(
                sample_rate=sample_rate, n_fft=n_fft, n_mels=n_mels, f_min_hz=f_min_hz, f_max_hz=f_max_hz
            )
        )
        self.groups = functional.mel_groups(bank)
        self.f_min_hz = float(f_min_hz)
        self.f_max_hz = sample_rate / 2 if f_max_hz is None else float(f_max_hz)

    def forward(self, waveform: Tensor) -> Tensor:
        """Compute the mel spectrogram."""
        return functional.mel_power_spectrogram(
            waveform,
            window=self.window(waveform),
            hop_length=self.hop_length,
            filterbank=self.filterbank(waveform),
            groups=self.groups,
        )


class ToDecibel(nn.Module):
    """Convert power to decibels, separately for each example; see :func:`musgenre.functional.to_decibel`.

    Args:
        reference: Power that corresponds to 0 dB, positive; ``"max"`` is the maximum of the example.
        amin: Lower limit of power, positive.
        floor_db: Dynamic range below the maximum of the example, in decibels; lower values are clipped. ``None``
            disables clipping.
        inplace: Whether the input may be overwritten.

    Shape:
        ``(..., bins, frames)``, unchanged.

    Raises:
        ParameterError: A parameter is out of range.

    Example:
        >>> ToDecibel()(torch.tensor([[0.1, 1.0, 10.0]]))
        tensor([[-10.,   0.,  10.]])
    """

    def __init__(
        self,
        *,
        reference: float | Literal["max"] = 1.0,
        amin: float = 1e-10,
        floor_db: float | None = 80.0,
        inplace: bool = False,
    ) -> None:
        super().__init__()
        self.reference = reference
        self.amin = amin
        self.floor_db = floor_db
        self.inplace = inplace
        # The function validates the parameters; calling it here raises errors at construction.
        self(torch.ones(1, 1))

    def forward(self, power: Tensor) -> Tensor:
        """Convert to decibels."""
        return functional.to_decibel(
            power, reference=self.reference, amin=self.amin, floor_db=self.floor_db, inplace=self.inplace
        )


class MFCC(nn.Module):
    """Compute mel-frequency cepstral coefficients, equal to ``librosa.feature.mfcc``.

    See :func:`musgenre.functional.mfcc`.

    Args:
        sample_rate: Rate of the audio, in hertz.
        n_mfcc: Number of coefficients, from 1 to ``n_mels``.
        n_fft: Length of the Fourier transform and of the window, in samples.
        hop_length: Samples between the starts of successive frames.
        n_mels: Number of mel bands, from 0 Hz to half the sample rate.

    Shape:
        ``(..., samples)`` to ``(..., n_mfcc, frames)``.

    Raises:
        ParameterError: A parameter is out of range; from ``forward``, the waveform is empty or not in floating point.

    Example:
        >>> MFCC(sample_rate=22_050)(torch.randn(22_050)).shape
        torch.Size([20, 44])

    See Also:
        :class:`MelSpectrogram`
    """

    def __init__(
        self,
        *,
        sample_rate: int,
        n_mfcc: int = 20,
        n_fft: int = 2048,
        hop_length: int = 512,
        n_mels: int = 128,
    ) -> None:
        super().__init__()
        self.n_mfcc = n_mfcc
        self.mel = MelSpectrogram(sample_rate=sample_rate, n_fft=n_fft, hop_length=hop_length, n_mels=n_mels)
        self.decibel = ToDecibel(inplace=True)
        self.dct = Constant(functional.dct_matrix(n_mfcc=n_mfcc, n_mels=n_mels))

    def forward(self, waveform: Tensor) -> Tensor:
        """Compute the coefficients."""
        return functional.mfcc(self.decibel(self.mel(waveform)), n_mfcc=self.n_mfcc, dct=self.dct(waveform))


class Constant(nn.Module):
    """A tensor that follows its module between devices and dtypes without accumulating rounding errors.

    A buffer that was rounded to float32 or float16 remains rounded after the module returns to float64. This constant
    is rounded from its float64 value at each conversion, so that results in float64 are exact. It is not part of the
    state dict.

    Args:
        value: The constant, in float64.

    Example:
        >>> third = Constant(torch.tensor([1 / 3], dtype=torch.float64)).half().double()
        >>> third(torch.zeros(1, dtype=torch.float64)).item() == 1 / 3
        True
    """

    value: Tensor

    def __init__(self, value: Tensor) -> None:
        super().__init__()
        self._exact = value
        self.register_buffer("value", value.to(torch.get_default_dtype()), persistent=False)

    def forward(self, like: Tensor) -> Tensor:
        """Return the constant in the dtype and on the device of ``like``."""
        return self.value if self.value.dtype == like.dtype else self._exact.to(like)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Constant:
        # .to(), .half(), .cuda() and all other conversions call this method.
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self.value = self._exact.to(self.value)
        return self
