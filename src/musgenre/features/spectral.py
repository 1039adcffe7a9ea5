"""Features of mel spectrograms: log-mel, images, YAMNet's bands and mel-frequency cepstral coefficients."""

from __future__ import annotations

import abc
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from musgenre import functional
from musgenre.core.errors import ParameterError
from musgenre.features import yamnet
from musgenre.features.base import FLOOR_DB, FeatureExtractor, centres_hz
from musgenre.transforms.shape import Channels, Colormap, Normalise, Resize
from musgenre.transforms.spectral import MFCC, Constant, MelSpectrogram, ToDecibel

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
"""Mean and standard deviation of the red, green and blue channels of ImageNet, which torchvision's weights expect."""

_YAMNET_PEAK_DB = 38.0  # of a window


class MelFeature(FeatureExtractor):
    """Base class of features that are computed from a mel spectrogram.

    In place of audio, they also process mel spectrograms that were computed before, such as those of
    :mod:`musgenre.datasets.spectrograms`. A subclass implements
    :meth:`~musgenre.features.base.FeatureExtractor.out_shape` and :meth:`from_mel`.

    Args:
        mel: The mel spectrogram.

    Attributes:
        mel: The mel spectrogram.
    """

    def __init__(self, mel: MelSpectrogram) -> None:
        super().__init__(sample_rate=mel.sample_rate)
        self.mel = mel

    @abc.abstractmethod
    def from_mel(self, power: Tensor) -> Tensor:
        """Compute the feature from a mel spectrogram, which may be overwritten.

        Shape:
            ``(batch, n_mels, mel_frames)`` to ``(batch, channels, bins, frames)``
        """

    def forward(self, waveform: Tensor) -> Tensor:
        """Compute the feature from audio or from power spectrograms.

        Args:
            waveform: Mono windows at :attr:`sample_rate`, in [-1, 1]; or mel spectrograms with the settings of
                ``self.mel``, as power.

        Shape:
            ``(batch, samples)`` or ``(batch, n_mels, mel_frames)`` to ``(batch, channels, bins, frames)``
        """
        return self.from_mel(self.mel(waveform) if waveform.dim() == 2 else waveform.clone())

    def bins_hz(self) -> Tensor:  # noqa: D102 - documented in the base class
        return centres_hz(self.mel.filterbank.value, sample_rate=self.sample_rate)


def mel_of(feature: FeatureExtractor) -> MelSpectrogram | None:
    """Return the mel spectrogram from which a feature is computed, or ``None`` if it is computed from audio only."""
    return feature.mel if isinstance(feature, MelFeature) else None


