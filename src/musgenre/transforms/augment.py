"""Random changes for training: masks, crops, gain, tone and speed.

Each draws anew for every example of a batch, and is the identity in eval mode. The first dimension is the batch;
a tensor without one (a single waveform, a single spectrogram) is one example. Draws come from
``generator`` where one is given, and from torch's own otherwise.
"""

from __future__ import annotations

import abc
import math

import torch
from torch import Tensor, nn

from musgenre.core.errors import ParameterError
from musgenre.functional import check_positive


class _Random(nn.Module, abc.ABC):
    """What the random transforms share: identity in eval mode, one draw an example."""

    own_dims: int
    """How many of the last dimensions make up one example without channels."""

    def __init__(self, generator: torch.Generator | None) -> None:
        super().__init__()
        self.generator = generator

    def forward(self, batch: Tensor) -> Tensor:
        """Changes each example of the batch in training mode, and nothing in eval mode."""
        if not self.training:
            return batch
        if batch.ndim < self.own_dims:
            raise ParameterError(
                f"{type(self).__name__} needs at least {self.own_dims} dimensions, not the shape {tuple(batch.shape)}."
            )
        return self._change(batch) if batch.ndim > self.own_dims else self._change(batch[None])[0]

    @abc.abstractmethod
    def _change(self, batch: Tensor) -> Tensor: ...

    def _draw(self, like: Tensor) -> Tensor:
        # One number from [0, 1) for each example, shaped to meet all its dimensions.
        device = like.device if self.generator is None else self.generator.device
        drawn = torch.rand(like.shape[0], generator=self.generator, device=device)
        return drawn.to(like.device).reshape(-1, *[1] * (like.ndim - 1))


class _Mask(_Random):
    own_dims = 2

    def __init__(self, max_width: int, *, count: int, fill: float | None, generator: torch.Generator | None) -> None:
        super().__init__(generator)
        check_positive(max_width=max_width, count=count)
        self.max_width = max_width
        self.count = count
        self.fill = fill

    def _mask(self, batch: Tensor, dim: int) -> Tensor:
        length = batch.shape[dim]
        place = torch.arange(length, device=batch.device)
        place = place[:, None] if dim == -2 else place
        hidden = torch.zeros((), dtype=torch.bool, device=batch.device)
        for _ in range(self.count):
            width = (self._draw(batch) * (min(self.max_width, length) + 1)).floor()
            start = (self._draw(batch) * (length - width + 1)).floor()
            hidden = hidden | ((place >= start) & (place < start + width))
        if self.fill is not None:
            return batch.masked_fill(hidden, self.fill)
        return torch.where(hidden, batch.mean(dim=tuple(range(1, batch.ndim)), keepdim=True), batch)


class TimeMask(_Mask):
    """Hides spans of frames, the time masks of SpecAugment (Park et al., 2019, arXiv:1904.08779).

    A span's width is drawn evenly from 0 to ``max_width``, then its place. All channels of an example share it.

    Args:
        max_width: The widest span, in frames.
        count: Spans an example; they may overlap.
        fill: What stands in a span; ``None`` is the example's mean, which is the paper's choice.
        generator: Where the draws come from.

    Shape:
        ``(bins, frames)`` or ``(batch, ..., bins, frames)``, unchanged.

    Raises:
        ParameterError: A parameter is not positive.

    Example:
        >>> mask = TimeMask(2, count=2, fill=0.0, generator=torch.Generator().manual_seed(1))
        >>> mask(torch.ones(1, 8))
        tensor([[1., 0., 0., 1., 1., 0., 1., 1.]])
        >>> mask.eval()(torch.ones(1, 8)).sum()
        tensor(8.)
    """

    def __init__(
        self, max_width: int, *, count: int = 1, fill: float | None = None, generator: torch.Generator | None = None
    ) -> None:
        super().__init__(max_width, count=count, fill=fill, generator=generator)

    def _change(self, batch: Tensor) -> Tensor:
        return self._mask(batch, -1)


class FrequencyMask(_Mask):
    """Hides spans of frequency bins; otherwise as :class:`TimeMask`.

    Args:
        max_width: The widest span, in bins.
        count: Spans an example; they may overlap.
        fill: What stands in a span; ``None`` is the example's mean.
        generator: Where the draws come from.

    Shape:
        ``(bins, frames)`` or ``(batch, ..., bins, frames)``, unchanged.

    Raises:
        ParameterError: A parameter is not positive.
    """

    def __init__(
        self, max_width: int, *, count: int = 1, fill: float | None = None, generator: torch.Generator | None = None
    ) -> None:
        super().__init__(max_width, count=count, fill=fill, generator=generator)

    def _change(self, batch: Tensor) -> Tensor:
        return self._mask(batch, -2)


class RandomCrop(_Random):
    """Cuts a span of ``size`` out of the last dimension, at a place drawn evenly.

    A spectrogram needs a batch dimension here: its first dimension would pass for one otherwise.

    Args:
        size: Length of the span, in samples or frames.
        generator: Where the draws come from.

    Shape:
        ``(length,)`` or ``(batch, ..., length)`` to the same with ``size`` for ``length``.

    Raises:
        ParameterError: ``size`` is not positive; later, what is to be cropped is shorter.

    Example:
        >>> RandomCrop(3, generator=torch.Generator().manual_seed(0))(torch.arange(12.0).reshape(2, 6))
        tensor([[ 1.,  2.,  3.],
                [ 9., 10., 11.]])
    """

    own_dims = 1

    def __init__(self, size: int, *, generator: torch.Generator | None = None) -> None:
        super().__init__(generator)
        check_positive(size=size)
        self.size = size

    def _change(self, batch: Tensor) -> Tensor:
        spare = batch.shape[-1] - self.size
        if spare < 0:
            raise ParameterError(f"Cannot crop {self.size} out of the shape {tuple(batch.shape)}: it is too short.")
        # The product can round up to the end of the range.
        start = (self._draw(batch) * (spare + 1)).long().clamp(max=spare)
        index = start + torch.arange(self.size, device=batch.device)
        return batch.gather(-1, index.expand(*batch.shape[:-1], -1))


