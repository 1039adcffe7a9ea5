"""Frozen dataclasses for audio, models and predictions, and their conversion to and from JSON types.

:func:`from_dict` is strict: an unknown or missing key or a wrong type raises a
:class:`~musgenre.core.errors.ConfigError`.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from musgenre.core.errors import ConfigError, ParameterError

FORMAT_VERSION = 2
"""The format version of ``config.json``, incremented when an older musgenre could misread a newer file."""

MIN_SAMPLE_RATE, MAX_SAMPLE_RATE = 100, 1_000_000
"""Range of the sample rates of audio and models, in hertz."""

MAX_WINDOW_SAMPLES = 2**24
"""Maximum length of a window; bounds the memory that an untrusted model can request."""

Spec = TypeVar("Spec")


@dataclass(frozen=True)
class AudioSpec:
    """Sample rate and windows of the network's input.

    Attributes:
        sample_rate: Sample rate after resampling, in hertz.
        window_seconds: Length of one window; the network receives one window at a time.
        hop_seconds: Distance between the starts of consecutive windows.

    Raises:
        ParameterError: A value is not positive and finite, the rate is not from 100 to 1,000,000 Hz, the hop is longer
            than the window (which would skip audio), or a window has more than 16,777,216 samples (12 minutes at the
            default rate).
    """

    sample_rate: int = 22_050
    window_seconds: float = 3.0
    hop_seconds: float = 3.0

    def __post_init__(self) -> None:
        for name in ("sample_rate", "window_seconds", "hop_seconds"):
            value = getattr(self, name)
            if not (value > 0 and math.isfinite(value)):
                raise ParameterError(f"{name} must be positive and finite, not {value!r}.")
        if self.hop_seconds > self.window_seconds:
            raise ParameterError(
                f"hop_seconds ({self.hop_seconds}) must not exceed window_seconds ({self.window_seconds})."
            )
        if not MIN_SAMPLE_RATE <= self.sample_rate <= MAX_SAMPLE_RATE:
            raise ParameterError(
                f"sample_rate must be between {MIN_SAMPLE_RATE} and {MAX_SAMPLE_RATE:,} Hz, not {self.sample_rate!r}."
            )
        if self.hop_samples < 1 or self.window_samples > MAX_WINDOW_SAMPLES:
            raise ParameterError(
                f"A hop must be at least one sample long and a window at most {MAX_WINDOW_SAMPLES:,}, not "
                f"{self.hop_samples} and {self.window_samples}."
            )

    @cached_property
    def window_samples(self) -> int:
        """Samples in one window."""
        return round(self.window_seconds * self.sample_rate)

    @cached_property
    def hop_samples(self) -> int:
        """Samples from one window's start to the next one's."""
        return round(self.hop_seconds * self.sample_rate)

    def window_starts(self, duration_seconds: float) -> list[int]:
        """Returns the starts of the windows of a recording, in samples: one per hop, and one that ends at its end.

        Args:
            duration_seconds: Duration of the recording. One that is shorter than a window has a single window, at 0.

        Example:
            >>> AudioSpec(100, window_seconds=0.3, hop_seconds=0.3).window_starts(0.7)
            [0, 30, 40]
        """
        samples = math.floor(duration_seconds * self.sample_rate + 0.5)  # halves are rounded up, as in soxr
        last = max(0, samples - self.window_samples)
        starts = list(range(0, last + 1, self.hop_samples))
        return starts if starts[-1] == last else [*starts, last]


@dataclass(frozen=True)
class Component:
    """The name and options of a registered feature or backbone.

    Attributes:
        name: Its name in the registry.
        options: Keyword arguments of its factory, of JSON types.

    Example:
        >>> Component("vgg16", {"top": "pool"}).options["top"]
        'pool'
    """

    name: str
    options: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, value: str | Component) -> Component:
        """Returns a component, converting a plain name to one without options."""
        return cls(value) if isinstance(value, str) else value


@dataclass(frozen=True)
class ModelConfig:
    """Configuration of a model, without its weights; the content of ``config.json``.

    Attributes:
        name: The model's display name.
        labels: The genres, in the order of the network's outputs.
        audio: Sample rate and windows.
        feature: The feature extractor.
        backbone: The backbone; a saved model has its option ``weights`` only if the file lacks the backbone's weights.
        hidden: Widths of the dense layers between backbone and output.
        dropout: Dropout probability before each dense layer during training, in [0, 1).
        temperature: Divisor of the logits before the softmax, which calibrates the probabilities; above 0.
        split: Description of the training data, or ``None``.
        training: Stages and settings of the training, in JSON types.
        scores: Measured scores by name, such as ``{"valid_accuracy": 0.41}``.
        library_version: The version of musgenre that wrote the file.
        format_version: The format version of the file.
    """

    name: str
    labels: tuple[str, ...]
    audio: AudioSpec
    feature: Component
    backbone: Component
    hidden: tuple[int, ...] = ()
    dropout: float = 0.5
    temperature: float = 1.0
    split: str | None = None
    training: dict[str, Any] = field(default_factory=dict)
    scores: dict[str, float] = field(default_factory=dict)
    library_version: str = ""
    format_version: int = FORMAT_VERSION

    def __post_init__(self) -> None:
        if len(self.labels) < 2 or len(set(self.labels)) != len(self.labels):
            raise ConfigError(f"A model needs at least two distinct labels, got {self.labels!r}.")
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"dropout must be in [0, 1), not {self.dropout!r}.")
        if not (self.temperature > 0 and math.isfinite(self.temperature)):
            raise ConfigError(f"temperature must be positive and finite, not {self.temperature!r}.")
        if any(width < 1 for width in self.hidden):
            raise ConfigError(f"Every dense layer needs at least one unit: hidden={self.hidden!r}.")


@dataclass(frozen=True)
class Windows:
    """Class probabilities of each window of a track.

    Attributes:
        start_seconds: Start time of each window, ``(windows,)``, ascending.
        probabilities: ``(windows, classes)``, columns in the order of the labels; each row sums to 1.
    """

    start_seconds: npt.NDArray[np.float64]
    probabilities: npt.NDArray[np.float64]


@dataclass(frozen=True)
class Prediction:
    """Predicted genre probabilities of one track.

    Attributes:
        probabilities: Probability by label, in the order of the model's labels; they sum to 1.
        windows: Probabilities of each window.
        duration_seconds: Duration of the track.
        path: The audio file, or ``None`` if the audio did not come from a named file.

    Example:
        >>> windows = Windows(np.array([0.0]), np.array([[0.2, 0.8]]))
        >>> prediction = Prediction({"jazz": 0.2, "rock": 0.8}, windows=windows, duration_seconds=3.0)
        >>> prediction.label, prediction.probability
        ('rock', 0.8)
        >>> prediction.top(2)
        [('rock', 0.8), ('jazz', 0.2)]
    """

    probabilities: dict[str, float]
    windows: Windows
    duration_seconds: float
    path: str | None = None

    @property
    def label(self) -> str:
        """The most probable genre; the first in label order if several are equal."""
        return self.top(1)[0][0]

    @property
    def probability(self) -> float:
        """The probability of :attr:`label`, in [0, 1]."""
        return self.top(1)[0][1]

    def top(self, count: int = 3) -> list[tuple[str, float]]:
        """Returns the ``count`` most probable genres (fewer if the model has fewer), in descending order.

        Raises:
            ParameterError: ``count`` is below one.
        """
        if count < 1:
            raise ParameterError(f"count must be at least 1, not {count!r}.")
        return sorted(self.probabilities.items(), key=lambda pair: -pair[1])[:count]

    def to_dict(self) -> dict[str, Any]:
        """Returns the track-level result in JSON types, without the windows."""
        return {
            "path": self.path,
            "label": self.label,
            "probability": self.probability,
            "probabilities": dict(self.probabilities),
            "duration_seconds": self.duration_seconds,
        }


def to_dict(spec: Any) -> dict[str, Any]:
    """Converts a dataclass to nested dicts of JSON types (tuples become lists).

    Example:
        >>> to_dict(AudioSpec())
        {'sample_rate': 22050, 'window_seconds': 3.0, 'hop_seconds': 3.0}
    """
    pairs: dict[str, Any] = dataclasses.asdict(spec)
    return {key: list(value) if isinstance(value, tuple) else value for key, value in pairs.items()}


def from_dict(kind: type[Spec], data: Any) -> Spec:
    """Converts the nested dicts of :func:`to_dict` back to a dataclass.

    Args:
        kind: The dataclass.
        data: Nested dicts, as ``json.load`` returns them.

    Raises:
        ConfigError: ``data`` is not a dict, has an unknown or missing key, a value of the wrong type
            or out of range.

    Example:
        >>> from_dict(AudioSpec, {"sample_rate": 16_000, "window": 3.0})
        Traceback (most recent call last):
        ...
        musgenre.core.errors.ConfigError: AudioSpec: can not match "window" to any data class field
    """
    import dacite

    if not isinstance(data, dict):
        raise ConfigError(f"{kind.__name__}: expected an object, got {type(data).__name__}.")
    tuples = (tuple[str, ...], tuple[int, ...], tuple[float, ...])
    hooks: dict[Any, Any] = {float: _number, int: _integer, **dict.fromkeys(tuples, _sequence)}
    try:
        return dacite.from_dict(kind, data, config=dacite.Config(strict=True, type_hooks=hooks))
    except (dacite.DaciteError, ParameterError, OverflowError) as error:
        raise ConfigError(f"{kind.__name__}: {error}") from error


def _number(value: Any) -> Any:
    # Some programs write 3.0 as 3.
    return float(value) if isinstance(_no_bool(value, float), int) else value


def _integer(value: Any) -> Any:
    return _no_bool(value, int)


def _no_bool(value: Any, kind: type) -> Any:
    from dacite import WrongTypeError

    # bool is a subclass of int.
    if isinstance(value, bool):
        raise WrongTypeError(kind, value)
    return value


def _sequence(value: Any) -> Any:
    from dacite import WrongTypeError

    # A string is a sequence too, but not a list.
    if not isinstance(value, list | tuple):
        raise WrongTypeError(list, value)
    return tuple(value)
