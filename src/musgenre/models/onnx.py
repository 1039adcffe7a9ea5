"""A trained network as one graph for programs without PyTorch: samples in, probabilities out."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from musgenre.core.errors import ParameterError, WeightsError
from musgenre.core.files import atomic_write
from musgenre.models.network import GenreNetwork

if TYPE_CHECKING:
    from musgenre.core.config import ModelConfig


class Probabilities(nn.Module):
    """A network with the temperature and the softmax behind it.

    Args:
        network: The network.
        temperature: What the logits are divided by.

    Shape:
        ``(batch, samples)`` to ``(batch, classes)``, each row summing to 1.
    """

    def __init__(self, network: GenreNetwork, *, temperature: float) -> None:
        super().__init__()
        self.network = network
        self.temperature = temperature

    def forward(self, samples: Tensor) -> Tensor:
        """Computes the probabilities."""
        logits: Tensor = self.network(samples)
        return (logits / self.temperature).softmax(dim=1)


def export_onnx(path: Path, *, network: GenreNetwork, config: ModelConfig) -> None:
    """Writes one ONNX graph from samples to probabilities, the spectrogram and the temperature in it.

    The input ``samples`` is ``(batch, samples)``: mono windows at the model's rate, in [-1, 1]. The output
    ``probabilities`` is ``(batch, classes)``. The batch can have any size; the windows any length that the network
    can take, where its layers leave that open. Labels, rate and window length are in the file's metadata.

    Args:
        path: The file; one that is there is replaced.
        network: The network, in evaluation mode.
        config: Its configuration.

    Raises:
        ParameterError: What writes the graph (the extra ``onnx``) is not installed, or the network has a step that no
            graph can hold.
        WeightsError: The file cannot be written.
    """
    module = Probabilities(network, temperature=config.temperature).eval()
    example = torch.zeros(2, config.audio.window_samples, device=next(network.parameters()).device)
    model = _graph(module, example, inputs=("samples", ("batch", "samples")), output="probabilities")
    facts = {
        "labels": "\n".join(config.labels),
        "sample_rate": str(config.audio.sample_rate),
        "window_samples": str(config.audio.window_samples),
    }
    for key, value in facts.items():
        model.metadata_props.add(key=key, value=value)
    try:
        with atomic_write(path) as new:
            new.write_bytes(model.SerializeToString())
    except OSError as error:
        raise WeightsError(f"'{path}' cannot be written: {error}") from error


def onnx_classifier(network: GenreNetwork, *, window_samples: int) -> Callable[[Tensor], Tensor]:
    """Returns ``network.classify`` as ONNX Runtime computes it; threads may share it, and each computes on one core.

    The graph is written and read in memory, which takes some seconds.

    Args:
        network: The network, in evaluation mode, on the CPU.
        window_samples: Length of the windows whose feature it will be given.

    Raises:
        ParameterError: ONNX Runtime or what writes its graph is not installed, or the network is not on the CPU or has
            a step that no graph can hold.
    """
    if next(network.parameters()).device.type != "cpu":
        raise ParameterError("runtime='onnx' computes on the CPU: use device='cpu', or runtime='torch'.")
    try:
        import onnxruntime
    except ImportError as error:
        raise ParameterError("runtime='onnx' needs ONNX Runtime: pip install 'musgenre[onnx]'.") from error
    with torch.no_grad():
        picture = network.feature(torch.zeros(2, window_samples))
    module = nn.Sequential(network.backbone, network.head).eval()
    model = _graph(module, picture, inputs=("feature", ("batch",)), output="logits")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return lambda feature: torch.from_numpy(session.run(None, {"feature": feature.numpy()})[0])


def _graph(module: nn.Module, example: Tensor, *, inputs: tuple[str, tuple[str, ...]], output: str) -> Any:
    """Returns an ``onnx.ModelProto`` of a module with one input, of which the named dimensions may vary."""
    name, dimensions = inputs
    shapes = (dict.fromkeys(range(len(dimensions)), torch.export.Dim.AUTO),)
    try:
        # The exporter speaks of its own workings.
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            program = torch.export.export(module, (example,), dynamic_shapes=shapes)
            written = torch.onnx.export(program, (example,), input_names=[name], output_names=[output], verbose=False)
    except ImportError as error:
        raise ParameterError(
            f"An ONNX graph needs packages that are missing ({error}): pip install 'musgenre[onnx]'."
        ) from error
    except Exception as error:
        # The compiler behind it raises whatever its parts raise.
        raise ParameterError(f"The network cannot be written as a graph: {str(error).strip()}") from error
    model: Any = written.model_proto  # type: ignore[union-attr]  # None only where a file is written
    _name_dimensions(model.graph, dimensions)
    return model


def _name_dimensions(graph: Any, dimensions: tuple[str, ...]) -> None:
    """Gives the dimensions that vary the names that people expect, in place of the exporter's."""
    sizes = graph.input[0].type.tensor_type.shape.dim
    names = {size.dim_param: name for size, name in zip(sizes, dimensions, strict=False) if size.dim_param}
    for value in (*graph.input, *graph.output):
        for size in value.type.tensor_type.shape.dim:
            if size.dim_param in names:
                size.dim_param = names[size.dim_param]
    del graph.value_info[:]  # the shapes in between, in the exporter's names; whoever wants them can infer them
