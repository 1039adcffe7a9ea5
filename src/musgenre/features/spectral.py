"""Log-mel spectrograms, as bare numbers and as pictures, and cepstral coefficients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from torch import Tensor, nn

from musgenre.core.errors import ParameterError
from musgenre.features.base import FeatureExtractor, centres_hz
from musgenre.transforms.shape import Channels, Normalise, Resize
from musgenre.transforms.spectral import MFCC, MelSpectrogram, ToDecibel

FLOOR_DB = 80.0
"""How far below a window's loudest point the pictures end."""

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
"""Mean and deviation of ImageNet's red, green and blue, which torchvision's weights expect."""


class LogMel(FeatureExtractor):
    """Log-mel spectrogram, relative to the window's own loudest point, in [-1, 1].

    1 is the loudest point of the window and -1 lies 80 dB or more below it, so that a song's level
    changes nothing. Digital silence, in which no point is louder than another, is 1 throughout.

    Args:
        sample_rate: Rate of the audio, in hertz.
        n_fft: Length of the Fourier transform, in samples.
        hop_length: Distance from one frame to the next, in samples.
        n_mels: Number of mel bands.
        f_min_hz: Lower edge of the lowest band.
        f_max_hz: Upper edge of the highest band; ``None`` is half the sample rate.

    Shape:
        ``(batch, samples)`` to ``(batch, 1, n_mels, frames)``, the lowest band first.

    Raises:
        ParameterError: A parameter is out of range.

    Example:
        >>> import torch
        >>> feature = LogMel(sample_rate=22_050)
        >>> feature(torch.randn(2, 66_150)).shape, feature.out_shape(66_150)
        (torch.Size([2, 1, 128, 130]), (1, 128, 130))
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
        super().__init__(sample_rate=sample_rate)
        self.mel = MelSpectrogram(
            sample_rate=sample_rate,
            n_fft=n_fft,
            hop_length=hop_length,
            n_mels=n_mels,
            f_min_hz=f_min_hz,
            f_max_hz=f_max_hz,
        )
        self.scale = nn.Sequential(
            ToDecibel(reference="max", floor_db=FLOOR_DB, inplace=True),
            Channels(1),
            Normalise((-FLOOR_DB / 2,), (FLOOR_DB / 2,), inplace=True),
        )

    def out_shape(self, samples: int) -> tuple[int, int, int]:  # noqa: D102 - the contract's
        return 1, self.mel.n_mels, self.mel.frame_count(samples)

    def forward(self, waveform: Tensor) -> Tensor:  # noqa: D102 - the contract's
        picture: Tensor = self.scale(self.mel(waveform))
        return picture

    def bins_hz(self) -> Tensor:  # noqa: D102 - the contract's
        return centres_hz(self.mel.filterbank.value, sample_rate=self.sample_rate)


class Mfcc(FeatureExtractor):
    """Mel-frequency cepstral coefficients, in decibels, as ``librosa.feature.mfcc`` gives them.

    They are not scaled: the first coefficient follows the level and lies in the hundreds.

    Args:
        sample_rate: Rate of the audio, in hertz.
        n_mfcc: Number of coefficients, from 1 to ``n_mels``.
        n_fft: Length of the Fourier transform, in samples.
        hop_length: Distance from one frame to the next, in samples.
        n_mels: Number of mel bands.

    Shape:
        ``(batch, samples)`` to ``(batch, 1, n_mfcc, frames)``, the slowest cosine first.

    Raises:
        ParameterError: A parameter is out of range.

    Example:
        >>> import torch
        >>> Mfcc(sample_rate=22_050)(torch.randn(2, 66_150)).shape
        torch.Size([2, 1, 20, 130])
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
        super().__init__(sample_rate=sample_rate)
        self.mfcc = MFCC(sample_rate=sample_rate, n_mfcc=n_mfcc, n_fft=n_fft, hop_length=hop_length, n_mels=n_mels)
        self.channel = Channels(1)

    def out_shape(self, samples: int) -> tuple[int, int, int]:  # noqa: D102 - the contract's
        return 1, self.mfcc.n_mfcc, self.mfcc.mel.frame_count(samples)

    def forward(self, waveform: Tensor) -> Tensor:  # noqa: D102 - the contract's
        coefficients: Tensor = self.channel(self.mfcc(waveform))
        return coefficients


class LogMelImage(FeatureExtractor):
    """A log-mel spectrogram of the whole window as a picture for a network that was trained on ImageNet.

    Decibels from 80 below the window's loudest point up to it become brightness from 0 to 1; the picture is
    resized, given equal channels, and normalised as the network's own pictures were. The first
    row is the lowest band, so the picture stands on its head for a human eye.

    Args:
        sample_rate: Rate of the audio, in hertz.
        size: Height and width of the picture, in pixels.
        n_fft: Length of the Fourier transform, in samples.
        hop_length: Distance from one frame to the next, in samples.
        n_mels: Number of mel bands, before resizing.
        normalise: Mean of each channel, then deviation of each; as many channels as means. By default ImageNet's.

    Shape:
        ``(batch, samples)`` to ``(batch, channels, size, size)``, whatever the number of samples.

    Raises:
        ParameterError: A parameter is out of range.

    Example:
        >>> import torch
        >>> LogMelImage(sample_rate=22_050)(torch.randn(2, 66_150)).shape
        torch.Size([2, 3, 224, 224])
    """

    def __init__(
        self,
        *,
        sample_rate: int,
        size: int = 224,
        n_fft: int = 2048,
        hop_length: int = 512,
        n_mels: int = 128,
        normalise: Sequence[Sequence[float]] = (IMAGENET_MEAN, IMAGENET_STD),
    ) -> None:
        super().__init__(sample_rate=sample_rate)
        self.size = size
        try:
            mean, std = ([float(number) for number in numbers] for numbers in normalise)
        except (TypeError, ValueError) as error:
            raise ParameterError(f"normalise must be two lists of numbers, not {normalise!r}.") from error
        self.channels = len(mean)
        self.steps = nn.Sequential(
            MelSpectrogram(sample_rate=sample_rate, n_fft=n_fft, hop_length=hop_length, n_mels=n_mels),
            ToDecibel(reference="max", floor_db=FLOOR_DB, inplace=True),
            Resize(size),
            Channels(self.channels),
            Normalise((-FLOOR_DB,) * self.channels, (FLOOR_DB,) * self.channels),
            Normalise(mean, std),
        )

    def out_shape(self, samples: int) -> tuple[int, int, int]:  # noqa: D102 - the contract's
        return self.channels, self.size, self.size

    def forward(self, waveform: Tensor) -> Tensor:  # noqa: D102 - the contract's
        picture: Tensor = self.steps(waveform)
        return picture

    def bins_hz(self) -> Tensor:  # noqa: D102 - the contract's
        mel = cast(MelSpectrogram, self.steps[0])
        bands = centres_hz(mel.filterbank.value, sample_rate=self.sample_rate)
        rows = nn.functional.interpolate(bands[None, None], self.size, mode="linear", align_corners=False)
        return rows[0, 0]