class LogMel(MelFeature):
    """Log-mel spectrogram in decibels relative to the maximum of the window, scaled to [-1, 1].

    1 is the maximum of the window, and -1 is 80 dB or more below it, so that the level of a recording has no effect.
    Digital silence, where all values are equal, is 1 everywhere.

    Args:
        sample_rate: Rate of the audio, in hertz.
        n_fft: Length of the Fourier transform, in samples.
        hop_length: Samples between the starts of successive frames.
        n_mels: Number of mel bands.
        f_min_hz: Lower edge of the lowest band, in hertz.
        f_max_hz: Upper edge of the highest band, in hertz; ``None`` is half the sample rate.

    Shape:
        ``(batch, samples)`` to ``(batch, 1, n_mels, frames)``, the lowest band first.

    Raises:
        ParameterError: A parameter is out of range.

    Example:
        >>> import torch
        >>> feature = LogMel(sample_rate=22_050)
        >>> feature(torch.randn(2, 66_150)).shape, feature.out_shape(66_150)
        (torch.Size([2, 1, 128, 130]), (1, 128, 130))

    See Also:
        :class:`LogMelImage`, :class:`Mfcc`, :class:`musgenre.transforms.MelSpectrogram`
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
        mel = MelSpectrogram(
            sample_rate=sample_rate,
            n_fft=n_fft,
            hop_length=hop_length,
            n_mels=n_mels,
            f_min_hz=f_min_hz,
            f_max_hz=f_max_hz,
        )
        super().__init__(mel)
        self.decibel = ToDecibel(reference="max", floor_db=FLOOR_DB, inplace=True)
        self.mean = Constant(torch.tensor([-FLOOR_DB / 2], dtype=torch.float64))
        self.std = Constant(torch.tensor([FLOOR_DB / 2], dtype=torch.float64))

    def out_shape(self, samples: int) -> tuple[int, int, int]:  # noqa: D102 - documented in the base class
        return 1, self.mel.n_mels, self.mel.frame_count(samples)

    def from_mel(self, power: Tensor) -> Tensor:  # noqa: D102 - documented in the base class
        level = self.decibel(power).unsqueeze(-3)
        return functional.normalise(level, mean=self.mean(level), std=self.std(level), inplace=True)


class Mfcc(FeatureExtractor):
    """Mel-frequency cepstral coefficients, in decibels, equal to ``librosa.feature.mfcc``.

    Coefficients are not scaled: the first one depends on the level and is of the order of hundreds.

    Args:
        sample_rate: Rate of the audio, in hertz.
        n_mfcc: Number of coefficients, from 1 to ``n_mels``.
        n_fft: Length of the Fourier transform, in samples.
        hop_length: Samples between the starts of successive frames.
        n_mels: Number of mel bands.

    Shape:
        ``(batch, samples)`` to ``(batch, 1, n_mfcc, frames)``, the lowest-order coefficient first.

    Raises:
        ParameterError: A parameter is out of range.

    Example:
        >>> import torch
        >>> Mfcc(sample_rate=22_050)(torch.randn(2, 66_150)).shape
        torch.Size([2, 1, 20, 130])

    See Also:
        :class:`LogMel`, :class:`musgenre.transforms.MFCC`
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

    def out_shape(self, samples: int) -> tuple[int, int, int]:  # noqa: D102 - documented in the base class
        return 1, self.mfcc.n_mfcc, self.mfcc.mel.frame_count(samples)

    def forward(self, waveform: Tensor) -> Tensor:  # noqa: D102 - documented in the base class
        coefficients: Tensor = self.channel(self.mfcc(waveform))
        return coefficients


class LogMelImage(MelFeature):
    """Log-mel spectrogram of a window as an image for a network that was pretrained on ImageNet.

    Decibels from 80 below the maximum of the window up to the maximum are mapped to pixel values from 0 to 1, equal in
    all channels, or to the colours of a colormap. The image is resized, and normalised like the images on which the
    network was trained. The first row is the lowest band, so that the image is upside down when it is displayed with
    the first row on top.

    Args:
        sample_rate: Rate of the audio, in hertz.
        size: Height and width of the image, in pixels; a single number is used for both.
        n_fft: Length of the Fourier transform, in samples.
        hop_length: Samples between the starts of successive frames.
        n_mels: Number of mel bands, before resizing.
        mean: Mean of each channel in the pretraining data, on a scale from 0 to 1; ImageNet's by default. The number of
            values is the number of channels.
        std: Standard deviation of each channel in the pretraining data.
        colormap: Name of a colormap of matplotlib, such as ``"magma"``, with which ``librosa.display.specshow`` draws
            spectrograms; needs three channels. ``None`` repeats the values along the channels.

    Shape:
        ``(batch, samples)`` to ``(batch, channels, height, width)``, for any number of samples.

    Raises:
        ParameterError: A parameter is out of range, or matplotlib has no such colormap.

    Example:
        >>> import torch
        >>> LogMelImage(sample_rate=22_050)(torch.randn(2, 66_150)).shape
        torch.Size([2, 3, 224, 224])

    See Also:
        :class:`LogMel`, :func:`musgenre.functional.resize`
    """

    def __init__(
        self,
        *,
        sample_rate: int,
        size: int | Sequence[int] = 224,
        n_fft: int = 2048,
        hop_length: int = 512,
        n_mels: int = 128,
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
        colormap: str | None = None,
    ) -> None:
        super().__init__(MelSpectrogram(sample_rate=sample_rate, n_fft=n_fft, hop_length=hop_length, n_mels=n_mels))
        self.size = _pair(size)
        try:
            mean, std = [float(value) for value in mean], [float(value) for value in std]
        except (TypeError, ValueError) as error:
            raise ParameterError(f"mean and std must be sequences of numbers, not {mean!r} and {std!r}.") from error
        self.channels = len(mean)
        if colormap is not None and self.channels != 3:
            raise ParameterError(f"A colormap gives 3 channels, but mean has {self.channels} values.")
        scale, resize = Normalise((-FLOOR_DB,), (FLOOR_DB,)), Resize(self.size)
        steps = [resize, Channels(self.channels), scale] if colormap is None else [scale, Colormap(colormap), resize]
        self.steps = nn.Sequential(
            ToDecibel(reference="max", floor_db=FLOOR_DB, inplace=True), *steps, Normalise(mean, std)
        )

    def out_shape(self, samples: int) -> tuple[int, int, int]:  # noqa: D102 - documented in the base class
        return self.channels, *self.size

    def from_mel(self, power: Tensor) -> Tensor:  # noqa: D102 - documented in the base class
        image: Tensor = self.steps(power)
        return image

    def bins_hz(self) -> Tensor:  # noqa: D102 - documented in the base class
        rows = nn.functional.interpolate(
            super().bins_hz()[None, None], self.size[0], mode="linear", align_corners=False
        )
        return rows[0, 0]


