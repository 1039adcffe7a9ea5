"""A trained network with everything it takes to use it on songs."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Literal, TypeVar, cast, overload

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from musgenre import hearing, weights
from musgenre.audio import AudioSource, AudioWindows
from musgenre.errors import MusgenreError, ParameterError
from musgenre.inference import Inference, Runtime
from musgenre.metrics import track_probabilities
from musgenre.network import GenreNetwork
from musgenre.parallel import Workers
from musgenre.specs import ModelConfig, Prediction, Windows

Floats = npt.NDArray[np.float64]
R = TypeVar("R")


class GenreClassifier:
    """Tells the genre of songs.

    Most users call :meth:`from_pretrained` or :func:`musgenre.finetune` instead of the constructor.

    Args:
        network: The trained network.
        config: What the network is and how it hears.
        device: Where it runs, such as ``"cuda"``; by default CUDA where there is a GPU, else the CPU.
        runtime: What computes :meth:`predict`: ``"torch"``, or ``"onnx"`` for ONNX Runtime, which is an extra, takes
            some seconds to begin with and needs about a third less time on a CPU then.

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

    def __init__(
        self,
        network: GenreNetwork,
        config: ModelConfig,
        *,
        device: str | torch.device | None = None,
        runtime: Runtime = "torch",
    ) -> None:
        chosen = device if device is not None else ("cuda" if torch.cuda.is_available() else "cpu")
        self.network = network.eval().to(chosen)
        self.config = config
        self.runtime = runtime

    @classmethod
    def from_pretrained(
        cls,
        source: str | os.PathLike[str] | None = None,
        *,
        device: str | torch.device | None = None,
        revision: str | None = None,
        local_files_only: bool = False,
        backbone_weights: str | os.PathLike[str] | None = None,
    ) -> GenreClassifier:
        """Loads a model.

        Args:
            source: ``None`` for the model inside the package, its name, a directory that
                :meth:`save_pretrained` wrote, or a hub id ``"org/name"``.
            device: Where it runs; see the class.
            revision: Branch, tag or commit of a hub model.
            local_files_only: Whether a hub model must be in the local cache already.
            backbone_weights: For a model that is a head on somebody else's network, such as ``"yamnet-gtzan"``, the
                file with that network's weights; by default they are downloaded once from where they are published.

        Raises:
            WeightsError: There is no such model, a file is missing or damaged, the tensors do not fit, or the
                backbone's weights are elsewhere and cannot be had.
            ConfigError: The configuration is damaged or from a newer format, or names unknown weights.
            ParameterError: ``backbone_weights`` is given for a model that holds its backbone's weights.
            UnknownNameError, PluginError: The model needs a feature or backbone that is not there.
        """
        directory = weights.locate(source, revision=revision, local_files_only=local_files_only)
        config, network = weights.load(directory, backbone_weights=backbone_weights)
        return cls(network, config, device=device)

    def save_pretrained(self, directory: str | os.PathLike[str]) -> None:
        """Writes ``config.json`` and ``model.safetensors``; loading them gives the same predictions.

        Raises:
            WeightsError: The directory or a file cannot be written.
        """
        weights.save(Path(directory), config=self.config, network=self.network)

    def export_onnx(self, path: str | os.PathLike[str]) -> None:
        """Writes one ONNX graph from samples to probabilities; see :func:`musgenre.exporting.export_onnx`.

        Raises:
            ParameterError: The extra ``onnx`` is not installed, or the network has a step that no graph can hold.
            WeightsError: The file cannot be written.
        """
        from musgenre.exporting import export_onnx

        export_onnx(Path(path), network=self.network, config=self.config)

    @property
    def runtime(self) -> Runtime:
        """What computes :meth:`predict`; can be set, as in ``classifier.runtime = "onnx"``."""
        return self._inference.runtime

    @runtime.setter
    def runtime(self, runtime: Runtime) -> None:
        self._inference = Inference(window_samples=self.config.audio.window_samples, runtime=runtime)

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
        self, source: AudioSource, *, batch_size: int | None = ..., on_error: Literal["raise"] = ...
    ) -> Prediction: ...
    @overload
    def predict(
        self, source: Iterable[AudioSource], *, batch_size: int | None = ..., on_error: Literal["raise"] = ...
    ) -> list[Prediction]: ...
    @overload  # to the type checker a str is an iterable of str
    def predict(  # type: ignore[overload-overlap]
        self, source: AudioSource, *, batch_size: int | None = ..., on_error: Literal["return"]
    ) -> Prediction | MusgenreError: ...
    @overload
    def predict(
        self, source: Iterable[AudioSource], *, batch_size: int | None = ..., on_error: Literal["return"]
    ) -> list[Prediction | MusgenreError]: ...
    def predict(
        self,
        source: AudioSource | Iterable[AudioSource],
        *,
        batch_size: int | None = None,
        on_error: Literal["raise", "return"] = "raise",
    ) -> Prediction | MusgenreError | list[Prediction] | list[Prediction | MusgenreError]:
        """Predicts the genre of one song, or of each of several.

        A song is decoded in blocks and heard window by window, so memory does not grow with its length.

        Args:
            source: One song (a path, a binary file object, or ``(waveform, rate)``), or an iterable of songs.
            batch_size: Windows that go through the network together, at least 1; by default 5 on a CPU, 64 on a GPU.
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
        size = self._batch_size(batch_size)

        def work(song: AudioSource, workers: Workers) -> Prediction | MusgenreError:
            try:
                return self._predict(song, workers, batch_size=size)
            except MusgenreError as error:
                if on_error == "return":
                    return error
                raise

        return self._of_songs(source, work)  # type: ignore[return-value]

    def predict_proba(self, sources: Iterable[AudioSource], *, batch_size: int | None = None) -> Floats:
        """Returns the probabilities of several songs.

        Args:
            sources: The songs.
            batch_size: Windows that go through the network together, at least 1; by default 5 on a CPU, 64 on a GPU.

        Shape:
            - Output: ``(songs, classes)``, columns in the order of :attr:`labels`, each row summing to 1

        Raises:
            AudioFileError, AudioError, ParameterError: As :meth:`predict`.
        """
        songs, one = _songs(sources)
        if one:
            raise ParameterError("Expected an iterable of songs, got one song: put it in a list.")
        predictions = self.predict(songs, batch_size=batch_size)
        rows = [list(prediction.probabilities.values()) for prediction in predictions]
        return np.array(rows, dtype=np.float64).reshape(-1, len(self.labels))

    def embed(
        self, source: AudioSource | Iterable[AudioSource], *, batch_size: int | None = None
    ) -> npt.NDArray[np.float32]:
        """Returns the backbone's vector, averaged over a song's windows: a summary of how it sounds.

        Args:
            source: One song or an iterable of songs.
            batch_size: Windows that go through the network together, at least 1; by default 5 on a CPU, 64 on a GPU.

        Shape:
            - Output: ``(embedding_size,)`` for one song, ``(songs, embedding_size)`` for several

        Raises:
            AudioFileError, AudioError, ParameterError: As :meth:`predict`.
        """
        size = self._batch_size(batch_size)
        vectors = self._of_songs(source, lambda song, workers: self._embed(song, workers, batch_size=size))
        return np.array(vectors, np.float32).reshape(-1, self.embedding_size) if isinstance(vectors, list) else vectors

    def _of_songs(
        self, source: AudioSource | Iterable[AudioSource], work: Callable[[AudioSource, Workers], R]
    ) -> R | list[R]:
        songs, one = _songs(source)
        if one:
            return hearing.alone(next(iter(songs)), work, device=self.device)
        return hearing.each(songs, work, device=self.device)

    def _predict(self, song: AudioSource, workers: Workers, *, batch_size: int) -> Prediction:
        logits = self._inference.of(self.network)

        def probabilities(batch: Tensor) -> Floats:
            rows: Floats = (logits(batch).double() / self.config.temperature).softmax(dim=1).cpu().numpy()
            return rows

        audio = AudioWindows(song, self.config.audio, ahead=workers.several)
        batches = hearing.heard(audio, probabilities, workers=workers, batch_size=batch_size, device=self.device)
        starts, rows = zip(*batches, strict=True)
        windows = Windows(np.concatenate(starts), np.concatenate(rows))
        track = track_probabilities(windows.probabilities)
        return Prediction(
            dict(zip(self.labels, track.tolist(), strict=True)),
            windows=windows,
            duration_seconds=audio.duration_seconds,
            path=os.fspath(song) if isinstance(song, str | os.PathLike) else None,
        )

    def _embed(self, song: AudioSource, workers: Workers, *, batch_size: int) -> npt.NDArray[np.float32]:
        def vectors(batch: Tensor) -> Floats:
            rows: Floats = self.network.backbone(self.network.feature(batch)).double().cpu().numpy()
            return rows

        audio = AudioWindows(song, self.config.audio, ahead=workers.several)
        batches = hearing.heard(audio, vectors, workers=workers, batch_size=batch_size, device=self.device)
        mean: npt.NDArray[np.float32] = np.concatenate([rows for _, rows in batches]).mean(axis=0).astype(np.float32)
        return mean

    def _batch_size(self, batch_size: int | None) -> int:
        if batch_size is None:
            return hearing.batch_size_for(self.device)
        if batch_size < 1:
            raise ParameterError(f"batch_size must be at least 1, not {batch_size!r}.")
        return batch_size


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
