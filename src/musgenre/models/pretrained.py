"""A trained network with its configuration: how it comes from disk and from the hub, and goes there."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from musgenre.audio import ReadOptions
from musgenre.core.config import ModelConfig
from musgenre.models import cards, hub
from musgenre.models import serialization as weights
from musgenre.models.compiled import Inference, Runtime
from musgenre.models.network import GenreNetwork

if TYPE_CHECKING:
    from typing_extensions import Self, Unpack


class Pretrained:
    """What :class:`~musgenre.models.classifier.GenreClassifier` is before it hears a song.

    Args:
        network: The trained network.
        config: What the network is and how it hears.
        device: Where it runs; see :class:`~musgenre.models.classifier.GenreClassifier`.
        runtime: What computes it; see there.
        reading: How far files are trusted; see there.
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
        chosen = device if device is not None else ("cuda" if torch.cuda.is_available() else "cpu")
        self.network = network.eval().to(chosen)
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
        """Loads a model.

        Args:
            source: ``None`` for the model inside the package, its name, a directory that
                :meth:`save_pretrained` wrote, or a hub id ``"org/name"``.
            device: Where it runs; see the class.
            runtime: What computes it; see the class.
            reading: How far files are trusted; see the class.
            backbone_weights: For a model that is a head on somebody else's network, such as ``"yamnet-gtzan"``, the
                file with that network's weights; by default they are downloaded once from where they are published.
            **options: For a hub model: ``revision`` (branch, tag or commit), ``cache_dir``, ``token`` and
                ``local_files_only``, as :class:`~musgenre.models.hub.HubOptions` tells. The last also
                applies to the backbone's weights: nothing is downloaded then.

        Raises:
            WeightsError: There is no such model, a file is missing or damaged, the tensors do not fit, or the
                backbone's weights are elsewhere and cannot be had.
            ConfigError: The configuration is damaged or from a newer format, or names unknown weights.
            ParameterError: ``backbone_weights`` is given for a model that holds its backbone's weights.
            UnknownNameError, PluginError: The model needs a feature or backbone that is not there.
        """
        directory = weights.locate(source, **options)
        config, network = weights.load(
            directory, backbone_weights=backbone_weights, local_files_only=options.get("local_files_only", False)
        )
        return cls(network, config, device=device, runtime=runtime, reading=reading)

    def save_pretrained(self, directory: str | os.PathLike[str]) -> None:
        """Writes ``config.json`` and ``model.safetensors``; loading them gives the same predictions.

        A model card, ``README.md``, is written beside them, unless there is one of your own.

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
        """Puts the model and its card on the Hugging Face Hub, from where ``from_pretrained(repo_id)`` has it.

        Args:
            repo_id: ``"org/name"``; a repository that is not there is made.
            commit_message: What the commit is called.
            private: Whether a new repository is for its owners only; ``None`` leaves it to the organisation.
            token: Who writes; by default what ``hf auth login`` stored.
            branch: The branch that is written to; by default the main one.
            create_pr: Whether to open a pull request in place of a commit.

        Returns:
            The address of the commit.

        Raises:
            WeightsError: The hub cannot be reached, or refuses; or the model cannot be written.
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
        """Writes one ONNX graph from samples to probabilities; see :func:`musgenre.models.onnx.export_onnx`.

        Raises:
            ParameterError: The extra ``onnx`` is not installed, or the network has a step that no graph can hold.
            WeightsError: The file cannot be written.
        """
        from musgenre.models.onnx import export_onnx

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
