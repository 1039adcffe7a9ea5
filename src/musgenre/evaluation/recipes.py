"""What is trained, as plain data."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from musgenre.core import config as specs
from musgenre.core.config import Component
from musgenre.core.errors import ConfigError, UnknownNameError
from musgenre.training.config import FinetuneConfig
from musgenre.training.presets import preset

# Whoever reads a report can do without these, and a run may go on with others.
_WITHOUT_EFFECT = ("seed", "cache", "name", "allow_leakage")


@dataclass(frozen=True)
class Recipe:
    """What :func:`~musgenre.finetune` is told besides the tracks.

    Attributes:
        backbone: Name or component of the backbone.
        feature: Name or component of the feature; ``None`` takes the backbone's default.
        config: How to train.

    Example:
        >>> Recipe("vgg16-slim", config=FinetuneConfig(head_epochs=5)).config.head_epochs
        5
    """

    backbone: str | Component = "vgg16"
    feature: str | Component | None = None
    config: FinetuneConfig = field(default_factory=FinetuneConfig)

    @classmethod
    def read(cls, source: str) -> Recipe:
        """Takes the name of a preset or of a backbone, or a JSON file whose name ends in ``.json``.

        The file holds ``backbone``, ``feature`` and ``config`` as the attributes are named, each of which may be
        left out: ``{"backbone": "vgg16-slim", "config": {"head_epochs": 5}}``.

        Raises:
            ConfigError: The file cannot be read, or holds an unknown key or a wrong value.
        """
        if not source.endswith(".json"):
            return cls._named(source)
        try:
            pairs: Any = json.loads(Path(source).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ConfigError(f"{source!r} cannot be read as a recipe: {error}") from error
        # JSON knows no paths.
        config = pairs.get("config") if isinstance(pairs, dict) else None
        cache = config.pop("cache", None) if isinstance(config, dict) else None
        recipe = specs.from_dict(cls, pairs)
        if cache is None:
            return recipe
        return dataclasses.replace(recipe, config=dataclasses.replace(recipe.config, cache=Path(cache)))

    @classmethod
    def _named(cls, name: str) -> Recipe:
        try:
            chosen = preset(name)
        except UnknownNameError:  # it is a backbone's, or nobody's, which is found out when it is built
            return cls(name)
        return cls(chosen.backbone, chosen.feature, chosen.config)

    def described(self) -> dict[str, Any]:
        """Returns what makes a difference to the trained weights but the seed, in JSON's types."""
        config = {key: value for key, value in specs.to_dict(self.config).items() if key not in _WITHOUT_EFFECT}
        feature = None if self.feature is None else specs.to_dict(Component.of(self.feature))
        pairs = {"backbone": specs.to_dict(Component.of(self.backbone)), "feature": feature, "config": config}
        described: dict[str, Any] = json.loads(json.dumps(pairs, default=str))
        return described
