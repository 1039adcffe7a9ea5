"""One stage of fine-tuning, as plain data."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Stage:
    """One stage of fine-tuning: what learns, for how long, and at which rates.

    A rate is the highest that the schedule reaches. What has no rate is frozen: it keeps its weights, its batch
    normalisation keeps its statistics, and its dropout drops nothing.

    Attributes:
        name: For people and the history.
        epochs: Passes over the training tracks, at most.
        learning_rate: The head's rate; the head always learns.
        backbone_rates: Rates of the backbone's last stages, from input to output; the stages before them are frozen.
        rest_rate: Rate of the feature, and of what belongs to no stage of the backbone; ``None`` freezes them.
        optimizer: ``"adamw"`` or ``"adam"``.
        weight_decay: The optimiser's.
        schedule: What the rates do after the warm-up: ``"constant"``, or ``"cosine"`` for half a cosine down to 0.
        warmup: Share of the steps in which the rates rise in a straight line, in [0, 1).
        label_smoothing: Share of the truth that is spread over all genres, in [0, 1).
    """

    name: str
    epochs: int
    learning_rate: float
    backbone_rates: tuple[float, ...] = ()
    rest_rate: float | None = None
    optimizer: Literal["adamw", "adam"] = "adamw"
    weight_decay: float = 0.01
    schedule: Literal["constant", "cosine"] = "cosine"
    warmup: float = 0.1
    label_smoothing: float = 0.0

    @property
    def frozen(self) -> bool:
        """Whether only the head learns, so that a window has the same embedding in every epoch."""
        return not self.backbone_rates and self.rest_rate is None

    @property
    def unfrozen(self) -> int:
        """How many of the backbone's stages learn, counted from the output."""
        return len(self.backbone_rates)

    def rate_factor(self, step: int, *, steps: int) -> float:
        """Returns the share of its rate that everything learns at in one step.

        Args:
            step: Number of the step, from 0.
            steps: Steps of the whole stage, at least 1.

        Example:
            >>> stage = Stage("head", 1, 1e-3, warmup=0.25)
            >>> [round(stage.rate_factor(step, steps=8), 2) for step in range(8)]
            [0.33, 0.67, 1.0, 0.93, 0.75, 0.5, 0.25, 0.07]
        """
        rising = min(round(self.warmup * steps), steps - 1)
        if step < rising:
            return (step + 1) / (rising + 1)
        if self.schedule == "constant":
            return 1.0
        return (1 + math.cos(math.pi * min((step - rising) / (steps - rising), 1.0))) / 2
