"""What is heard of harmony: pitch classes, tonal centroids, and the spectrum by keys."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from musgenre import functional
from musgenre.features.base import FeatureExtractor
from musgenre.functional.constantq import C1_HZ, ConstantQKernel
from musgenre.transforms.constant import Constant
from musgenre.transforms.shape import Channels, Normalise
from musgenre.transforms.spectral import Spectrogram, ToDecibel

FLOOR_DB = 80.0
"""How far below a window's loudest point the constant-Q transform ends, as in ``logmel``."""


class Chroma(FeatureExtractor):
    """Strength of the pitch classes, C first, as ``librosa.feature.chroma_stft`` gives it with ``tuning=0``.

    librosa estimates the tuning of each song unless it is told; here it is an option, so that every window of a song is
    heard alike. In each frame the strongest class is 1.

    Args:
        sample_rate: Rate of the audio, in hertz.
        n_chroma: Number of pitch classes in an octave.
        tuning: How far the music's A lies above 440 Hz, in shares of a pitch class.
        n_fft: Length of the Fourier transform, in samples.
        hop_length: Samples from one frame to the next.

    Shape:
        ``(batch, samples)`` to ``(batch, 1, n_chroma, frames)``, in [0, 1].

    Raises:
        ParameterError: A parameter is out of range.

    Example:
        >>> Chroma(sample_rate=22_050)(torch.randn(2, 66_150)).shape
        torch.Size([2, 1, 12, 130])
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

    def out_shape(self, samples: int) -> tuple[int, int, int]:  # noqa: D102 - the contract's
        return 1, self.n_chroma, self.spectrogram.frame_count(samples)

    def forward(self, waveform: Tensor) -> Tensor:  # noqa: D102 - the contract's
        return functional.chroma(self.spectrogram(waveform), filterbank=self.filterbank(waveform)).unsqueeze(1)


class Tonnetz(FeatureExtractor):
    """Tonal centroids of the pitch classes, as ``librosa.feature.tonnetz`` gives them of ``chroma_stft``.

    Sine and cosine on the circles of fifths, minor thirds and major thirds. librosa's own default is another
    chromagram, that of the constant-Q transform.

    Args:
        sample_rate: Rate of the audio, in hertz.
        tuning: How far the music's A lies above 440 Hz, in semitones.
        n_fft: Length of the Fourier transform, in samples.
        hop_length: Samples from one frame to the next.

    Shape:
        ``(batch, samples)`` to ``(batch, 1, 6, frames)``, in [-1, 1].

    Raises:
        ParameterError: A parameter is out of range.

    Example:
        >>> Tonnetz(sample_rate=22_050)(torch.randn(2, 66_150)).shape
        torch.Size([2, 1, 6, 130])
    """

    def __init__(self, *, sample_rate: int, tuning: float = 0.0, n_fft: int = 2048, hop_length: int = 512) -> None:
        super().__init__(sample_rate=sample_rate)
        self.chroma = Chroma(sample_rate=sample_rate, tuning=tuning, n_fft=n_fft, hop_length=hop_length)
        self.matrix = Constant(functional.tonnetz_matrix())

    def out_shape(self, samples: int) -> tuple[int, int, int]:  # noqa: D102 - the contract's
        return 1, 6, self.chroma.out_shape(samples)[2]

    def forward(self, waveform: Tensor) -> Tensor:  # noqa: D102 - the contract's
        return functional.tonnetz(self.chroma(waveform), matrix=self.matrix(waveform))


class ConstantQ(FeatureExtractor):
    """Constant-Q spectrogram, relative to the window's own loudest point, in [-1, 1], on the scale of ``logmel``.

    1 is the loudest point of the window and -1 lies 80 dB or more below it. The magnitudes behind it agree with
    ``librosa.cqt``'s within 3 % of the loudest; :func:`musgenre.functional.constant_q_kernels` says why not entirely.

    Args:
        sample_rate: Rate of the audio, in hertz.
        f_min_hz: Frequency of the lowest bin; by default the lowest C of a piano.
        n_bins: Number of bins; by default seven octaves of keys.
        bins_per_octave: Bins in an octave.
        hop_length: Samples from one frame to the next.

    Shape:
        ``(batch, samples)`` to ``(batch, 1, n_bins, frames)``, the lowest bin first.

    Raises:
        ParameterError: A parameter is out of range, or the highest bin reaches beyond half the rate.

    Example:
        >>> ConstantQ(sample_rate=22_050)(torch.randn(2, 66_150)).shape
        torch.Size([2, 1, 84, 130])
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
        self.places = tuple((kernel.bins, kernel.n_fft) for kernel in kernels)
        self.scale = nn.Sequential(
            ToDecibel(reference="max", floor_db=FLOOR_DB), Channels(1), Normalise((-FLOOR_DB / 2,), (FLOOR_DB / 2,))
        )

    def out_shape(self, samples: int) -> tuple[int, int, int]:  # noqa: D102 - the contract's
        return 1, self.n_bins, 1 + samples // self.hop_length

    def forward(self, waveform: Tensor) -> Tensor:  # noqa: D102 - the contract's
        weights = (constant(waveform) for constant in self.weights)
        kernels = [ConstantQKernel(weight, *place) for weight, place in zip(weights, self.places, strict=True)]
        power = functional.constant_q_power(waveform, kernels=kernels, hop_length=self.hop_length)
        picture: Tensor = self.scale(power)
        return picture

    def bins_hz(self) -> Tensor:  # noqa: D102 - the contract's
        return functional.constant_q_frequencies(
            f_min_hz=self.f_min_hz, n_bins=self.n_bins, bins_per_octave=self.bins_per_octave
        ).to(torch.get_default_dtype())
