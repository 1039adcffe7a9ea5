"""Features of rhythm: tempograms and harmonic-percussive spectrograms."""

from __future__ import annotations

import torch
from torch import Tensor

from musgenre import functional
from musgenre.features.base import FLOOR_DB, FeatureExtractor, centres_hz
from musgenre.transforms.shape import Normalise
from musgenre.transforms.spectral import Constant, MelSpectrogram, Spectrogram, ToDecibel


class Tempogram(FeatureExtractor):
    """Tempogram: local autocorrelation of the onset strength envelope, equal to ``librosa.feature.tempogram``.

    Bin ``k`` is the autocorrelation around a frame at a lag of ``k`` frames, normalised to 1 at lag 0. It is high at
    the period of the beat and its multiples. With the defaults, lag 26 is 100 beats per minute and lag 43 is 1 s.

    Args:
        sample_rate: Rate of the audio, in hertz.
        win_length: Length of the autocorrelation window, in frames, and number of lags; 9 s by default.
        n_fft: Length of the Fourier transform, in samples.
        hop_length: Samples between the starts of successive frames.

    Shape:
        ``(batch, samples)`` to ``(batch, 1, win_length, frames)``, the shortest lag first.

    Raises:
        ParameterError: A parameter is out of range.

    Example:
        >>> Tempogram(sample_rate=22_050)(torch.randn(2, 66_150)).shape
        torch.Size([2, 1, 384, 130])

    See Also:
        :func:`musgenre.functional.tempogram`, :func:`musgenre.functional.tempo`
    """

    def __init__(self, *, sample_rate: int, win_length: int = 384, n_fft: int = 2048, hop_length: int = 512) -> None:
        super().__init__(sample_rate=sample_rate)
        functional.tempogram(torch.zeros(1), win_length=win_length)  # validates win_length
        self.win_length = win_length
        self.mel = MelSpectrogram(sample_rate=sample_rate, n_fft=n_fft, hop_length=hop_length)
        self.decibel = ToDecibel()
        self.window = Constant(torch.hann_window(win_length, dtype=torch.float64))

    def out_shape(self, samples: int) -> tuple[int, int, int]:  # noqa: D102 - documented in the base class
        return 1, self.win_length, self.mel.frame_count(samples)

    def forward(self, waveform: Tensor) -> Tensor:  # noqa: D102 - documented in the base class
        decibel = self.decibel(self.mel(waveform))
        onsets = functional.onset_strength(decibel, n_fft=self.mel.n_fft, hop_length=self.mel.hop_length)
        return functional.tempogram(onsets, win_length=self.win_length, window=self.window(waveform)).unsqueeze(1)


class HarmonicPercussive(FeatureExtractor):
    """Log-mel spectrograms of the harmonic and the percussive component, as two channels scaled as in ``logmel``.

    The power spectrogram is separated as by ``librosa.decompose.hpss`` with its defaults; then each component is
    projected onto mel bands. 1 is the maximum over both components, and -1 is 80 dB or more below it, which preserves
    their relative level. Digital silence is 1 everywhere.

    Args:
        sample_rate: Rate of the audio, in hertz.
        kernel_size: Length of the median filters, in frames and in bins of the Fourier transform; odd.
        n_fft: Length of the Fourier transform, in samples.
        hop_length: Samples between the starts of successive frames.
        n_mels: Number of mel bands.

    Shape:
        ``(batch, samples)`` to ``(batch, 2, n_mels, frames)``: harmonic, then percussive; the lowest band first.

    Raises:
        ParameterError: A parameter is out of range.

    Example:
        >>> HarmonicPercussive(sample_rate=22_050)(torch.randn(2, 22_050)).shape
        torch.Size([2, 2, 128, 44])

    See Also:
        :class:`~musgenre.features.LogMel`, :func:`musgenre.functional.hpss`
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
        functional.hpss(torch.ones(1, 1), kernel_size=kernel_size)  # validates kernel_size
        self.kernel_size = kernel_size
        self.n_mels = n_mels
        self.spectrogram = Spectrogram(n_fft=n_fft, hop_length=hop_length)
        self.filterbank = Constant(functional.mel_filterbank(sample_rate=sample_rate, n_fft=n_fft, n_mels=n_mels))
        self.decibel = ToDecibel(reference="max", floor_db=FLOOR_DB)
        self.scale = Normalise((-FLOOR_DB / 2,), (FLOOR_DB / 2,))

    def out_shape(self, samples: int) -> tuple[int, int, int]:  # noqa: D102 - documented in the base class
        return 2, self.n_mels, self.spectrogram.frame_count(samples)

    def forward(self, waveform: Tensor) -> Tensor:  # noqa: D102 - documented in the base class
        bank = self.filterbank(waveform)
        components = functional.hpss(self.spectrogram(waveform), kernel_size=self.kernel_size)
        # Concatenated along the bins, so that both components have the same maximum as their reference.
        bands = torch.cat([functional.mel_spectrogram(power, filterbank=bank) for power in components], dim=-2)
        spectrograms: Tensor = self.scale(self.decibel(bands).unflatten(-2, (2, self.n_mels)))
        return spectrograms

    def bins_hz(self) -> Tensor:  # noqa: D102 - documented in the base class
        return centres_hz(self.filterbank.value, sample_rate=self.sample_rate)
