"""Weights of YAMNet: download the official file, and read Keras (HDF5) and TFLite files."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from musgenre.core import download as downloads
from musgenre.core.errors import WeightsError

OFFICIAL_WEIGHTS = "https://storage.googleapis.com/audioset/yamnet.h5"
"""URL of the authors' file. They publish no checksum; the content is validated when the file is read."""

CACHE_PATH = ("yamnet", "yamnet.h5")
"""Path of the official file in the user's cache."""

_NORM = ("beta", "moving_mean", "moving_variance")
_EPSILON = 1e-4

Layer = nn.Conv2d | nn.Linear


def load_weights(layers: Mapping[str, Layer], weights: str) -> None:
    """Loads weights into layers, which are given by their names in Keras.

    Args:
        layers: Name to layer.
        weights: ``"audioset"`` for the official file, which is downloaded if it is not in the user's cache, or a path.

    Raises:
        WeightsError: The weights cannot be downloaded or read, or do not match the layers.
    """
    path = _fetch() if weights == "audioset" else Path(weights)
    expected = {name: shape for layer, module in layers.items() for name, shape in _expected_tensors(layer, module)}
    found = _read(path, names=expected)
    missing = [name for name in expected if name not in found]
    misshapen = [name for name in expected if name in found and found[name].shape != expected[name]]
    if missing or misshapen:
        raise WeightsError(
            f"'{path}' does not hold YAMNet's weights: missing {_abbreviate(missing)}; wrong shape "
            f"{_abbreviate(misshapen)}. The official file is published at {OFFICIAL_WEIGHTS}."
        )
    for layer, module in layers.items():
        weight = found[f"{layer}/kernel"]
        if isinstance(module, nn.Linear):
            bias = found[f"{layer}/bias"]
        else:
            beta, mean, variance = (found[f"{layer}/bn/{part}"] for part in _NORM)
            scale = (variance + _EPSILON).rsqrt()
            weight, bias = weight * scale[:, None, None, None], beta - mean * scale
        module.load_state_dict({"weight": weight, "bias": bias})


def _fetch() -> Path:
    try:
        return downloads.fetch(OFFICIAL_WEIGHTS, *CACHE_PATH, sha256=None)
    except WeightsError as error:
        raise WeightsError(
            f"YAMNet's weights are not in the cache. {error} Or give the path of the file: "
            'Component("yamnet", {"weights": "path/to/yamnet.h5"}) for a backbone, '
            'backbone_weights="path/to/yamnet.h5" for GenreClassifier.from_pretrained.'
        ) from error


def _expected_tensors(layer: str, module: Layer) -> list[tuple[str, torch.Size]]:
    """Returns the names in Keras and the shapes in PyTorch of the tensors of a layer and its normalisation."""
    parts = ["bias"] if isinstance(module, nn.Linear) else [f"bn/{part}" for part in _NORM]
    weight = module.weight.shape
    return [(f"{layer}/kernel", weight), *((f"{layer}/{part}", weight[:1]) for part in parts)]


def _abbreviate(names: list[str]) -> str:
    more = f" and {len(names) - 4} more" if len(names) > 4 else ""
    return (", ".join(names[:4]) or "nothing") + more


def _read(path: Path, *, names: Iterable[str]) -> dict[str, Tensor]:
    try:
        with path.open("rb") as file:
            start = file.read(8)
    except OSError as error:
        raise WeightsError(
            f"YAMNet's weights cannot be read from '{path}' ({error.strerror}): give 'audioset' for the official file, "
            f"{OFFICIAL_WEIGHTS}, the path of that file or of a TFLite version, or None for random weights."
        ) from error
    keras, tflite = start == b"\x89HDF\r\n\x1a\n", start[4:] == b"TFL3"
    if not keras and not tflite:
        raise WeightsError(
            f"'{path}' is neither a Keras file (HDF5) nor a TFLite file; the official file is {OFFICIAL_WEIGHTS}."
        )
    try:
        return _read_keras(path, names=names) if keras else _read_tflite(path)
    except ImportError as error:
        raise WeightsError(f"Reading '{path}' requires {error.name}: pip install 'musgenre[yamnet]'.") from error
    except Exception as error:
        # The parsers raise OSError, struct.error, IndexError, KeyError, ValueError and others on a damaged file.
        raise WeightsError(
            f"'{path}' is damaged, or does not hold YAMNet's weights: {error!r}. Replace it, or remove it so that "
            "it is downloaded again."
        ) from error


