"""Power in octave bands."""

from __future__ import annotations

import torch
from torch import Tensor

from musgenre.core.errors import ParameterError
from musgenre.features import FeatureExtractor
from musgenre.functional import power_spectrogram


class OctaveBands(FeatureExtractor):
    """Logarithm of the power in each octave from ``low_hz`` up to half the sample rate.

    Args:
        sample_rate: Rate of the audio, in hertz.
        low_hz: Lower edge of the lowest octave, in hertz.
        n_fft: Length of the Fourier transform, in samples.
        hop_length: Hop between frames, in samples.

    Shape:
        ``(batch, samples)`` to ``(batch, 1, octaves, frames)``, the lowest octave first.

    Raises:
        ParameterError: No octave fits below half the sample rate, or an octave contains no bin.

    Example:
        >>> feature = OctaveBands(sample_rate=22_050)
        >>> feature(torch.randn(2, 22_050)).shape, feature.out_shape(22_050)
        (torch.Size([2, 1, 8, 44]), (1, 8, 44))
    """

    bands: Tensor

    def __init__(self, *, sample_rate: int, low_hz: float = 43.0, n_fft: int = 2048, hop_length: int = 512) -> None:
        super().__init__(sample_rate=sample_rate)
        self.n_fft = n_fft
        self.hop_length = hop_length
        frequencies = torch.linspace(0, sample_rate / 2, n_fft // 2 + 1)
        edges = [low_hz]
        while 2 * edges[-1] <= sample_rate / 2:
            edges.append(2 * edges[-1])
        bands = [(frequencies >= low) & (frequencies < 2 * low) for low in edges[:-1]]
        if not bands or not all(band.any() for band in bands):
            raise ParameterError(f"low_hz={low_hz!r} and n_fft={n_fft!r} leave an octave empty at {sample_rate} Hz.")
        # Not persistent: a constant moves with the module, but is not saved with the model.
        self.register_buffer("bands", torch.stack(bands).float(), persistent=False)

    def out_shape(self, samples: int) -> tuple[int, int, int]:
        """Returns ``(1, octaves, frames)``."""
        return 1, len(self.bands), samples // self.hop_length + 1

    def forward(self, waveform: Tensor) -> Tensor:
        """Maps ``(batch, samples)`` to ``(batch, 1, octaves, frames)``."""
        power = power_spectrogram(waveform, n_fft=self.n_fft, hop_length=self.hop_length)
        return (self.bands @ power).clamp(min=1e-10).log10()[:, None]
