"""What is heard of rhythm, and what sounds on apart from what is struck."""

from __future__ import annotations

import torch
from torch import Tensor

from musgenre import functional
from musgenre.features.base import FeatureExtractor, centres_hz
from musgenre.transforms.constant import Constant
from musgenre.transforms.shape import Normalise
from musgenre.transforms.spectral import MelSpectrogram, Spectrogram, ToDecibel

FLOOR_DB = 80.0
"""How far below a window's loudest point the two pictures end, as in ``logmel``."""


class Tempogram(FeatureExtractor):
    """Local autocorrelation of the onsets, as ``librosa.feature.tempogram`` gives it.

    Bin ``k`` says how well the onsets around a frame agree with those ``k`` frames later: 1 at lag 0, and high wherever
    a beat repeats. With the defaults lag 26 is 100 beats a minute, lag 43 a second.

    Args:
        sample_rate: Rate of the audio, in hertz.
        win_length: Frames around each frame, and number of lags; 384 are 9 s by default.
        n_fft: Length of the Fourier transform, in samples.
        hop_length: Samples from one frame to the next.

    Shape:
        ``(batch, samples)`` to ``(batch, 1, win_length, frames)``, the shortest lag first.

    Raises:
        ParameterError: A parameter is out of range.

    Example:
        >>> Tempogram(sample_rate=22_050)(torch.randn(2, 66_150)).shape
        torch.Size([2, 1, 384, 130])
    """

    def __init__(self, *, sample_rate: int, win_length: int = 384, n_fft: int = 2048, hop_length: int = 512) -> None:
        super().__init__(sample_rate=sample_rate)
        functional.tempogram(torch.zeros(1), win_length=win_length)  # which checks it
        self.win_length = win_length
        self.mel = MelSpectrogram(sample_rate=sample_rate, n_fft=n_fft, hop_length=hop_length)
        self.decibel = ToDecibel()
        self.window = Constant(torch.hann_window(win_length, dtype=torch.float64))

    def out_shape(self, samples: int) -> tuple[int, int, int]:  # noqa: D102 - the contract's
        return 1, self.win_length, self.mel.frame_count(samples)

    def forward(self, waveform: Tensor) -> Tensor:  # noqa: D102 - the contract's
        decibel = self.decibel(self.mel(waveform))
        onsets = functional.onset_strength(decibel, n_fft=self.mel.n_fft, hop_length=self.mel.hop_length)
        return functional.tempogram(onsets, win_length=self.win_length, window=self.window(waveform)).unsqueeze(1)


class HarmonicPercussive(FeatureExtractor):
    """Log-mel spectrograms of what sounds on and of what is struck, as two channels on the scale of ``logmel``.

    The power spectrogram is separated as ``librosa.decompose.hpss`` does it with its defaults, then each part is summed
    into mel bands. 1 is the loudest point of both together, and -1 lies 80 dB or more below it, so that it stays to
    be heard which of the two is the louder. Digital silence is 1 throughout.

    Args:
        sample_rate: Rate of the audio, in hertz.
        kernel_size: Frames, and bins of the transform, over which medians are taken; odd.
        n_fft: Length of the Fourier transform, in samples.
        hop_length: Samples from one frame to the next.
        n_mels: Number of mel bands.

    Shape:
        ``(batch, samples)`` to ``(batch, 2, n_mels, frames)``: harmonic, then percussive; the lowest band first.

    Raises:
        ParameterError: A parameter is out of range.

    Example:
        >>> HarmonicPercussive(sample_rate=22_050)(torch.randn(2, 22_050)).shape
        torch.Size([2, 2, 128, 44])
    """

    def __init__(
        self,
        *,
        sample_rate: int,
        kernel_size: int = 31,
        n_fft: int = 2048,
        hop_length: int = 512,
        n_mels: int = 128,
    ) -> None:
        super().__init__(sample_rate=sample_rate)
        functional.hpss(torch.ones(1, 1), kernel_size=kernel_size)  # which checks it
        self.kernel_size = kernel_size
        self.n_mels = n_mels
        self.spectrogram = Spectrogram(n_fft=n_fft, hop_length=hop_length)
        self.filterbank = Constant(functional.mel_filterbank(sample_rate=sample_rate, n_fft=n_fft, n_mels=n_mels))
        self.decibel = ToDecibel(reference="max", floor_db=FLOOR_DB)
        self.scale = Normalise((-FLOOR_DB / 2,), (FLOOR_DB / 2,))

    def out_shape(self, samples: int) -> tuple[int, int, int]:  # noqa: D102 - the contract's
        return 2, self.n_mels, self.spectrogram.frame_count(samples)

    def forward(self, waveform: Tensor) -> Tensor:  # noqa: D102 - the contract's
        bank = self.filterbank(waveform)
        parts = functional.hpss(self.spectrogram(waveform), kernel_size=self.kernel_size)
        # One above the other, so that they are compared with one maximum.
        bands = torch.cat([functional.mel_spectrogram(part, filterbank=bank) for part in parts], dim=-2)
        picture: Tensor = self.scale(self.decibel(bands).unflatten(-2, (2, self.n_mels)))
        return picture

    def bins_hz(self) -> Tensor:  # noqa: D102 - the contract's
        return centres_hz(self.filterbank.value, sample_rate=self.sample_rate)