def _read_keras(path: Path, *, names: Iterable[str]) -> dict[str, Tensor]:
    import h5py

    found = {}
    with h5py.File(path) as file:
        for name in names:
            layer, part = name.rsplit("/", 1)
            depthwise = part == "kernel" and layer.endswith("depthwise_conv")
            # In Keras's layout, the group of a layer holds variables whose names start with the layer's name again.
            tensor = file.get(f"{layer}/{layer}/{'depthwise_' if depthwise else ''}{part}:0")
            if isinstance(tensor, h5py.Dataset):
                found[name] = _to_torch(tensor[()], kernel_axes=(2, 3, 0, 1) if depthwise else (3, 2, 0, 1))
    return {name: tensor.T if name == "logits/kernel" else tensor for name, tensor in found.items()}


def _read_tflite(path: Path) -> dict[str, Tensor]:
    import tflite

    model = tflite.Model.GetRootAsModel(path.read_bytes(), 0)
    graph = model.Subgraphs(0)
    found = {}
    for tensor in (graph.Tensors(index) for index in range(graph.TensorsLength())):
        # A tensor is named after all operations that were merged into it, its own first; only constants have data.
        layer = re.search(r"(?:^|/)(layer\d+/(?:\w+_)?conv|dense|logits)/", tensor.Name().decode().split(";")[0])
        data = model.Buffers(tensor.Buffer()).DataAsNumpy()
        if layer is None or not isinstance(data, np.ndarray):
            continue
        axes = (3, 0, 1, 2) if "depthwise" in layer[1] else (0, 3, 1, 2)
        values = _to_torch(_dequantise(tensor, data), kernel_axes=axes)
        if layer[1] in ("dense", "logits"):
            found["logits/kernel" if values.ndim > 1 else "logits/bias"] = values
        elif values.ndim > 1:
            found[f"{layer[1]}/kernel"] = values
        else:
            # The normalisation is already folded into the kernel, except for this bias; the other terms are neutral.
            norm = (values, torch.zeros_like(values), torch.full_like(values, 1 - _EPSILON))
            found |= {f"{layer[1]}/bn/{part}": value for part, value in zip(_NORM, norm, strict=True)}
    return found


def _dequantise(tensor: Any, data: npt.NDArray[np.uint8]) -> npt.NDArray[Any]:
    from tflite import TensorType as Kind

    kinds = {Kind.FLOAT32: "<f4", Kind.FLOAT16: "<f2", Kind.INT32: "<i4", Kind.UINT8: "u1", Kind.INT8: "i1"}
    values = data.view(kinds[tensor.Type()]).reshape(tensor.ShapeAsNumpy())
    quantisation = tensor.Quantization()
    if quantisation is None or quantisation.ScaleLength() == 0:
        return values
    # One scale and zero point for the tensor, or one for each of its channels.
    shape = [-1 if axis == quantisation.QuantizedDimension() else 1 for axis in range(values.ndim)]
    scale = quantisation.ScaleAsNumpy().astype(np.float64).reshape(shape)
    zero = quantisation.ZeroPointAsNumpy().astype(np.float64).reshape(shape)
    return np.asarray((values - zero) * scale)


def _to_torch(values: npt.NDArray[Any], *, kernel_axes: tuple[int, ...]) -> Tensor:
    if values.ndim == len(kernel_axes):
        values = values.transpose(kernel_axes)
    return torch.from_numpy(values.astype(np.float64))
