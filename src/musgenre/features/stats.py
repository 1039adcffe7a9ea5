"""Summary statistics of standard audio features: one vector per window."""

from __future__ import annotations

import torch
from torch import Tensor

from musgenre import functional
from musgenre.features.base import FeatureExtractor
from musgenre.transforms.spectral import Constant, Spectrogram

PITCHES = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")
TEMPO_SECONDS = 8.0
"""Longest lag of the tempo estimate; librosa's ``ac_size``."""

_N_MELS = 128


class Stats(FeatureExtractor):
    """Summary statistics of frame-wise features, and the tempo: one vector per window.

    The vector holds the mean, standard deviation and skewness over the frames of these features, which equal the
    functions of ``librosa.feature`` with their defaults: ``mfcc`` (20), ``chroma_stft`` with ``tuning=0`` (12),
    ``spectral_contrast`` (7), ``tonnetz`` of that chroma (6), ``spectral_centroid``, ``spectral_bandwidth``,
    ``spectral_rolloff``, ``spectral_flatness``, ``zero_crossing_rate`` and ``rms``. The last entry is ``tempo``. The
    selection follows Tzanetakis and Cook, "Musical genre classification of audio signals", 2002.

    Entries have different units (hertz, decibels, beats per minute) and should be standardised before training.
    Roll-off, zero-crossing rate and tempo are not differentiable.

    Args:
        sample_rate: Rate of the audio, in hertz; above 12,800 with the defaults.
        n_mfcc: Number of cepstral coefficients.
        n_bands: Number of octave bands of the spectral contrast after the first band.
        n_fft: Length of the Fourier transform, in samples.
        hop_length: Samples between the starts of successive frames.

    Attributes:
        names: Name of each entry, such as ``"mfcc_0_mean"``, ``"chroma_C#_std"``, ``"rms_skew"`` and ``"tempo"``.

    Shape:
        ``(batch, samples)`` to ``(batch, 1, entries, 1)``, in the order of ``names``; 154 by default.

    Raises:
        ParameterError: A parameter is out of range.

    Example:
        >>> stats = Stats(sample_rate=22_050)
        >>> vectors = stats(torch.randn(2, 66_150))
        >>> vectors.shape, dict(zip(stats.names, vectors[0].flatten().tolist()))["zero_crossing_rate_mean"] > 0.4
        (torch.Size([2, 1, 154, 1]), True)

    See Also:
        :func:`musgenre.functional.moments`
    """

    names: tuple[str, ...]

    def __init__(
        self, *, sample_rate: int, n_mfcc: int = 20, n_bands: int = 6, n_fft: int = 2048, hop_length: int = 512
    ) -> None:
        super().__init__(sample_rate=sample_rate)
        self.spectrogram = Spectrogram(n_fft=n_fft, hop_length=hop_length)
        self.filterbank = Constant(functional.mel_filterbank(sample_rate=sample_rate, n_fft=n_fft, n_mels=_N_MELS))
        self.dct = Constant(functional.dct_matrix(n_mfcc=n_mfcc, n_mels=_N_MELS))
        self.chroma_filterbank = Constant(functional.chroma_filterbank(sample_rate=sample_rate, n_fft=n_fft))
        self.tonnetz_matrix = Constant(functional.tonnetz_matrix())
        self.bands = functional.contrast_bands(sample_rate=sample_rate, n_fft=n_fft, n_bands=n_bands)
        self.lags = int(TEMPO_SECONDS * sample_rate) // hop_length
        rows = [
            *(f"mfcc_{number}" for number in range(n_mfcc)),
            *(f"chroma_{pitch}" for pitch in PITCHES),
            *(f"spectral_contrast_{number}" for number in range(n_bands + 1)),
            *(f"tonnetz_{number}" for number in range(6)),
            *(f"spectral_{name}" for name in ("centroid", "bandwidth", "rolloff", "flatness")),
            *("zero_crossing_rate", "rms"),
        ]
        self.names = (*(f"{row}_{moment}" for row in rows for moment in ("mean", "std", "skew")), "tempo")
        functional.tempo(
            torch.ones(self.lags, 1), sample_rate=sample_rate, hop_length=hop_length
        )  # validates the rates

    def out_shape(self, samples: int) -> tuple[int, int, int]:  # noqa: D102 - documented in the base class
        return 1, len(self.names), 1

    def forward(self, waveform: Tensor) -> Tensor:  # noqa: D102 - documented in the base class
        power = self.spectrogram(waveform)
        decibel = functional.to_decibel(functional.mel_spectrogram(power, filterbank=self.filterbank(waveform)))
        rows = [functional.mfcc(decibel, dct=self.dct(waveform), n_mfcc=self.dct.value.shape[0])]
        rows += [*self._harmony(power), *self._spectral_shape(power), *self._levels(waveform)]
        vector = functional.moments(torch.cat(rows, dim=-2)).flatten(start_dim=-2)
        return torch.cat([vector, self._tempo(decibel).unsqueeze(-1)], dim=-1)[:, None, :, None]

    def _harmony(self, power: Tensor) -> list[Tensor]:
        chroma = functional.chroma(power, filterbank=self.chroma_filterbank(power))
        contrast = functional.spectral_contrast(functional.to_magnitude(power), bands=self.bands)
        return [chroma, contrast, functional.tonnetz(chroma, matrix=self.tonnetz_matrix(power))]

    def _spectral_shape(self, power: Tensor) -> list[Tensor]:
        magnitude = functional.to_magnitude(power)
        return [
            functional.spectral_centroid(magnitude, sample_rate=self.sample_rate),
            functional.spectral_bandwidth(magnitude, sample_rate=self.sample_rate),
            functional.spectral_rolloff(magnitude, sample_rate=self.sample_rate),
            functional.spectral_flatness(power),
        ]

    def _levels(self, waveform: Tensor) -> list[Tensor]:
        sizes = {"frame_length": self.spectrogram.n_fft, "hop_length": self.spectrogram.hop_length}
        return [functional.zero_crossing_rate(waveform, **sizes), functional.rms(waveform, **sizes)]

    def _tempo(self, decibel: Tensor) -> Tensor:
        hop_length = self.spectrogram.hop_length
        onsets = functional.onset_strength(decibel, n_fft=self.spectrogram.n_fft, hop_length=hop_length)
        tempogram = functional.tempogram(onsets, win_length=self.lags)
        return functional.tempo(tempogram, sample_rate=self.sample_rate, hop_length=hop_length)
