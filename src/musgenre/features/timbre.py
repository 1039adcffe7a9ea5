"""Features of timbre: spectral contrast."""

from __future__ import annotations

from torch import Tensor

from musgenre import functional
from musgenre.features.base import FeatureExtractor
from musgenre.transforms.spectral import Spectrogram


class SpectralContrast(FeatureExtractor):
    """Spectral contrast: difference between peaks and valleys of octave bands.

    Equal to ``librosa.feature.spectral_contrast`` (Jiang et al., "Music type classification by spectral contrast
    feature", 2002).

    Args:
        sample_rate: Rate of the audio, in hertz; above 12,800 with the defaults.
        n_bands: Number of octave bands after the first band.
        f_min_hz: Upper edge of the first band, in hertz.
        quantile: Fraction of the bins of a band that form its peak and its valley, in (0, 1).
        n_fft: Length of the Fourier transform, in samples.
        hop_length: Samples between the starts of successive frames.

    Shape:
        ``(batch, samples)`` to ``(batch, 1, n_bands + 1, frames)``, in decibels, the lowest band first.

    Raises:
        ParameterError: A parameter is out of range, or the bands exceed half the sample rate.

    Example:
        >>> import torch
        >>> SpectralContrast(sample_rate=22_050)(torch.randn(2, 66_150)).shape
        torch.Size([2, 1, 7, 130])

    See Also:
        :func:`musgenre.functional.spectral_contrast`
    """

    def __init__(
        self,
        *,
        sample_rate: int,
        n_bands: int = 6,
        f_min_hz: float = 200.0,
        quantile: float = 0.02,
        n_fft: int = 2048,
        hop_length: int = 512,
    ) -> None:
        super().__init__(sample_rate=sample_rate)
        self.spectrogram = Spectrogram(n_fft=n_fft, hop_length=hop_length)
        self.bands = functional.contrast_bands(
            sample_rate=sample_rate, n_fft=n_fft, f_min_hz=f_min_hz, n_bands=n_bands, quantile=quantile
        )

    def out_shape(self, samples: int) -> tuple[int, int, int]:  # noqa: D102 - documented in the base class
        return 1, len(self.bands), self.spectrogram.frame_count(samples)

    def forward(self, waveform: Tensor) -> Tensor:  # noqa: D102 - documented in the base class
        magnitude = functional.to_magnitude(self.spectrogram(waveform))
        return functional.spectral_contrast(magnitude, bands=self.bands).unsqueeze(1)