class RandomGain(_Random):
    """Makes each waveform louder or quieter by decibels drawn evenly from a range. Nothing is clipped.

    Args:
        min_db: Least gain, in decibels.
        max_db: Greatest gain, in decibels.
        generator: Where the draws come from.

    Shape:
        ``(samples,)`` or ``(batch, ..., samples)``, unchanged.

    Raises:
        ParameterError: Not ``min_db <= max_db``, or not finite.

    Example:
        >>> RandomGain(min_db=20.0, max_db=20.0)(torch.tensor([0.01, -0.02]))
        tensor([ 0.1000, -0.2000])
    """

    own_dims = 1

    def __init__(self, *, min_db: float = -6.0, max_db: float = 6.0, generator: torch.Generator | None = None) -> None:
        super().__init__(generator)
        if not -math.inf < min_db <= max_db < math.inf:
            raise ParameterError(f"Need finite min_db <= max_db, not {min_db!r} and {max_db!r}.")
        self.min_db = min_db
        self.max_db = max_db

    def _change(self, batch: Tensor) -> Tensor:
        gain_db = self.min_db + self._draw(batch) * (self.max_db - self.min_db)
        return batch * (10 ** (gain_db / 20)).to(batch)


class RandomEqualiser(_Random):
    """Adds a smooth random curve along the bins of each decibel spectrogram, as other microphones and mixes would.

    The curve is drawn from a normal distribution at evenly spaced bins, and is linear between them; it is the same
    for all channels and frames of an example.

    Args:
        std: Deviation of the curve, in the spectrogram's units; positive.
        knots: At how many bins it is drawn, at least 2.
        generator: Where the draws come from.

    Shape:
        ``(bins, frames)`` or ``(batch, ..., bins, frames)``, unchanged.

    Raises:
        ParameterError: ``std`` is not positive and finite, or there are fewer than two knots.

    Example:
        >>> RandomEqualiser(5.0).eval()(torch.zeros(4, 2))[0]
        tensor([0., 0.])
    """

    own_dims = 2

    def __init__(self, std: float, *, knots: int = 6, generator: torch.Generator | None = None) -> None:
        super().__init__(generator)
        if not (0 < std < math.inf and knots >= 2):
            raise ParameterError(f"Need a positive, finite std and at least 2 knots, not {std!r} and {knots!r}.")
        self.std = std
        self.knots = knots

    def _change(self, batch: Tensor) -> Tensor:
        device = batch.device if self.generator is None else self.generator.device
        drawn = torch.randn(batch.shape[0], 1, self.knots, generator=self.generator, device=device)
        curve = nn.functional.interpolate(drawn * self.std, size=batch.shape[-2], mode="linear", align_corners=True)
        return batch + curve.to(batch).reshape(-1, *[1] * (batch.ndim - 3), batch.shape[-2], 1)


class RandomSpeed(_Random):
    """Plays each waveform faster or slower, like a record: tempo and pitch change together.

    The speed is drawn evenly from a range. The length stays: of a slowed waveform the end is lost, a quickened
    one starts again from its beginning. Samples in between are interpolated linearly, which is quick and
    approximate: it dulls the highest octave and lets aliases in when the speed rises. That does for
    speeds near 1 in training; it is no resampler.

    Args:
        min_factor: Least speed; 0.5 is half the speed and an octave lower.
        max_factor: Greatest speed.
        generator: Where the draws come from.

    Shape:
        ``(samples,)`` or ``(batch, ..., samples)``, unchanged.

    Raises:
        ParameterError: Not ``1 / 16 <= min_factor <= max_factor <= 16``.

    Example:
        >>> RandomSpeed(min_factor=0.5, max_factor=0.5)(torch.tensor([0.0, 1.0, 2.0, 3.0]))
        tensor([0.0000, 0.5000, 1.0000, 1.5000])
    """

    own_dims = 1
    _PARTS = 4096

    def __init__(
        self, *, min_factor: float = 0.9, max_factor: float = 1.1, generator: torch.Generator | None = None
    ) -> None:
        super().__init__(generator)
        if not 1 / 16 <= min_factor <= max_factor <= 16:
            raise ParameterError(f"Need 1/16 <= min_factor <= max_factor <= 16, not {min_factor!r} and {max_factor!r}.")
        self.min_factor = min_factor
        self.max_factor = max_factor

    def _change(self, batch: Tensor) -> Tensor:
        samples = batch.shape[-1]
        factor = self.min_factor + self._draw(batch) * (self.max_factor - self.min_factor)
        # Positions in whole parts of a sample: float32 would blur them late in a long waveform.
        place = torch.arange(samples, device=batch.device) * (factor * self._PARTS).round().long()
        part = (place % self._PARTS).to(batch) / self._PARTS
        left = (place // self._PARTS) % samples
        shape = batch.shape
        before = batch.gather(-1, left.expand(shape))
        after = batch.gather(-1, ((left + 1) % samples).expand(shape))
        return before + part * (after - before)