class YAMNetMel(MelFeature):
    """YAMNet's log-mel bands, computed from a mel spectrogram of any sample rate and hop.

    It initialises a network with YAMNet's weights for spectrograms whose audio is not available, or for fewer frames
    per second than YAMNet's own 100. An output layer has to be trained for it, because the bands are approximate and
    the time scale is another one. The window's maximum is set to a constant level (38 dB, the median of music at full
    scale), so that the level of a recording has no effect, and values 80 dB or more below it are clipped.

    The power of each band of the mel spectrogram is distributed evenly over the band. Its square root, an amplitude, is
    summed by the 64 triangles of :class:`~musgenre.features.yamnet.YAMNetLogMel` and converted by
    ``log(mel + 0.001)``.

    Args:
        sample_rate: Rate of the audio, in hertz.
        n_fft: Length of the Fourier transform, in samples.
        hop_length: Samples between the starts of successive frames.
        n_mels: Number of bands of the mel spectrogram.

    Shape:
        ``(batch, samples)`` to ``(batch, 1, 64, frames)``, the lowest band first.

    Raises:
        ParameterError: A parameter is out of range.

    Example:
        >>> feature = YAMNetMel(sample_rate=22_050, hop_length=1708)
        >>> feature(torch.zeros(2, 220_500)).shape, feature.out_shape(220_500)
        (torch.Size([2, 1, 64, 130]), (1, 64, 130))

    See Also:
        :class:`~musgenre.features.yamnet.YAMNetLogMel`, :class:`LogMel`
    """

    def __init__(self, *, sample_rate: int, n_fft: int = 2048, hop_length: int = 512, n_mels: int = 128) -> None:
        super().__init__(MelSpectrogram(sample_rate=sample_rate, n_fft=n_fft, hop_length=hop_length, n_mels=n_mels))
        self.bands = Constant(
            yamnet.bands_of_mel(self.mel.filterbank.value.double(), sample_rate=sample_rate, n_fft=n_fft)
        )

    def out_shape(self, samples: int) -> tuple[int, int, int]:  # noqa: D102 - documented in the base class
        return 1, yamnet.N_MELS, self.mel.frame_count(samples)

    def from_mel(self, power: Tensor) -> Tensor:  # noqa: D102 - documented in the base class
        peak = power.amax(dim=(-2, -1), keepdim=True)
        relative = torch.where(peak > 0, power / peak, 1).clamp(min=10 ** (-FLOOR_DB / 10))
        amplitude = relative.sqrt() * 10 ** (_YAMNET_PEAK_DB / 20)
        mel: Tensor = self.bands(amplitude) @ amplitude
        return (mel + yamnet.OFFSET).log().unsqueeze(1)

    def bins_hz(self) -> Tensor:
        """Return the centre frequency of each of YAMNet's bands in hertz, ``(64,)``."""
        return centres_hz(yamnet.mel_filterbank(), sample_rate=yamnet.SAMPLE_RATE)


def _pair(size: int | Sequence[int]) -> tuple[int, int]:
    """Return height and width; from JSON they are a list."""
    if not isinstance(size, list | tuple):
        return cast(int, size), cast(int, size)  # Resize checks the type
    if len(size) != 2:
        raise ParameterError(f"size must be a number of pixels or a height and a width, not {size!r}.")
    return size[0], size[1]
