"""Random augmentation for training: masking, cropping, gain, equalisation and speed.

Each transform draws random parameters for every example of a batch and is the identity in eval mode. The first
dimension is the batch; a tensor without it (a single waveform or spectrogram) is one example. Random numbers come from
``generator`` if given, otherwise from PyTorch's default generator.
"""

from __future__ import annotations

import abc
import math

import torch
from torch import Tensor, nn

from musgenre.core.errors import ParameterError
from musgenre.functional import check_positive


class _Random(nn.Module, abc.ABC):
    """Base class of random transforms: identity in eval mode, one draw per example."""

    example_dims: int
    """Number of trailing dimensions of one example without channels."""

    def __init__(self, generator: torch.Generator | None) -> None:
        super().__init__()
        self.generator = generator

    def forward(self, batch: Tensor) -> Tensor:
        """Apply the transform in training mode; return the batch unchanged in eval mode.

        Raises:
            ParameterError: The batch has too few dimensions.
        """
        if not self.training:
            return batch
        if batch.ndim < self.example_dims:
            raise ParameterError(
                f"{type(self).__name__} needs at least {self.example_dims} dimensions, not the shape "
                f"{tuple(batch.shape)}."
            )
        return self._transform(batch) if batch.ndim > self.example_dims else self._transform(batch[None])[0]

    @abc.abstractmethod
    def _transform(self, batch: Tensor) -> Tensor: ...

    def _draw(self, like: Tensor) -> Tensor:
        # One uniform number in [0, 1) per example, shaped for broadcasting.
        device = like.device if self.generator is None else self.generator.device
        drawn = torch.rand(like.shape[0], generator=self.generator, device=device)
        return drawn.to(like.device).reshape(-1, *[1] * (like.ndim - 1))


class _Mask(_Random):
    example_dims = 2

    def __init__(self, max_width: int, *, count: int, fill: float | None, generator: torch.Generator | None) -> None:
        super().__init__(generator)
        check_positive(max_width=max_width, count=count)
        self.max_width = max_width
        self.count = count
        self.fill = fill

    def _mask(self, batch: Tensor, dim: int) -> Tensor:
        length = batch.shape[dim]
        index = torch.arange(length, device=batch.device)
        index = index[:, None] if dim == -2 else index
        masked = torch.zeros((), dtype=torch.bool, device=batch.device)
        for _ in range(self.count):
            width = (self._draw(batch) * (min(self.max_width, length) + 1)).floor()
            start = (self._draw(batch) * (length - width + 1)).floor()
            masked = masked | ((index >= start) & (index < start + width))
        if self.fill is not None:
            return batch.masked_fill(masked, self.fill)
        return torch.where(masked, batch.mean(dim=tuple(range(1, batch.ndim)), keepdim=True), batch)


class TimeMask(_Mask):
    """Mask random spans of frames, as in SpecAugment (Park et al., 2019, arXiv:1904.08779).

    The width of each span is drawn uniformly from 0 to ``max_width``, then its position. All channels of an example
    share the mask.

    Args:
        max_width: Maximum width of a span, in frames.
        count: Number of spans per example; spans may overlap.
        fill: Value of masked frames; ``None`` is the mean of the example, as in the paper.
        generator: Source of random numbers.

    Shape:
        ``(bins, frames)`` or ``(batch, ..., bins, frames)``, unchanged.

    Raises:
        ParameterError: ``max_width`` or ``count`` is not a positive integer.

    Example:
        >>> mask = TimeMask(2, count=2, fill=0.0, generator=torch.Generator().manual_seed(1))
        >>> mask(torch.ones(1, 8))
        tensor([[1., 0., 0., 1., 1., 0., 1., 1.]])
        >>> mask.eval()(torch.ones(1, 8)).sum()
        tensor(8.)

    See Also:
        :class:`FrequencyMask`
    """

    def __init__(
        self, max_width: int, *, count: int = 1, fill: float | None = None, generator: torch.Generator | None = None
    ) -> None:
        super().__init__(max_width, count=count, fill=fill, generator=generator)

    def _transform(self, batch: Tensor) -> Tensor:
        return self._mask(batch, -1)


