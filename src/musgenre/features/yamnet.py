"""Log-mel spectrogram of YAMNet, which was trained on AudioSet."""

from __future__ import annotations

import torch
from torch import Tensor

from musgenre import functional
from musgenre.core.errors import ParameterError
from musgenre.features.base import FeatureExtractor, centres_hz
from musgenre.transforms.spectral import Constant

_SAMPLE_RATE = 16_000
_FRAME_LENGTH = 400  # 25 ms
_HOP_LENGTH = 160  # 10 ms
_N_FFT = 512
_N_MELS = 64
_F_MIN_HZ, _F_MAX_HZ = 125.0, 7500.0
_OFFSET = 0.001


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
        :class:`~musgenre.features.LogMel`
    """

    def __init__(self, *, sample_rate: int) -> None:
        super().__init__(sample_rate=sample_rate)
        if sample_rate != _SAMPLE_RATE:
            raise ParameterError(
                f"yamnet-logmel requires sample_rate 16000, not {sample_rate!r}: set "
                "audio=AudioSpec(sample_rate=16_000, ...) in the configuration, which resamples the audio."
            )
        self.window = Constant(torch.hann_window(_FRAME_LENGTH, dtype=torch.float64))
        self.filterbank = Constant(_mel_filterbank())

    def out_shape(self, samples: int) -> tuple[int, int, int]:  # noqa: D102 - documented in the base class
        return 1, _N_MELS, max(0, 1 + (samples - _FRAME_LENGTH) // _HOP_LENGTH)

    def forward(self, waveform: Tensor) -> Tensor:  # noqa: D102 - documented in the base class
        frames = functional.frame(waveform, frame_length=_FRAME_LENGTH, hop_length=_HOP_LENGTH)
        magnitude = torch.fft.rfft(frames * self.window(waveform), n=_N_FFT).abs().transpose(-2, -1)
        mel = functional.mel_spectrogram(magnitude, filterbank=self.filterbank(waveform))
        return (mel + _OFFSET).log().unsqueeze(1)

    def bins_hz(self) -> Tensor:  # noqa: D102 - documented in the base class
        return centres_hz(self.filterbank.value, sample_rate=self.sample_rate)


def _mel_filterbank() -> Tensor:
    """Return the ``(64, 257)`` weights of ``tf.signal.linear_to_mel_weight_matrix``.

    The mel scale is HTK's. The triangles are linear in mel, while librosa's are linear in hertz, and each has a peak of
    1. The weight of the lowest bin, 0 Hz, is zero.
    """
    hertz = torch.linspace(0, _SAMPLE_RATE / 2, _N_FFT // 2 + 1, dtype=torch.float64)
    limits = torch.tensor([_F_MIN_HZ, _F_MAX_HZ], dtype=torch.float64)
    low, high = _hz_to_mel(limits).tolist()
    edges = torch.linspace(low, high, _N_MELS + 2, dtype=torch.float64)[:, None]
    rising = (_hz_to_mel(hertz) - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - _hz_to_mel(hertz)) / (edges[2:] - edges[1:-1])
    return rising.minimum(falling).clamp(min=0)


def _hz_to_mel(hertz: Tensor) -> Tensor:
    return 1127 * (1 + hertz / 700).log()
