"""The plain data that passes between the parts, and travels with a saved model.

Everything here is frozen. :func:`to_dict` and :func:`from_dict` go to and from JSON's types; reading is
strict: an unknown key, a missing one or a wrong type is a :class:`~musgenre.core.errors.ConfigError`.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from musgenre.core.errors import ConfigError, ParameterError

FORMAT_VERSION = 2
"""The version of ``config.json``. It rises when an older musgenre could misread a newer file."""

LOWEST_RATE, HIGHEST_RATE = 100, 1_000_000
"""Rates that audio can have and be resampled to, in hertz."""

LONGEST_WINDOW = 2**24
"""Samples; a saved model cannot make a prediction take more memory than a batch of such windows."""

Spec = TypeVar("Spec")


@dataclass(frozen=True)
class AudioSpec:
    """How audio is brought to the network: its rate and its windows.

    Attributes:
        sample_rate: Samples a second, in hertz, after resampling.
        window_seconds: Length of one window; the network sees one window at a time.
        hop_seconds: Distance from the start of one window to the start of the next.

    Raises:
        ParameterError: A value is not positive and finite, the rate is not from 100 to 1,000,000 Hz, the hop is longer
            than the window (which would leave audio unheard), or a window has more than 16,777,216 samples (12 minutes
            at the default rate).
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
        if not LOWEST_RATE <= self.sample_rate <= HIGHEST_RATE:
            raise ParameterError(
                f"sample_rate must lie from {LOWEST_RATE} to {HIGHEST_RATE:,} Hz, not {self.sample_rate!r}."
            )
        if self.hop_samples < 1 or self.window_samples > LONGEST_WINDOW:
            raise ParameterError(
                f"A hop must be at least one sample long and a window at most {LONGEST_WINDOW:,}, not "
                f"{self.hop_samples} and {self.window_samples}."
            )

    @property
    def window_samples(self) -> int:
        """Samples in one window."""
        return round(self.window_seconds * self.sample_rate)

    @property
    def hop_samples(self) -> int:
        """Samples from one window's start to the next one's."""
        return round(self.hop_seconds * self.sample_rate)


@dataclass(frozen=True)
class Component:
    """A registered feature or backbone with its options, as a saved model names it.

    Attributes:
        name: Its name in the registry.
        options: Keyword arguments of its factory; values of JSON's types only.

    Example:
        >>> Component("vgg16", {"top": "pool"}).options["top"]
        'pool'
    """

    name: str
    options: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, value: str | Component) -> Component:
        """Takes a name alone for a component without options."""
        return cls(value) if isinstance(value, str) else value


@dataclass(frozen=True)
class ModelConfig:
    """Everything about a model but its weights; the content of ``config.json``.

    Attributes:
        name: The model's name, for people.
        labels: The genres, in the order of the network's outputs.
        audio: Rate and windows.
        feature: The feature extractor.
        backbone: The backbone; its initial weights are part of it only where the model is saved without them.
        hidden: Widths of the dense layers between backbone and output.
        dropout: Share of units dropped before each dense layer while training, in [0, 1).
        temperature: The logits are divided by it before the softmax, so that probabilities mean what they say; above 0.
        split: What the model was trained on, in a person's words, or ``None``.
        training: How it was trained (the stages and settings), in JSON's types.
        scores: Measured figures by name, such as ``{"valid_accuracy": 0.41}``.
        library_version: The musgenre that wrote the file.
        format_version: The version of the file's format.
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
            raise ConfigError(f"A model needs at least two labels, each once, not {self.labels!r}.")
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"dropout must lie in [0, 1), not {self.dropout!r}.")
        if not (self.temperature > 0 and math.isfinite(self.temperature)):
            raise ConfigError(f"temperature must be positive and finite, not {self.temperature!r}.")
        if any(width < 1 for width in self.hidden):
            raise ConfigError(f"Every dense layer needs at least one unit: hidden={self.hidden!r}.")


@dataclass(frozen=True)
class Windows:
    """What the network said of each window of a song.

    Attributes:
        start_seconds: Where each window starts, ``(windows,)``, rising.
        probabilities: ``(windows, classes)``, columns in the order of the labels; each row sums to 1.
    """

    start_seconds: npt.NDArray[np.float64]
    probabilities: npt.NDArray[np.float64]


@dataclass(frozen=True)
class Prediction:
    """The genre of one song.

    Attributes:
        probabilities: Label to probability, in the order of the model's labels; they sum to 1.
        windows: How the genre moves through the song.
        duration_seconds: The song's length.
        path: The file, or ``None`` when the song did not come from one that has a name.

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
        """The most probable genre; of equals, the first in label order."""
        return self.top(1)[0][0]

    @property
    def probability(self) -> float:
        """The probability of :attr:`label`, in [0, 1]."""
        return self.top(1)[0][1]

    def top(self, count: int = 3) -> list[tuple[str, float]]:
        """Returns the ``count`` most probable genres (fewer if the model knows fewer), best first.

        Raises:
            ParameterError: ``count`` is below one.
        """
        if count < 1:
            raise ParameterError(f"count must be at least 1, not {count!r}.")
        return sorted(self.probabilities.items(), key=lambda pair: -pair[1])[:count]

    def to_dict(self) -> dict[str, Any]:
        """Returns the song-level result in JSON's types; the windows are left out."""
        return {
            "path": self.path,
            "label": self.label,
            "probability": self.probability,
            "probabilities": dict(self.probabilities),
            "duration_seconds": self.duration_seconds,
        }


def to_dict(spec: Any) -> dict[str, Any]:
    """Returns a spec as nested dicts of JSON's types (tuples become lists).

    Example:
        >>> to_dict(AudioSpec())
        {'sample_rate': 22050, 'window_seconds': 3.0, 'hop_seconds': 3.0}
    """
    pairs: dict[str, Any] = dataclasses.asdict(spec)
    return {key: list(value) if isinstance(value, tuple) else value for key, value in pairs.items()}


def from_dict(kind: type[Spec], data: Any) -> Spec:
    """Reads a spec back from what :func:`to_dict` gave.

    Args:
        kind: The dataclass to make.
        data: Nested dicts, as ``json.load`` gives them.

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
    hooks: dict[Any, Any] = {float: _number, int: _whole_number, **dict.fromkeys(tuples, _items)}
    try:
        return dacite.from_dict(kind, data, config=dacite.Config(strict=True, type_hooks=hooks))
    except (dacite.DaciteError, ParameterError, OverflowError) as error:
        raise ConfigError(f"{kind.__name__}: {error}") from error


def _number(value: Any) -> Any:
    # JSON writes 3.0 as 3 in some hands.
    return float(value) if isinstance(_no_bool(value, float), int) else value


def _whole_number(value: Any) -> Any:
    return _no_bool(value, int)


def _no_bool(value: Any, kind: type) -> Any:
    from dacite import WrongTypeError

    # A bool is no number, whatever Python says.
    if isinstance(value, bool):
        raise WrongTypeError(kind, value)
    return value


def _items(value: Any) -> Any:
    from dacite import WrongTypeError

    # A string has items as well, but is none of them.
    if not isinstance(value, list | tuple):
        raise WrongTypeError(list, value)
    return tuple(value)
