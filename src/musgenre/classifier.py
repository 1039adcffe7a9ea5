"""A trained network with everything it takes to use it on songs."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Literal, cast, overload

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from musgenre import weights
from musgenre.audio import AudioSource, AudioWindows
from musgenre.errors import MusgenreError, ParameterError
from musgenre.metrics import track_probabilities
from musgenre.network import GenreNetwork
from musgenre.specs import ModelConfig, Prediction, Windows

Floats = npt.NDArray[np.float64]


class GenreClassifier:
    """Tells the genre of songs.

    Most users call :meth:`from_pretrained` or :func:`musgenre.finetune` instead of the constructor.

    Args:
        network: The trained network.
        config: What the network is and how it hears.
        device: Where it runs, such as ``"cuda"``; by default CUDA where there is a GPU, else the CPU.

    Attributes:
        network: The network, in evaluation mode.
        config: Its configuration.

    Example:
        >>> import numpy as np
        >>> classifier = GenreClassifier.from_pretrained()
        >>> noise = np.random.default_rng(0).normal(size=22_050 * 5)
        >>> prediction = classifier.predict((noise, 22_050))
        >>> prediction.label in classifier.labels, prediction.windows.probabilities.shape
        (True, (2, 10))
    """

    def __init__(self, network: GenreNetwork, config: ModelConfig, *, device: str | torch.device | None = None) -> None:
        chosen = device if device is not None else ("cuda" if torch.cuda.is_available() else "cpu")
        self.network = network.eval().to(chosen)
        self.config = config

    @classmethod
    def from_pretrained(
        cls,
        source: str | os.PathLike[str] | None = None,
        *,
        device: str | torch.device | None = None,
        revision: str | None = None,
        local_files_only: bool = False,
    ) -> GenreClassifier:
        """Loads a model.

        Args:
            source: ``None`` for the model inside the package, its name, a directory that
                :meth:`save_pretrained` wrote, or a hub id ``"org/name"``.
            device: Where it runs; see the class.
            revision: Branch, tag or commit of a hub model.
            local_files_only: Whether a hub model must be in the local cache already.

        Raises:
            WeightsError: There is no such model, a file is missing or damaged, or the tensors do not fit.
            ConfigError: The configuration is damaged or from a newer format.
            UnknownNameError, PluginError: The model needs a feature or backbone that is not there.
        """
        config, network = weights.load(weights.locate(source, revision=revision, local_files_only=local_files_only))
        return cls(network, config, device=device)

    def save_pretrained(self, directory: str | os.PathLike[str]) -> None:
        """Writes ``config.json`` and ``model.safetensors``; loading them gives the same predictions.

        Raises:
            WeightsError: The directory or a file cannot be written.
        """
        weights.save(Path(directory), config=self.config, network=self.network)

    @property
    def labels(self) -> tuple[str, ...]:
        """The genres, in the order of every probability vector."""
        return self.config.labels

    @property
    def device(self) -> torch.device:
        """Where the network runs."""
        device: torch.device = next(self.network.parameters()).device
        return device

    @property
    def embedding_size(self) -> int:
        """Length of the vector that :meth:`embed` gives."""
        size: int = self.network.backbone.out_features
        return size

    @overload  # to the type checker a str is an iterable of str
    def predict(  # type: ignore[overload-overlap]
        self, source: AudioSource, *, batch_size: int = ..., on_error: Literal["raise"] = ...
    ) -> Prediction: ...
    @overload
    def predict(
        self, source: Iterable[AudioSource], *, batch_size: int = ..., on_error: Literal["raise"] = ...
    ) -> list[Prediction]: ...
    @overload  # to the type checker a str is an iterable of str
    def predict(  # type: ignore[overload-overlap]
        self, source: AudioSource, *, batch_size: int = ..., on_error: Literal["return"]
    ) -> Prediction | MusgenreError: ...
    @overload
    def predict(
        self, source: Iterable[AudioSource], *, batch_size: int = ..., on_error: Literal["return"]
    ) -> list[Prediction | MusgenreError]: ...
    def predict(
        self,
        source: AudioSource | Iterable[AudioSource],
        *,
        batch_size: int = 16,
        on_error: Literal["raise", "return"] = "raise",
    ) -> Prediction | MusgenreError | list[Prediction] | list[Prediction | MusgenreError]:
        """Predicts the genre of one song, or of each of several.

        A song is decoded in blocks and heard window by window, so memory does not grow with its length.

        Args:
            source: One song (a path, a binary file object, or ``(waveform, rate)``), or an iterable of songs.
            batch_size: Windows that go through the network together, at least 1.
            on_error: ``"raise"`` raises the first error; ``"return"`` puts the error in the song's place.

        Returns:
            A :class:`~musgenre.specs.Prediction` for one song, a list in the given order for several.

        Raises:
            AudioFileError: A file is missing, damaged or no audio.
            AudioError: The samples cannot be used: too short, not finite.
            ParameterError: An argument is out of range.
        """
        if on_error not in ("raise", "return"):
            raise ParameterError(f"on_error must be 'raise' or 'return', not {on_error!r}.")
        songs, one = _songs(source)
        results = [self._predict_one(song, batch_size, on_error=on_error) for song in songs]
        return results[0] if one else results

    def predict_proba(self, sources: Iterable[AudioSource], *, batch_size: int = 16) -> Floats:
        """Returns the probabilities of several songs.

        Args:
            sources: The songs.
            batch_size: Windows that go through the network together, at least 1.

        Shape:
            - Output: ``(songs, classes)``, columns in the order of :attr:`labels`, each row summing to 1

        Raises:
            AudioFileError, AudioError, ParameterError: As :meth:`predict`.
        """
        songs, one = _songs(sources)
        if one:
            raise ParameterError("Expected an iterable of songs, got one song: put it in a list.")
        predictions = [self.predict(song, batch_size=batch_size) for song in songs]
        rows = [list(prediction.probabilities.values()) for prediction in predictions]
        return np.array(rows, dtype=np.float64).reshape(-1, len(self.labels))

    def embed(self, source: AudioSource | Iterable[AudioSource], *, batch_size: int = 16) -> npt.NDArray[np.float32]:
        """Returns the backbone's vector, averaged over a song's windows: a summary of how it sounds.

        Args:
            source: One song or an iterable of songs.
            batch_size: Windows that go through the network together, at least 1.

        Shape:
            - Output: ``(embedding_size,)`` for one song, ``(songs, embedding_size)`` for several

        Raises:
            AudioFileError, AudioError, ParameterError: As :meth:`predict`.
        """
        songs, one = _songs(source)
        vectors = [self._embed_one(song, batch_size) for song in songs]
        return vectors[0] if one else np.array(vectors, dtype=np.float32).reshape(-1, self.embedding_size)

    def _predict_one(self, song: AudioSource, batch_size: int, *, on_error: str) -> Prediction | MusgenreError:
        try:
            audio = AudioWindows(song, self.config.audio)
            starts: list[float] = []
            rows: list[Floats] = []
            for batch_starts, batch in self._batches(audio, batch_size):
                with torch.inference_mode():
                    probabilities = (self.network(batch).double() / self.config.temperature).softmax(dim=1)
                starts += batch_starts
                rows.append(probabilities.cpu().numpy())
        except MusgenreError as error:
            if on_error == "return":
                return error
            raise
        windows = Windows(np.array(starts), np.concatenate(rows))
        track = track_probabilities(windows.probabilities)
        return Prediction(
            dict(zip(self.labels, track.tolist(), strict=True)),
            windows=windows,
            duration_seconds=audio.duration_seconds,
            path=os.fspath(song) if isinstance(song, str | os.PathLike) else None,
        )

    def _embed_one(self, song: AudioSource, batch_size: int) -> npt.NDArray[np.float32]:
        total = np.zeros(self.embedding_size, dtype=np.float64)
        count = 0
        for _, batch in self._batches(AudioWindows(song, self.config.audio), batch_size):
            with torch.inference_mode():
                vectors = self.network.backbone(self.network.feature(batch))
            total += vectors.double().sum(dim=0).cpu().numpy()
            count += len(vectors)
        return (total / count).astype(np.float32)

    def _batches(self, audio: AudioWindows, batch_size: int) -> Iterator[tuple[list[float], Tensor]]:
        if batch_size < 1:
            raise ParameterError(f"batch_size must be at least 1, not {batch_size!r}.")
        windows = iter(audio)
        while batch := list(islice(windows, batch_size)):
            samples = torch.from_numpy(np.stack([window for _, window in batch]))
            yield [start for start, _ in batch], samples.to(self.device)


def _songs(source: AudioSource | Iterable[AudioSource]) -> tuple[Iterable[AudioSource], bool]:
    """Returns the songs, and whether it was one that did not come in a list."""
    if isinstance(source, str | os.PathLike | tuple) or hasattr(source, "read"):
        return [cast(AudioSource, source)], True
    if not isinstance(source, Iterable):
        raise ParameterError(
            "Expected a path, a binary file object, (waveform, rate) or an iterable of these, got "
            f"{type(source).__name__}."
        )
    return source, False
