"""Several features as one, by a name such as ``"logmel+tempogram"``."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from musgenre.core.errors import ConfigError
from musgenre.features.base import FeatureExtractor

Shape = tuple[int, int, int]

_CHANNELS, _BINS = 0, 1


class Combined(FeatureExtractor):
    """Features side by side; the registry makes it of a name like ``"logmel+hpss"``.

    - Features with equal bins and frames are stacked as channels: ``"logmel+hpss"`` has three.
    - Features with equal channels and frames, but other bins, stand one above the other: of each frame, the bins
      are concatenated, as in ``"logmel+tempogram"``.
    - Vectors, which are features with names, are concatenated.

    Nothing is stretched or scaled. What goes together otherwise is an error.

    Args:
        parts: The features by their names, in order; all for the same rate.

    Attributes:
        names: The names of all entries, where every part is a vector, else ``None``.

    Shape:
        ``(batch, samples)`` to ``(batch, channels, bins, frames)``.

    Raises:
        ConfigError: The parts do not go together; the message names their shapes.

    Example:
        >>> from musgenre.features.base import FEATURES
        >>> both = FEATURES.build("logmel+tempogram", {"sample_rate": 22_050, "hop_length": 1024, "win_length": 64})
        >>> both.out_shape(66_150)
        (1, 192, 65)
        >>> FEATURES.build("logmel+hpss", {"sample_rate": 22_050}).out_shape(66_150)
        (3, 128, 130)
        >>> FEATURES.build("logmel+stats", {"sample_rate": 22_050})  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ...
        musgenre.core.errors.ConfigError: The features of 'logmel+stats' do not go together: logmel gives ...
    """

    def __init__(self, parts: Mapping[str, FeatureExtractor]) -> None:
        super().__init__(sample_rate=next(iter(parts.values())).sample_rate)
        self.spec = "+".join(parts)
        self.parts = nn.ModuleList(parts.values())
        named = [part.names or () for part in parts.values()]
        self.names = tuple(name for names in named for name in names) if all(named) else None
        self.axis = self._fitted(self.sample_rate)[0]

    def out_shape(self, samples: int) -> Shape:  # noqa: D102 - the contract's
        axis, shapes = self._fitted(samples)
        shape = list(shapes[0])
        shape[axis] = sum(one[axis] for one in shapes)
        return shape[0], shape[1], shape[2]

    def forward(self, waveform: Tensor) -> Tensor:  # noqa: D102 - the contract's
        return torch.cat([part(waveform) for part in self.parts], dim=1 + self.axis)

    def bins_hz(self) -> Tensor | None:  # noqa: D102 - the contract's
        found = [part.bins_hz() for part in self._features()]
        same = all(one is not None and found[0] is not None and torch.equal(one, found[0]) for one in found)
        return found[0] if same and self.axis == _CHANNELS else None

    def _features(self) -> list[FeatureExtractor]:
        return [cast(FeatureExtractor, part) for part in self.parts]

    def _fitted(self, samples: int) -> tuple[int, list[Shape]]:
        """Returns the dimension along which the parts are joined, and their shapes."""
        shapes = [part.out_shape(samples) for part in self._features()]
        if self.names is None and len({(bins, frames) for _, bins, frames in shapes}) == 1:
            return _CHANNELS, shapes
        if len({(channels, frames) for channels, _, frames in shapes}) == 1:
            return _BINS, shapes
        told = ", ".join(
            f"{name} gives {' × '.join(map(str, shape))}"
            for name, shape in zip(self.spec.split("+"), shapes, strict=True)
        )
        raise ConfigError(
            f"The features of {self.spec!r} do not go together: {told} (channels × bins × frames, of {samples} "
            "samples). Equal bins and frames are stacked as channels, equal channels and frames along "
            "the bins: give both the same hop_length, or use one alone."
        )


@dataclass(frozen=True)
class Combination:
    """A factory of :class:`Combined`; an option goes to each of the parts that have it.

    Attributes:
        parts: The parts' factories by their names.
    """

    parts: dict[str, Callable[..., FeatureExtractor]]

    @property
    def __signature__(self) -> inspect.Signature:
        """The options of all parts; of a default that differs, the first is shown and each part takes its own."""
        options: dict[str, inspect.Parameter] = {}
        for factory in self.parts.values():
            for name, option in inspect.signature(factory).parameters.items():
                if name not in options or option.default is option.empty:
                    options[name] = option.replace(kind=option.KEYWORD_ONLY)
        return inspect.Signature(list(options.values()))

    def __call__(self, **options: Any) -> Combined:
        """Builds the parts and joins them."""
        return Combined(
            {
                name: factory(**{key: options[key] for key in inspect.signature(factory).parameters if key in options})
                for name, factory in self.parts.items()
            }
        )
