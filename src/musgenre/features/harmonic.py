"""Features of harmony: chroma, tonal centroids and the constant-Q transform."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from musgenre import functional
from musgenre.features.base import FLOOR_DB, FeatureExtractor
from musgenre.functional.constantq import C1_HZ, ConstantQKernel
from musgenre.transforms.shape import Channels, Normalise
from musgenre.transforms.spectral import Constant, Spectrogram, ToDecibel


class Chroma(FeatureExtractor):
    """Chromagram, C first, equal to ``librosa.feature.chroma_stft`` with ``tuning=0``.

    librosa estimates the tuning of each recording by default. Here it is an option, so that all windows of a recording
    are processed equally. The strongest pitch class of each frame is 1.

    Args:
        sample_rate: Rate of the audio, in hertz.
        n_chroma: Number of pitch classes per octave.
        tuning: Deviation of A4 from 440 Hz, in fractions of a pitch class.
        n_fft: Length of the Fourier transform, in samples.
        hop_length: Samples between the starts of successive frames.

    Shape:
        ``(batch, samples)`` to ``(batch, 1, n_chroma, frames)``, in [0, 1].

    Raises:
        ParameterError: A parameter is out of range.

    Example:
        >>> Chroma(sample_rate=22_050)(torch.randn(2, 66_150)).shape
        torch.Size([2, 1, 12, 130])

    See Also:
        :class:`Tonnetz`, :func:`musgenre.functional.chroma`
    """

    def __init__(
        self,
        *,
        sample_rate: int,
        n_chroma: int = 12,
        tuning: float = 0.0,
        n_fft: int = 2048,
        hop_length: int = 512,
    ) -> None:
        super().__init__(sample_rate=sample_rate)
        self.n_chroma = n_chroma
        self.spectrogram = Spectrogram(n_fft=n_fft, hop_length=hop_length)
        self.filterbank = Constant(
            functional.chroma_filterbank(sample_rate=sample_rate, n_fft=n_fft, n_chroma=n_chroma, tuning=tuning)
        )

    def out_shape(self, samples: int) -> tuple[int, int, int]:  # noqa: D102 - documented in the base class
        return 1, self.n_chroma, self.spectrogram.frame_count(samples)

    def forward(self, waveform: Tensor) -> Tensor:  # noqa: D102 - documented in the base class
        return functional.chroma(self.spectrogram(waveform), filterbank=self.filterbank(waveform)).unsqueeze(1)


class Tonnetz(FeatureExtractor):
    """Tonal centroid features, equal to ``librosa.feature.tonnetz`` of ``chroma_stft``.

    The bins are the sine and cosine on the circles of fifths, minor thirds and major thirds. librosa's default
    chromagram is that of the constant-Q transform instead.

    Args:
        sample_rate: Rate of the audio, in hertz.
        tuning: Deviation of A4 from 440 Hz, in semitones.
        n_fft: Length of the Fourier transform, in samples.
        hop_length: Samples between the starts of successive frames.

    Shape:
        ``(batch, samples)`` to ``(batch, 1, 6, frames)``, in [-1, 1].

    Raises:
        ParameterError: A parameter is out of range.

    Example:
        >>> Tonnetz(sample_rate=22_050)(torch.randn(2, 66_150)).shape
        torch.Size([2, 1, 6, 130])

    See Also:
        :class:`Chroma`, :func:`musgenre.functional.tonnetz`
    """

    def __init__(self, *, sample_rate: int, tuning: float = 0.0, n_fft: int = 2048, hop_length: int = 512) -> None:
        super().__init__(sample_rate=sample_rate)
        self.chroma = Chroma(sample_rate=sample_rate, tuning=tuning, n_fft=n_fft, hop_length=hop_length)
        self.matrix = Constant(functional.tonnetz_matrix())

    def out_shape(self, samples: int) -> tuple[int, int, int]:  # noqa: D102 - documented in the base class
        return 1, 6, self.chroma.out_shape(samples)[2]

    def forward(self, waveform: Tensor) -> Tensor:  # noqa: D102 - documented in the base class
        return functional.tonnetz(self.chroma(waveform), matrix=self.matrix(waveform))


class ConstantQ(FeatureExtractor):
    """Constant-Q spectrogram in decibels relative to the maximum of the window, scaled to [-1, 1] as in ``logmel``.

    1 is the maximum of the window, and -1 is 80 dB or more below it. Magnitudes agree with those of ``librosa.cqt``
    within 3 % of the largest; :func:`musgenre.functional.constant_q_kernels` explains the difference.

    Args:
        sample_rate: Rate of the audio, in hertz.
        f_min_hz: Frequency of the lowest bin, in hertz; C1 by default.
        n_bins: Number of bins; seven octaves by default.
        bins_per_octave: Number of bins per octave.
        hop_length: Samples between the starts of successive frames.

    Shape:
        ``(batch, samples)`` to ``(batch, 1, n_bins, frames)``, the lowest bin first.

    Raises:
        ParameterError: A parameter is out of range, or the highest bin exceeds half the sample rate.

    Example:
        >>> ConstantQ(sample_rate=22_050)(torch.randn(2, 66_150)).shape
        torch.Size([2, 1, 84, 130])

    See Also:
        :class:`~musgenre.features.LogMel`, :func:`musgenre.functional.constant_q_power`
    """

    def __init__(
        self,
        *,
        sample_rate: int,
        f_min_hz: float = C1_HZ,
        n_bins: int = 84,
        bins_per_octave: int = 12,
        hop_length: int = 512,
    ) -> None:
        super().__init__(sample_rate=sample_rate)
        functional.check_positive(hop_length=hop_length)
        self.f_min_hz, self.n_bins, self.bins_per_octave = f_min_hz, n_bins, bins_per_octave
        self.hop_length = hop_length
        kernels = functional.constant_q_kernels(
            sample_rate=sample_rate, f_min_hz=f_min_hz, n_bins=n_bins, bins_per_octave=bins_per_octave
        )
        self.weights = nn.ModuleList(Constant(kernel.weights) for kernel in kernels)
        self.bins = tuple(kernel.bins for kernel in kernels)
        self.n_ffts = tuple(kernel.n_fft for kernel in kernels)
        self.scale = nn.Sequential(
            ToDecibel(reference="max", floor_db=FLOOR_DB), Channels(1), Normalise((-FLOOR_DB / 2,), (FLOOR_DB / 2,))
        )

    def out_shape(self, samples: int) -> tuple[int, int, int]:  # noqa: D102 - documented in the base class
        return 1, self.n_bins, 1 + samples // self.hop_length

    def forward(self, waveform: Tensor) -> Tensor:  # noqa: D102 - documented in the base class
        kernels = [
            ConstantQKernel(weights(waveform), bins=bins, n_fft=n_fft)
            for weights, bins, n_fft in zip(self.weights, self.bins, self.n_ffts, strict=True)
        ]
        power = functional.constant_q_power(waveform, kernels=kernels, hop_length=self.hop_length)
        spectrogram: Tensor = self.scale(power)
        return spectrogram

    def bins_hz(self) -> Tensor:  # noqa: D102 - documented in the base class
        return functional.constant_q_frequencies(
            f_min_hz=self.f_min_hz, n_bins=self.n_bins, bins_per_octave=self.bins_per_octave
        ).to(torch.get_default_dtype())
