"""The classifier: a trained network and its configuration."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np
import numpy.typing as npt
import torch

from musgenre.audio.options import ReadOptions
from musgenre.audio.windows import AudioSource
from musgenre.core.config import ModelConfig, Prediction
from musgenre.core.errors import MusgenreError
from musgenre.features.spectral import mel_of
from musgenre.models import cards, hub
from musgenre.models import serialization as weights
from musgenre.models.inference import (
    CompiledNetwork,
    Floats,
    Function,
    Inference,
    OnError,
    Runtime,
    Source,
    WindowOutputs,
)
from musgenre.models.network import GenreNetwork

if TYPE_CHECKING:
    from typing_extensions import Self, Unpack

    from musgenre.models.explain import Explanation, Method


class GenreClassifier:
    """Classifies music by genre.

    Most users call :meth:`from_pretrained` or :func:`musgenre.finetune` instead of the constructor.

    Args:
        network: The trained network.
        config: Its configuration.
        device: Device of the network, such as ``"cuda"``; by default CUDA if there is a GPU, else the CPU.
        runtime: ``"torch"``, or ``"onnx"`` for ONNX Runtime (an extra), which takes some seconds to start and about a
            third less time for each prediction on a CPU.
        reading: Limits for files (length, channels, bytes), and whether a worker process decodes them.

    Attributes:
        network: The network, in evaluation mode.
        config: Its configuration.
        reading: Limits and decoder for files.

    Example:
        >>> import numpy as np
        >>> classifier = GenreClassifier.from_pretrained()
        >>> noise = np.random.default_rng(0).normal(size=22_050 * 15)
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
        reading: ReadOptions | None = None,
    ) -> None:
        if device is None:
            device = "cuda" if torch.cuda.is_available() else "cpu"
        self.network = network.eval().to(device)
        self.config = config
        self.runtime = runtime
        self.reading = reading or ReadOptions()

    @classmethod
    def from_pretrained(
        cls,
        source: str | os.PathLike[str] | None = None,
        *,
        device: str | torch.device | None = None,
        runtime: Runtime = "torch",
        reading: ReadOptions | None = None,
        backbone_weights: str | os.PathLike[str] | None = None,
        **options: Unpack[hub.HubOptions],
    ) -> Self:
        """Load a model.

        Args:
            source: ``None`` for the model in the package, its name, a directory written by :meth:`save_pretrained`, or
                a Hub id ``"org/name"``.
            device: As in the constructor.
            runtime: As in the constructor.
            reading: As in the constructor.
            backbone_weights: For a model stored without its backbone's weights, such as ``"yamnet-gtzan"``, the file
                with these weights; by default they are downloaded once from their publisher.
            **options: For a Hub model: ``revision`` (branch, tag or commit), ``cache_dir``, ``token`` and
                ``local_files_only``; see :class:`~musgenre.models.hub.HubOptions`. With the last one the backbone's
                weights are not downloaded either.

        Raises:
            WeightsError: The model does not exist, a file is missing or damaged, the tensors do not fit, or the
                backbone's weights could not be downloaded.
            ConfigError: The configuration is damaged or from a newer format, or names unknown weights.
            ParameterError: ``backbone_weights`` is given for a model that contains its backbone's weights.
            UnknownNameError, PluginError: The model's feature or backbone is not available.
        """
        directory = weights.locate(source, **options)
        config, network = weights.load(
            directory, backbone_weights=backbone_weights, local_files_only=options.get("local_files_only", False)
        )
        return cls(network, config, device=device, runtime=runtime, reading=reading)

    @overload  # to the type checker a str is an iterable of str
    def predict(  # type: ignore[overload-overlap]
        self, source: Source, *, batch_size: int | None = ..., on_error: Literal["raise"] = ...
    ) -> Prediction: ...
    @overload
    def predict(
        self, source: Iterable[Source], *, batch_size: int | None = ..., on_error: Literal["raise"] = ...
    ) -> list[Prediction]: ...
    @overload  # to the type checker a str is an iterable of str
    def predict(  # type: ignore[overload-overlap]
        self, source: Source, *, batch_size: int | None = ..., on_error: Literal["return"]
    ) -> Prediction | MusgenreError: ...
    @overload
    def predict(
        self, source: Iterable[Source], *, batch_size: int | None = ..., on_error: Literal["return"]
    ) -> list[Prediction | MusgenreError]: ...
    def predict(
        self,
        source: Source | Iterable[Source],
        *,
        batch_size: int | None = None,
        on_error: OnError = "raise",
    ) -> Prediction | MusgenreError | list[Prediction] | list[Prediction | MusgenreError]:
        """Predict the genre of one recording, or of each of several.

        A recording is decoded in blocks and processed window by window, so memory does not grow with its length.

        Args:
            source: One recording (a path, a binary file object, ``(waveform, rate)`` or a
                :class:`~musgenre.datasets.spectrograms.StoredSpectrogram`), or an iterable of them.
            batch_size: Windows in a batch, at least 1; by default 64 on a GPU, and on a CPU 30 s of audio, or 15 s if
                several threads share a recording.
            on_error: ``"raise"`` raises the first error; ``"return"`` returns the error as that recording's result.

        Returns:
            A :class:`~musgenre.core.config.Prediction` for one recording, a list in the given order for several.

        Raises:
            AudioFileError: A file is missing, damaged or not audio.
            AudioError: The samples cannot be used: too short, not finite.
            DatasetError: A stored spectrogram does not fit the network's feature.
            ParameterError: An argument is out of range.
            WeightsError: The network returned values that are not finite.
        """
        return self._predictor(batch_size, on_error).run(source)

    @overload
    def predict_iter(
        self, sources: Iterable[Source], *, batch_size: int | None = ..., on_error: Literal["raise"] = ...
    ) -> Iterator[Prediction]: ...
    @overload
    def predict_iter(
        self, sources: Iterable[Source], *, batch_size: int | None = ..., on_error: Literal["return"]
    ) -> Iterator[Prediction | MusgenreError]: ...
    def predict_iter(
        self, sources: Iterable[Source], *, batch_size: int | None = None, on_error: OnError = "raise"
    ) -> Iterator[Prediction | MusgenreError]:
        """Return an iterator over the predictions of several recordings, in the given order.

        Memory is that of a few recordings, for a collection of any size: ``sources`` is consumed only a few items
        ahead.
        The iterator may be dropped at any time; work that was started for it is cancelled.

        Args:
            sources: The recordings.
            batch_size: As in :meth:`predict`.
            on_error: ``"raise"`` ends with the first error; ``"return"`` yields the error, with the recording as its
                ``path``, and continues.

        Raises:
            AudioFileError, AudioError, ParameterError, WeightsError: As :meth:`predict`.
        """
        return self._predictor(batch_size, on_error).run_each(sources)

    def predict_proba(self, sources: Iterable[Source], *, batch_size: int | None = None) -> Floats:
        """Return the probabilities of several recordings.

        Args:
            sources: The recordings.
            batch_size: As in :meth:`predict`.

        Shape:
            - Output: ``(recordings, classes)``, columns in the order of :attr:`labels`, each row summing to 1

        Raises:
            AudioFileError, AudioError, ParameterError, WeightsError: As :meth:`predict`.
        """
        rows = [list(one.probabilities.values()) for one in self.predict_iter(sources, batch_size=batch_size)]
        return np.array(rows, dtype=np.float64).reshape(-1, len(self.labels))

    def embed(self, source: Source | Iterable[Source], *, batch_size: int | None = None) -> npt.NDArray[np.float32]:
        """Return the backbone's output, averaged over the windows of a recording.

        Args:
            source: One recording or an iterable of recordings.
            batch_size: As in :meth:`predict`.

        Shape:
            - Output: ``(embedding_size,)`` for one recording, ``(recordings, embedding_size)`` for several

        Raises:
            AudioFileError, AudioError, ParameterError, WeightsError: As :meth:`predict`.
        """
        embedder: Inference[Any] = Inference(
            make_function=self._function_maker(probabilities=False, embedding=True),
            finish=WindowOutputs.to_embedding,
            audio=self.config.audio,
            mel=mel_of(self.network.feature),
            device=self.device,
            batch_size=batch_size,
            reading=self.reading,
        )
        vectors: Any = embedder.run(source)
        return np.array(vectors, np.float32).reshape(-1, self.embedding_size) if isinstance(vectors, list) else vectors

    def explain(
        self, source: AudioSource, *, method: Method = "grad-cam", label: str | None = None, window: int | None = None
    ) -> Explanation:
        """Compute which parts of a window's spectrogram contributed to a genre; needs the extra ``explain``.

        Args:
            source: One recording.
            method: ``"grad-cam"`` is fast and coarse; ``"integrated-gradients"`` attributes to single cells, and
                supports any network. See :class:`~musgenre.models.explain.Explanation`.
            label: The genre; by default the predicted one.
            window: Index of the window, from 0; by default the one in which the genre has the highest probability.

        Raises:
            UnknownNameError: The method or label does not exist.
            ParameterError: The window does not exist, the extra is not installed, or the network has no feature maps
                for ``"grad-cam"``.
            AudioFileError, AudioError: As :meth:`predict`.
        """
        from musgenre.models.explain import Explainer

        explainer = Explainer(self.network, self.config, method=method)
        return explainer.explain(source, prediction=self.predict(source), label=label, window=window)

    def save_pretrained(self, directory: str | os.PathLike[str]) -> None:
        """Write ``config.json`` and ``model.safetensors``; loading them gives the same predictions.

        A model card, ``README.md``, is written beside them, unless one exists that was not generated.

        Raises:
            WeightsError: The directory or a file cannot be written.
        """
        weights.save(Path(directory), config=self.config, network=self.network)
        parameters = sum(parameter.numel() for parameter in self.network.parameters())
        cards.write_card(Path(directory), config=self.config, parameters=parameters)

    def push_to_hub(
        self,
        repo_id: str,
        *,
        commit_message: str = "Upload a model of musgenre",
        private: bool | None = None,
        token: str | bool | None = None,
        branch: str | None = None,
        create_pr: bool = False,
    ) -> str:
        """Upload the model and its card to the Hugging Face Hub, for ``from_pretrained(repo_id)``.

        Args:
            repo_id: ``"org/name"``; the repository is created if it does not exist.
            commit_message: Message of the commit.
            private: Whether a new repository is private; ``None`` is the organisation's default.
            token: Access token; by default the one stored by ``hf auth login``.
            branch: Branch to write to; by default the main one.
            create_pr: Whether to open a pull request instead of a commit.

        Returns:
            The URL of the commit.

        Raises:
            WeightsError: The Hub cannot be reached or refuses the upload, or the model cannot be written.
        """
        with tempfile.TemporaryDirectory() as folder:
            self.save_pretrained(folder)
            return hub.upload(
                Path(folder),
                name=repo_id,
                message=commit_message,
                private=private,
                token=token,
                branch=branch,
                create_pr=create_pr,
            )

    def export_onnx(self, path: str | os.PathLike[str]) -> None:
        """Write one ONNX graph from samples to probabilities; see :func:`musgenre.models.onnx.export_onnx`.

        Raises:
            ParameterError: The extra ``onnx`` is not installed, or the network has an operation that cannot be
                exported.
            WeightsError: The file cannot be written.
        """
        from musgenre.models.onnx import export_onnx

        export_onnx(Path(path), network=self.network, config=self.config)

    @property
    def runtime(self) -> Runtime:
        """Runtime of :meth:`predict`; can be set, as in ``classifier.runtime = "onnx"``."""
        return self._compiled.runtime

    @runtime.setter
    def runtime(self, runtime: Runtime) -> None:
        self._compiled = CompiledNetwork(window_samples=self.config.audio.window_samples, runtime=runtime)

    @property
    def labels(self) -> tuple[str, ...]:
        """The genres, in the order of every probability vector."""
        return self.config.labels

    @property
    def device(self) -> torch.device:
        """Device of the network."""
        device: torch.device = next(self.network.parameters()).device
        return device

    @property
    def embedding_size(self) -> int:
        """Length of the vector that :meth:`embed` returns."""
        size: int = self.network.backbone.out_features
        return size

    def _predictor(self, batch_size: int | None, on_error: OnError) -> Inference[Prediction]:
        return Inference(
            make_function=self._function_maker(),
            finish=partial(WindowOutputs.to_prediction, labels=self.labels),
            audio=self.config.audio,
            mel=mel_of(self.network.feature),
            device=self.device,
            batch_size=batch_size,
            reading=self.reading,
            on_error=on_error,
        )

    def _function_maker(self, *, probabilities: bool = True, embedding: bool = False) -> Callable[[], Function]:
        return partial(
            self._compiled.function,
            self.network,
            temperature=self.config.temperature,
            probabilities=probabilities,
            embedding=embedding,
        )

    def function(self, *, embedding: bool = False) -> Function:
        """Return the function from a batch of windows to probabilities, followed by embeddings if requested.

        :meta private:
        """
        return self._function_maker(embedding=embedding)()
