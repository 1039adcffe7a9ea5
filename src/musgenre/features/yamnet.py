"""Log-mel spectrograms of YAMNet, which was trained on AudioSet."""

from __future__ import annotations

import torch
from torch import Tensor

from musgenre import functional
from musgenre.core.errors import ParameterError
from musgenre.features.base import FeatureExtractor, centres_hz
from musgenre.transforms.spectral import Constant

SAMPLE_RATE = 16_000
_FRAME_LENGTH = 400  # 25 ms
_HOP_LENGTH = 160  # 10 ms
_N_FFT = 512
N_MELS = 64
_F_MIN_HZ, _F_MAX_HZ = 125.0, 7500.0
OFFSET = 0.001


class YAMNetLogMel(FeatureExtractor):
    """Log-mel spectrogram on which YAMNet was trained.

    Magnitudes (not power) of 25 ms Hann windows every 10 ms, without padding at the ends, are projected onto 64 mel
    bands from 125 to 7,500 Hz and converted by ``log(mel + 0.001)``. The level of the recording is preserved. Constants
    and formulas follow ``research/audioset/yamnet/features.py`` of the TensorFlow Model Garden.

    Args:
        sample_rate: Rate of the audio, in hertz; must be 16,000.

    Shape:
        ``(batch, samples)`` to ``(batch, 1, 64, frames)``, the lowest band first; ``frames`` is
        ``1 + (samples - 400) // 160``. YAMNet needs 96 frames, which is 15,600 samples or 0.975 s.

    Raises:
        ParameterError: ``sample_rate`` is not 16,000; from ``forward``, the waveform is shorter than 400 samples.

    Example:
        >>> feature = YAMNetLogMel(sample_rate=16_000)
        >>> feature(torch.zeros(2, 15_600)).shape, feature.out_shape(48_000)
        (torch.Size([2, 1, 64, 96]), (1, 64, 298))

    See Also:
        :class:`~musgenre.features.YAMNetMel`, :class:`~musgenre.features.LogMel`
    """

    def __init__(self, *, sample_rate: int) -> None:
        super().__init__(sample_rate=sample_rate)
        if sample_rate != SAMPLE_RATE:
            raise ParameterError(
                f"yamnet-logmel requires sample_rate 16000, not {sample_rate!r}: set "
                "audio=AudioSpec(sample_rate=16_000, ...) in the configuration, which resamples the audio."
            )
        self.window = Constant(torch.hann_window(_FRAME_LENGTH, dtype=torch.float64))
        self.filterbank = Constant(mel_filterbank())

    def out_shape(self, samples: int) -> tuple[int, int, int]:  # noqa: D102 - documented in the base class
        return 1, N_MELS, max(0, 1 + (samples - _FRAME_LENGTH) // _HOP_LENGTH)

    def forward(self, waveform: Tensor) -> Tensor:  # noqa: D102 - documented in the base class
        frames = functional.frame(waveform, frame_length=_FRAME_LENGTH, hop_length=_HOP_LENGTH)
        magnitude = torch.fft.rfft(frames * self.window(waveform), n=_N_FFT).abs().transpose(-2, -1)
        mel = functional.mel_spectrogram(magnitude, filterbank=self.filterbank(waveform))
        return (mel + OFFSET).log().unsqueeze(1)

    def bins_hz(self) -> Tensor:  # noqa: D102 - documented in the base class
        return centres_hz(self.filterbank.value, sample_rate=self.sample_rate)


def bands_of_mel(filterbank: Tensor, *, sample_rate: int, n_fft: int) -> Tensor:
    """Return ``(64, n_mels)`` weights of the amplitudes of mel bands in YAMNet's bands.

    Args:
        filterbank: Weights of the Fourier bins in each mel band, ``(n_mels, n_fft // 2 + 1)``.
        sample_rate: Rate of the audio, in hertz.
        n_fft: Length of the Fourier transform, in samples.
    """
    triangles = mel_filterbank(torch.linspace(0, sample_rate / 2, n_fft // 2 + 1, dtype=torch.float64))
    totals = filterbank.sum(dim=0)
    shares = filterbank / torch.where(totals > 0, totals, 1)  # of each mel band in a Fourier bin
    widths = filterbank.sum(dim=1)
    # A sum over bins of this spectrogram has n_fft / 512 times as many terms as one of YAMNet's, whose windows are 400
    # samples long: amplitudes of noise, like most of music, grow with the root of the length.
    scale = _N_FFT / n_fft * (_FRAME_LENGTH / n_fft) ** 0.5
    bands: Tensor = scale * triangles @ shares.T / torch.where(widths > 0, widths, 1).sqrt()
    return bands


def mel_filterbank(hertz: Tensor | None = None) -> Tensor:
    """Return the ``(64, 257)`` weights of ``tf.signal.linear_to_mel_weight_matrix``.

    The mel scale is HTK's. The triangles are linear in mel, while librosa's are linear in hertz, and each has a peak of
    1. The weight of the lowest bin, 0 Hz, is zero.

    Args:
        hertz: Frequencies other than those of YAMNet's Fourier bins.
    """
    if hertz is None:
        hertz = torch.linspace(0, SAMPLE_RATE / 2, _N_FFT // 2 + 1, dtype=torch.float64)
    limits = torch.tensor([_F_MIN_HZ, _F_MAX_HZ], dtype=torch.float64)
    low, high = _hz_to_mel(limits).tolist()
    edges = torch.linspace(low, high, N_MELS + 2, dtype=torch.float64)[:, None]
    rising = (_hz_to_mel(hertz) - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - _hz_to_mel(hertz)) / (edges[2:] - edges[1:-1])
    return rising.minimum(falling).clamp(min=0)


def _hz_to_mel(hertz: Tensor) -> Tensor:
    return 1127 * (1 + hertz / 700).log()