class FrequencyMask(_Mask):
    """Mask random spans of frequency bins, as in SpecAugment (Park et al., 2019, arXiv:1904.08779).

    Args:
        max_width: Maximum width of a span, in bins.
        count: Number of spans per example; spans may overlap.
        fill: Value of masked bins; ``None`` is the mean of the example, as in the paper.
        generator: Source of random numbers.

    Shape:
        ``(bins, frames)`` or ``(batch, ..., bins, frames)``, unchanged.

    Raises:
        ParameterError: ``max_width`` or ``count`` is not a positive integer.

    See Also:
        :class:`TimeMask`
    """

    def __init__(
        self, max_width: int, *, count: int = 1, fill: float | None = None, generator: torch.Generator | None = None
    ) -> None:
        super().__init__(max_width, count=count, fill=fill, generator=generator)

    def _transform(self, batch: Tensor) -> Tensor:
        return self._mask(batch, -2)


class RandomCrop(_Random):
    """Crop a random span of ``size`` from the last dimension.

    The start is drawn uniformly. A single spectrogram needs a batch dimension here, because its first dimension would
    be taken for the batch.

    Args:
        size: Length of the span, in samples or frames.
        generator: Source of random numbers.

    Shape:
        ``(length,)`` or ``(batch, ..., length)`` to the same with ``size`` instead of ``length``.

    Raises:
        ParameterError: ``size`` is not a positive integer; from ``forward``, the last dimension is shorter.

    Example:
        >>> RandomCrop(3, generator=torch.Generator().manual_seed(0))(torch.arange(12.0).reshape(2, 6))
        tensor([[ 1.,  2.,  3.],
                [ 9., 10., 11.]])
    """

    example_dims = 1

    def __init__(self, size: int, *, generator: torch.Generator | None = None) -> None:
        super().__init__(generator)
        check_positive(size=size)
        self.size = size

    def _transform(self, batch: Tensor) -> Tensor:
        max_start = batch.shape[-1] - self.size
        if max_start < 0:
            raise ParameterError(
                f"Cannot crop {self.size} from the shape {tuple(batch.shape)}: the last dimension is too short."
            )
        # The product can be rounded up to max_start + 1.
        start = (self._draw(batch) * (max_start + 1)).long().clamp(max=max_start)
        index = start + torch.arange(self.size, device=batch.device)
        return batch.gather(-1, index.expand(*batch.shape[:-1], -1))


class RandomGain(_Random):
    """Apply a random gain to each waveform, without clipping.

    The gain is drawn uniformly on the decibel scale.

    Args:
        min_db: Minimum gain, in decibels.
        max_db: Maximum gain, in decibels.
        generator: Source of random numbers.

    Shape:
        ``(samples,)`` or ``(batch, ..., samples)``, unchanged.

    Raises:
        ParameterError: ``min_db`` exceeds ``max_db``, or one of them is not finite.

    Example:
        >>> RandomGain(min_db=20.0, max_db=20.0)(torch.tensor([0.01, -0.02]))
        tensor([ 0.1000, -0.2000])

    See Also:
        :class:`RandomEqualiser`
    """

    example_dims = 1

    def __init__(self, *, min_db: float = -6.0, max_db: float = 6.0, generator: torch.Generator | None = None) -> None:
        super().__init__(generator)
        if not -math.inf < min_db <= max_db < math.inf:
            raise ParameterError(f"Expected finite min_db <= max_db, not {min_db!r} and {max_db!r}.")
        self.min_db = min_db
        self.max_db = max_db

    def _transform(self, batch: Tensor) -> Tensor:
        gain_db = self.min_db + self._draw(batch) * (self.max_db - self.min_db)
        return batch * (10 ** (gain_db / 20)).to(batch)


