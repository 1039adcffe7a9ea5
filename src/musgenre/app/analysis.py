"""Analysis of one song for the page: prediction, explanation, figures and JSON record."""

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
class SongAnalysis:
    """Results that the page shows for a song.

    Attributes:
        prediction: Predicted genre.
        explanation: Saliency of the predicted genre, in the window with its highest probability.
        record: JSON-serialisable record to download.
    """

    prediction: Prediction
    explanation: Explanation
    record: dict[str, Any]

    def timeline(self) -> Figure | SubFigure:
        """Plot the genre probabilities over time."""
        return plot_timeline(self.prediction, ax=new_axes(9, 3)).figure

    def saliency(self) -> Figure | SubFigure:
        """Plot the saliency map over the spectrogram."""
        return self.explanation.plot(ax=new_axes(9, 3.5)).figure


class SongAnalyser:
    """Predicts and explains the genre of songs.

    Args:
        classifier: The classifier.
        max_minutes: Maximum duration of a song in minutes.

    Raises:
        ParameterError: ``max_minutes`` is not positive, or Captum is not installed.
    """

    def __init__(self, classifier: GenreClassifier, *, max_minutes: float = 15.0) -> None:
        if not max_minutes > 0:
            raise ParameterError(f"max_minutes must be positive, got {max_minutes!r}.")
        self.classifier = classifier
        self.max_minutes = max_minutes
        self._explainer = Explainer(classifier.network, classifier.config, method="integrated-gradients")

    def analyse(self, path: str | os.PathLike[str]) -> SongAnalysis:
        """Predict the genre of a song, and explain it.

        Args:
            path: Path of an audio file.

        Raises:
            AudioError: The song is too long, or cannot be used.
            AudioFileError: The file is damaged or not audio.
        """
        name = Path(path).name
        minutes = duration_seconds(path) / 60
        if minutes > self.max_minutes:
            raise AudioError(f"{name}: duration is {minutes:.0f} minutes, the maximum is {self.max_minutes:g}.")
        prediction = self.classifier.predict(path)
        explanation = self._explainer.explain(path, prediction=prediction)
        return SongAnalysis(prediction, explanation, self._record(prediction, name))

    def _record(self, prediction: Prediction, name: str) -> dict[str, Any]:
        windows = [
            {"start_seconds": start, "probabilities": dict(zip(self.classifier.labels, row, strict=True))}
            for start, row in zip(
                prediction.windows.start_seconds.tolist(), prediction.windows.probabilities.tolist(), strict=True
            )
        ]
        # The name replaces the temporary path, which must not be disclosed to visitors.
        return {**prediction.to_dict(), "path": name, "model": self.classifier.config.name, "windows": windows}
