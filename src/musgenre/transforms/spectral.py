"""From waveforms to spectra, as modules with librosa's words, defaults and results."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from musgenre import functional
from musgenre.transforms.constant import Constant


class Spectrogram(nn.Module):
    """Power spectrogram with centred Hann windows; see :func:`musgenre.functional.power_spectrogram`.

    Args:
        n_fft: Length of the Fourier transform and of the window, in samples.
        hop_length: Samples from one frame to the next.

    Shape:
        ``(..., samples)`` to ``(..., n_fft // 2 + 1, frames)``.

    Raises:
        ParameterError: A length is not positive; later, the waveform is empty or holds whole numbers.

    Example:
        >>> Spectrogram(n_fft=512, hop_length=256)(torch.randn(2, 8000)).shape
        torch.Size([2, 257, 32])
    """

    def __init__(self, *, n_fft: int = 2048, hop_length: int = 512) -> None:
        super().__init__()
        functional.check_positive(n_fft=n_fft, hop_length=hop_length)
        self.n_fft = n_fft
        self.hop_length = hop_length
        self.window = Constant(torch.hann_window(n_fft, dtype=torch.float64))

    def frame_count(self, samples: int) -> int:
        """Returns how many frames ``samples`` samples give."""
        return 1 + (samples + 2 * (self.n_fft // 2) - self.n_fft) // self.hop_length

    def forward(self, waveform: Tensor) -> Tensor:
        """Computes the spectrogram."""
        return functional.power_spectrogram(
            waveform, n_fft=self.n_fft, hop_length=self.hop_length, window=self.window(waveform)
        )


class MelSpectrogram(Spectrogram):
    """Mel power spectrogram, equal to ``librosa.feature.melspectrogram``.

    Args:
        sample_rate: Rate of the audio, in hertz.
        n_fft: Length of the Fourier transform and of the window, in samples.
        hop_length: Samples from one frame to the next.
        n_mels: Number of bands.
        f_min_hz: Lower edge of the lowest band.
        f_max_hz: Upper edge of the highest band; ``None`` is half the sample rate.

    Shape:
        ``(..., samples)`` to ``(..., n_mels, frames)``.

    Raises:
        ParameterError: A parameter is out of range; later, the waveform is empty or holds whole numbers.

    Example:
        >>> logmel = nn.Sequential(MelSpectrogram(sample_rate=22_050), ToDecibel(reference="max"))
        >>> logmel(torch.randn(2, 66_150)).shape
        torch.Size([2, 128, 130])
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

    def forward(self, waveform: Tensor) -> Tensor:
        """Computes the mel spectrogram."""
        return functional.mel_power_spectrogram(
            waveform,
            window=self.window(waveform),
            hop_length=self.hop_length,
            filterbank=self.filterbank(waveform),
            groups=self.groups,
        )


class ToDecibel(nn.Module):
    """Power to decibels, for each example by itself; see :func:`musgenre.functional.to_decibel`.

    Args:
        reference: Power that becomes 0 dB; ``"max"`` is the example's maximum.
        amin: Lesser powers count as this one.
        floor_db: Decibels below the example's maximum at which it is cut off; ``None`` cuts nothing.
        inplace: Whether what it is given may be overwritten.

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
        # The function checks its parameters; a wrong one should be known now.
        self(torch.ones(1, 1))

    def forward(self, power: Tensor) -> Tensor:
        """Computes the decibels."""
        return functional.to_decibel(
            power, reference=self.reference, amin=self.amin, floor_db=self.floor_db, inplace=self.inplace
        )


class MFCC(nn.Module):
    """Mel-frequency cepstral coefficients, equal to ``librosa.feature.mfcc``.

    Args:
        sample_rate: Rate of the audio, in hertz.
        n_mfcc: Number of coefficients, from 1 to ``n_mels``.
        n_fft: Length of the Fourier transform and of the window, in samples.
        hop_length: Samples from one frame to the next.
        n_mels: Number of mel bands, from 0 Hz to half the sample rate.

    Shape:
        ``(..., samples)`` to ``(..., n_mfcc, frames)``.

    Raises:
        ParameterError: A parameter is out of range; later, the waveform is empty or holds whole numbers.

    Example:
        >>> MFCC(sample_rate=22_050)(torch.randn(22_050)).shape
        torch.Size([20, 44])
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
        """Computes the coefficients."""
        return functional.mfcc(self.decibel(self.mel(waveform)), n_mfcc=self.n_mfcc, dct=self.dct(waveform))
