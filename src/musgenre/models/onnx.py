"""ONNX export: one graph from samples to probabilities, for programs without PyTorch."""

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
    """A network followed by the temperature and the softmax.

    Args:
        network: The network.
        temperature: The divisor of the logits.

    Shape:
        - Input: ``(batch, samples)``
        - Output: ``(batch, classes)``, each row summing to 1
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
    """Exports a model as one ONNX graph, including its feature and temperature.

    The input ``samples`` is ``(batch, samples)``: mono windows at the model's rate, in [-1, 1]. The output
    ``probabilities`` is ``(batch, classes)``. The batch size is dynamic, and so is the window length, if the network's
    layers allow it. The file's metadata contains labels, rate and window length.

    Args:
        path: The file; an existing one is replaced.
        network: The network, in evaluation mode.
        config: Its configuration.

    Raises:
        ParameterError: The extra ``onnx`` is not installed, or the network has an operation that cannot be exported.
        WeightsError: The file cannot be written.
    """
    module = Probabilities(network, temperature=config.temperature).eval()
    example = torch.zeros(2, config.audio.window_samples, device=next(network.parameters()).device)
    model = _export(
        module, example, input_name="samples", output_name="probabilities", dynamic_dims=("batch", "samples")
    )
    metadata = {
        "labels": "\n".join(config.labels),
        "sample_rate": str(config.audio.sample_rate),
        "window_samples": str(config.audio.window_samples),
    }
    for key, value in metadata.items():
        model.metadata_props.add(key=key, value=value)
    try:
        with atomic_write(path) as partial:
            partial.write_bytes(model.SerializeToString())
    except OSError as error:
        raise WeightsError(f"'{path}' cannot be written: {error}") from error


def onnx_classifier(network: GenreNetwork, *, window_samples: int) -> Callable[[Tensor], Tensor]:
    """Returns ``network.classify`` computed by ONNX Runtime; thread-safe, each call runs on one core.

    The graph is exported and loaded in memory, which takes a few seconds.

    Args:
        network: The network, in evaluation mode, on the CPU.
        window_samples: Length of the windows whose features it classifies.

    Raises:
        ParameterError: The extra ``onnx`` is not installed, the network is not on the CPU, or it has an operation that
            cannot be exported.
    """
    if next(network.parameters()).device.type != "cpu":
        raise ParameterError("runtime='onnx' runs on the CPU: use device='cpu', or runtime='torch'.")
    try:
        import onnxruntime
    except ImportError as error:
        raise ParameterError("runtime='onnx' needs ONNX Runtime: pip install 'musgenre[onnx]'.") from error
    with torch.no_grad():
        feature = network.feature(torch.zeros(2, window_samples))
    module = nn.Sequential(network.backbone, network.head).eval()
    model = _export(module, feature, input_name="feature", output_name="logits", dynamic_dims=("batch",))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return lambda feature: torch.from_numpy(session.run(None, {"feature": feature.numpy()})[0])


def _export(
    module: nn.Module, example: Tensor, *, input_name: str, output_name: str, dynamic_dims: tuple[str, ...]
) -> Any:
    """Returns an ``onnx.ModelProto`` of a module with one input, whose first dimensions are dynamic."""
    shapes = (dict.fromkeys(range(len(dynamic_dims)), torch.export.Dim.AUTO),)
    try:
        # The exporter warns about its own internals.
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            program = torch.export.export(module, (example,), dynamic_shapes=shapes)
            exported = torch.onnx.export(
                program, (example,), input_names=[input_name], output_names=[output_name], verbose=False
            )
    except ImportError as error:
        raise ParameterError(f"ONNX export needs missing packages ({error}): pip install 'musgenre[onnx]'.") from error
    except Exception as error:
        # The exporter's compiler raises errors of any type.
        raise ParameterError(f"The network cannot be exported to ONNX: {str(error).strip()}") from error
    model: Any = exported.model_proto  # type: ignore[union-attr]  # None only when writing to a file
    _name_dimensions(model.graph, dynamic_dims)
    return model


def _name_dimensions(graph: Any, names: tuple[str, ...]) -> None:
    """Renames the dynamic dimensions, which the exporter numbers."""
    dimensions = graph.input[0].type.tensor_type.shape.dim
    renamed = {size.dim_param: name for size, name in zip(dimensions, names, strict=False) if size.dim_param}
    for value in (*graph.input, *graph.output):
        for size in value.type.tensor_type.shape.dim:
            if size.dim_param in renamed:
                size.dim_param = renamed[size.dim_param]
    del graph.value_info[:]  # intermediate shapes with the exporter's names; shape inference restores them
