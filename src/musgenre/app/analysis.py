"""What becomes of a song on the page: from a file to what is shown, without the page."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from musgenre.audio import duration_seconds
from musgenre.core.errors import AudioError, ParameterError
from musgenre.models.classifier import GenreClassifier
from musgenre.models.explain import Explainer
from musgenre.plotting.figures import new_axes
from musgenre.plotting.timeline import plot_timeline

if TYPE_CHECKING:
    from matplotlib.figure import Figure, SubFigure

    from musgenre.core.config import Prediction
    from musgenre.models.explain import Explanation


@dataclass(frozen=True)
class Answer:
    """What the page shows of a song.

    Attributes:
        prediction: The genre.
        explanation: What spoke for it, in the window that is surest of it.
        record: All that can be downloaded, in JSON's types.
    """

    prediction: Prediction
    explanation: Explanation
    record: dict[str, Any]

    def timeline(self) -> Figure | SubFigure:
        """Draws how the genre moves through the song."""
        return plot_timeline(self.prediction, ax=new_axes(9, 3)).figure

    def saliency(self) -> Figure | SubFigure:
        """Draws what spoke for the genre."""
        return self.explanation.plot(ax=new_axes(9, 3.5)).figure


class Answerer:
    """Answers songs one by one.

    Args:
        classifier: What hears them.
        max_minutes: Longer songs are refused.

    Raises:
        ParameterError: ``max_minutes`` is not positive, or Captum is not installed.
    """

    def __init__(self, classifier: GenreClassifier, *, max_minutes: float = 15.0) -> None:
        if not max_minutes > 0:
            raise ParameterError(f"max_minutes must be above 0, not {max_minutes!r}.")
        self.classifier = classifier
        self.max_minutes = max_minutes
        self._explainer = Explainer(classifier.network, classifier.config, method="integrated-gradients")

    def answer(self, path: str | os.PathLike[str]) -> Answer:
        """Hears a song.

        Args:
            path: An audio file.

        Raises:
            AudioError: It is longer than is allowed, or cannot be used.
            AudioFileError: It is damaged or no audio.
        """
        name = Path(path).name
        minutes = duration_seconds(path) / 60
        if minutes > self.max_minutes:
            raise AudioError(f"{name}: lasts {minutes:.0f} minutes; give at most {self.max_minutes:g}.")
        prediction = self.classifier.predict(path)
        explanation = self._explainer.explain(path, prediction=prediction)
        return Answer(prediction, explanation, self._record(prediction, name))

    def _record(self, prediction: Prediction, name: str) -> dict[str, Any]:
        windows = [
            {"start_seconds": start, "probabilities": dict(zip(self.classifier.labels, row, strict=True))}
            for start, row in zip(
                prediction.windows.start_seconds.tolist(), prediction.windows.probabilities.tolist(), strict=True
            )
        ]
        # The path is a temporary one, which is nobody's business.
        return {**prediction.to_dict(), "path": name, "model": self.classifier.config.name, "windows": windows}
