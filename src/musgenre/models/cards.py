"""The model card that is written beside a saved model: what the hub and a person read first."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from musgenre.core.config import Component, ModelConfig
from musgenre.core.errors import WeightsError
from musgenre.core.files import atomic_write

CARD_FILE = "README.md"
_MARK = "<!-- Written by musgenre, anew whenever the model is saved. Remove this line to keep your own words. -->"


def write_card(directory: Path, *, config: ModelConfig, parameters: int) -> None:
    """Writes ``README.md``, unless there is one of a person's own there.

    Args:
        directory: The model's directory.
        config: What the model is.
        parameters: How many parameters it has.

    Raises:
        WeightsError: The file cannot be written.
    """
    path = directory / CARD_FILE
    try:
        if path.exists() and _MARK not in path.read_text(encoding="utf-8", errors="replace"):
            return
        with atomic_write(path) as new:
            new.write_text(card(config, parameters=parameters), encoding="utf-8")
    except OSError as error:
        raise WeightsError(f"The model card cannot be written to '{path}': {error}") from error


def card(config: ModelConfig, *, parameters: int) -> str:
    """Returns a model card in Markdown with the hub's metadata, from what the configuration tells.

    What nobody told the model, such as its licence, is left for a person to add.

    Args:
        config: What the model is.
        parameters: How many parameters it has.

    Example:
        >>> from musgenre.core.config import AudioSpec
        >>> text = card(
        ...     ModelConfig("bands", ("jazz", "rock"), AudioSpec(), Component("logmel"), Component("vgg16-slim")),
        ...     parameters=1_300_000,
        ... )
        >>> text.splitlines()[1], text.count("## ")
        ('library_name: musgenre', 4)
    """
    audio = config.audio
    parts = [
        _METADATA,
        _MARK,
        f"# {config.name}",
        f"Tells the genre of a piece of music, by [musgenre](https://pypi.org/project/musgenre/): "
        f"{', '.join(config.labels)}.",
        f"The feature {_words(config.feature)} of windows of {audio.window_seconds:g} s, one every "
        f"{audio.hop_seconds:g} s, at {audio.sample_rate:,} Hz; the backbone {_words(config.backbone)}; "
        f"{parameters:,} parameters. A song's probabilities are the mean over its windows.",
        _USE,
        _training(config),
        _scores(config.scores),
        _LIMITS,
    ]
    return "\n\n".join(parts)


_METADATA = """---
library_name: musgenre
pipeline_tag: audio-classification
tags:
- musgenre
- music
- genre
- audio-classification
---"""

_USE = """## Use

```python
import musgenre

classifier = musgenre.GenreClassifier.from_pretrained("...")  # this folder, or this model's id on the hub
classifier.predict("song.mp3").top(3)
```"""

_LIMITS = """## Limits

It always names one of its genres, for other music, speech and silence as well. The labels mean what they meant to
those who sorted the training songs. How good it is for songs of other artists, `musgenre evaluate` on such songs tells.
"""


def _words(part: Component) -> str:
    options = ", ".join(f"{name} = {value!r}" for name, value in part.options.items())
    return f"`{part.name}` ({options})" if options else f"`{part.name}`"


def _training(config: ModelConfig) -> str:
    told = [f"What it was trained on: {config.split}." if config.split else "What it was trained on is not recorded."]
    stages: list[dict[str, Any]] = config.training.get("stages", [])
    if stages:
        told.append("; ".join(_stage(stage) for stage in stages) + ".")
    if config.library_version:
        told.append(f"musgenre {config.library_version}; `config.json` has every setting.")
    return "## Training\n\n" + " ".join(told)


def _stage(stage: dict[str, Any]) -> str:
    name, epochs, rate = stage.get("name", "a stage"), stage.get("epochs"), stage.get("learning_rate")
    return f"Stage `{name}`: at most {epochs} epochs, learning rate {rate}"


def _scores(scores: dict[str, float]) -> str:
    if not scores:
        return "## Scores\n\nNone were measured."
    rows = [f"| {name.replace('_', ' ')} | {value:.4g} |" for name, value in scores.items()]
    told = "\n".join(["## Scores", "", "| figure | value |", "| --- | --- |", *rows])
    if any(name.startswith("valid_") for name in scores):
        told += "\n\nThe validation songs also chose the weights, which flatters their figures."
    return told
