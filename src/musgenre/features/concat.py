"""Concatenation of several features, by a name such as ``"logmel+tempogram"``."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from musgenre.core.errors import ConfigError
from musgenre.features.base import SEPARATOR, FeatureExtractor

Shape = tuple[int, int, int]

_CHANNELS, _BINS = 0, 1


class Combined(FeatureExtractor):
    """Concatenate features. The registry creates it from a name such as ``"logmel+hpss"``.

    - Features with equal bins and frames are stacked along the channels: ``"logmel+hpss"`` has three channels.
    - Features with equal channels and frames but different bins are concatenated along the bins, as in
      ``"logmel+tempogram"``.
    - Vectors, which are features with names, are concatenated along their entries.

    Features are not resized or scaled; incompatible shapes are an error.

    Args:
        parts: The features by name, in order; all for the same sample rate.

    Attributes:
        names: The names of all entries if every part is a vector, otherwise ``None``.

    Shape:
        ``(batch, samples)`` to ``(batch, channels, bins, frames)``.

    Raises:
        ConfigError: The shapes are incompatible; the message lists them.

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
        musgenre.core.errors.ConfigError: The features of 'logmel+stats' have incompatible shapes: logmel has ...
    """

    def __init__(self, parts: Mapping[str, FeatureExtractor]) -> None:
        super().__init__(sample_rate=next(iter(parts.values())).sample_rate)
        self.spec = SEPARATOR.join(parts)
        self.parts = nn.ModuleList(parts.values())
        part_names = [part.names or () for part in parts.values()]
        self.names = tuple(itertools.chain(*part_names)) if all(part_names) else None
        self.axis = self._layout(self.sample_rate)[0]

    def out_shape(self, samples: int) -> Shape:  # noqa: D102 - documented in the base class
        axis, shapes = self._layout(samples)
        shape = list(shapes[0])
        shape[axis] = sum(part_shape[axis] for part_shape in shapes)
        return shape[0], shape[1], shape[2]

    def forward(self, waveform: Tensor) -> Tensor:  # noqa: D102 - documented in the base class
        return torch.cat([part(waveform) for part in self.parts], dim=1 + self.axis)

    def bins_hz(self) -> Tensor | None:  # noqa: D102 - documented in the base class
        first, *others = (part.bins_hz() for part in self._features())
        if self.axis != _CHANNELS or first is None:
            return None
        return first if all(other is not None and torch.equal(other, first) for other in others) else None

    def _features(self) -> list[FeatureExtractor]:
        return [cast(FeatureExtractor, part) for part in self.parts]

    def _layout(self, samples: int) -> tuple[int, list[Shape]]:
        """Return the axis of concatenation, and the shape of each part."""
        shapes = [part.out_shape(samples) for part in self._features()]
        if self.names is None and len({(bins, frames) for _, bins, frames in shapes}) == 1:
            return _CHANNELS, shapes
        if len({(channels, frames) for channels, _, frames in shapes}) == 1:
            return _BINS, shapes
        listed = ", ".join(
            f"{name} has {' × '.join(map(str, shape))}"
            for name, shape in zip(self.spec.split(SEPARATOR), shapes, strict=True)
        )
        raise ConfigError(
            f"The features of {self.spec!r} have incompatible shapes: {listed} (channels × bins × frames, for "
            f"{samples} samples). Features need equal bins and frames, or equal channels and frames: set the same "
            "hop_length for all of them, or use a single feature."
        )


@dataclass(frozen=True)
class CombinedFactory:
    """Factory of :class:`Combined` features; each option is passed to every part that has it.

    Attributes:
        parts: The factory of each part, by name.
    """

    parts: Mapping[str, Callable[..., FeatureExtractor]]

    @property
    def __signature__(self) -> inspect.Signature:
        """The options of all parts, with the first part's default where they differ; each part uses its own."""
        options: dict[str, inspect.Parameter] = {}
        for factory in self.parts.values():
            for name, option in inspect.signature(factory).parameters.items():
                if name not in options or option.default is option.empty:
                    options[name] = option.replace(kind=option.KEYWORD_ONLY)
        return inspect.Signature(list(options.values()))

    def __call__(self, **options: Any) -> Combined:
        """Build the parts and concatenate them."""
        return Combined(
            {
                name: factory(**{key: options[key] for key in inspect.signature(factory).parameters if key in options})
                for name, factory in self.parts.items()
            }
        )