class RandomEqualiser(_Random):
    """Add a smooth random curve over frequency to each decibel spectrogram, which simulates microphones and mixes.

    The curve is drawn from a normal distribution at evenly spaced bins and interpolated linearly between them. All
    channels and frames of an example share it.

    Args:
        std: Standard deviation of the curve, in the units of the spectrogram; positive.
        knots: Number of bins at which the curve is drawn, at least 2.
        generator: Source of random numbers.

    Shape:
        ``(bins, frames)`` or ``(batch, ..., bins, frames)``, unchanged.

    Raises:
        ParameterError: ``std`` is not positive and finite, or ``knots`` is less than 2.

    Example:
        >>> RandomEqualiser(5.0).eval()(torch.zeros(4, 2))[0]
        tensor([0., 0.])

    See Also:
        :class:`RandomGain`
    """

    example_dims = 2

    def __init__(self, std: float, *, knots: int = 6, generator: torch.Generator | None = None) -> None:
        super().__init__(generator)
        if not (0 < std < math.inf and knots >= 2):
            raise ParameterError(f"Expected a positive, finite std and at least 2 knots, not {std!r} and {knots!r}.")
        self.std = std
        self.knots = knots

    def _transform(self, batch: Tensor) -> Tensor:
        device = batch.device if self.generator is None else self.generator.device
        drawn = torch.randn(batch.shape[0], 1, self.knots, generator=self.generator, device=device)
        curve = nn.functional.interpolate(drawn * self.std, size=batch.shape[-2], mode="linear", align_corners=True)
        return batch + curve.to(batch).reshape(-1, *[1] * (batch.ndim - 3), batch.shape[-2], 1)


class RandomSpeed(_Random):
    """Change the speed of each waveform, and with it tempo and pitch.

    The speed is drawn uniformly. The length is preserved: a slowed waveform loses its end, and an accelerated one
    repeats from its start. Linear interpolation between samples is fast but approximate: it attenuates the highest
    octave, and aliases when the speed increases. It is suited to speeds close to 1 in training, not to resampling.

    Args:
        min_factor: Minimum speed; 0.5 is half the speed and an octave lower.
        max_factor: Maximum speed.
        generator: Source of random numbers.

    Shape:
        ``(samples,)`` or ``(batch, ..., samples)``, unchanged.

    Raises:
        ParameterError: The factors do not satisfy ``1 / 16 <= min_factor <= max_factor <= 16``.

    Example:
        >>> RandomSpeed(min_factor=0.5, max_factor=0.5)(torch.tensor([0.0, 1.0, 2.0, 3.0]))
        tensor([0.0000, 0.5000, 1.0000, 1.5000])
    """

    example_dims = 1
    _SUBSAMPLES = 4096

    def __init__(
        self, *, min_factor: float = 0.9, max_factor: float = 1.1, generator: torch.Generator | None = None
    ) -> None:
        super().__init__(generator)
        if not 1 / 16 <= min_factor <= max_factor <= 16:
            raise ParameterError(
                f"Expected 1/16 <= min_factor <= max_factor <= 16, not {min_factor!r} and {max_factor!r}."
            )
        self.min_factor = min_factor
        self.max_factor = max_factor

    def _transform(self, batch: Tensor) -> Tensor:
        samples = batch.shape[-1]
        factor = self.min_factor + self._draw(batch) * (self.max_factor - self.min_factor)
        # Fixed-point positions: float32 would lose precision late in a long waveform.
        position = torch.arange(samples, device=batch.device) * (factor * self._SUBSAMPLES).round().long()
        fraction = (position % self._SUBSAMPLES).to(batch) / self._SUBSAMPLES
        left = (position // self._SUBSAMPLES) % samples
        shape = batch.shape
        before = batch.gather(-1, left.expand(shape))
        after = batch.gather(-1, ((left + 1) % samples).expand(shape))
        return before + fraction * (after - before)
