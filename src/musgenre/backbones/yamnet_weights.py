"""YAMNet's weights: fetched, and read from the files that others write, Keras's and TFLite's."""

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
"""Where the network's makers publish it. They publish no checksum; what the file holds is checked when it is read."""

CACHED = ("yamnet", "yamnet.h5")
"""Its place in the user's cache."""

_NORM = ("beta", "moving_mean", "moving_variance")
_EPSILON = 1e-4

Layer = nn.Conv2d | nn.Linear


def fill(layers: Mapping[str, Layer], weights: str) -> None:
    """Loads weights into layers that are given under their names in Keras.

    Args:
        layers: Name to layer.
        weights: ``"audioset"`` for the official file, which is downloaded if it is not in the user's cache, or a path.

    Raises:
        WeightsError: They cannot be downloaded or read, or do not fit.
    """
    path = _fetch() if weights == "audioset" else Path(weights)
    wanted = {name: shape for layer, module in layers.items() for name, shape in _tensors_of(layer, module)}
    found = _read(path, names=wanted)
    missing = [name for name in wanted if name not in found]
    misshapen = [name for name in wanted if name in found and found[name].shape != wanted[name]]
    if missing or misshapen:
        raise WeightsError(
            f"'{path}' does not hold YAMNet's weights: missing {_few(missing)}; misshapen {_few(misshapen)}. The "
            f"official file is published at {OFFICIAL_WEIGHTS}."
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
        return downloads.fetch(OFFICIAL_WEIGHTS, *CACHED, sha256=None)
    except WeightsError as error:
        raise WeightsError(
            f"YAMNet's weights are not here. {error} Or name the file, wherever it is: "
            'Component("yamnet", {"weights": "path/to/yamnet.h5"}) for a backbone, '
            'backbone_weights="path/to/yamnet.h5" for GenreClassifier.from_pretrained.'
        ) from error


def _tensors_of(layer: str, module: Layer) -> list[tuple[str, torch.Size]]:
    """Names in Keras, and shapes in torch, of what a layer is made from."""
    parts = ["bias"] if isinstance(module, nn.Linear) else [f"bn/{part}" for part in _NORM]
    weight = module.weight.shape
    return [(f"{layer}/kernel", weight), *((f"{layer}/{part}", weight[:1]) for part in parts)]


def _few(names: list[str]) -> str:
    more = f" and {len(names) - 4} more" if len(names) > 4 else ""
    return (", ".join(names[:4]) or "nothing") + more


def _read(path: Path, *, names: Iterable[str]) -> dict[str, Tensor]:
    try:
        with path.open("rb") as file:
            start = file.read(8)
    except OSError as error:
        raise WeightsError(
            f"YAMNet's weights cannot be read from '{path}' ({error.strerror}): give 'audioset' for the official file, "
            f"{OFFICIAL_WEIGHTS}, the path of that or of a TFLite version of it, or None for random weights."
        ) from error
    keras, tflite = start == b"\x89HDF\r\n\x1a\n", start[4:] == b"TFL3"
    if not keras and not tflite:
        raise WeightsError(
            f"'{path}' is neither a Keras file (HDF5) nor a TFLite file: the official one is at {OFFICIAL_WEIGHTS}."
        )
    try:
        return _read_keras(path, names=names) if keras else _read_tflite(path)
    except ImportError as error:
        raise WeightsError(f"Reading '{path}' needs {error.name}: pip install 'musgenre[yamnet]'.") from error
    except Exception as error:
        # On a damaged file the parsers raise what they like: OSError, struct.error, IndexError, KeyError, ValueError.
        raise WeightsError(
            f"'{path}' is damaged, or no file of YAMNet's weights: {error!r}. Replace it, or remove it so that "
            "it is downloaded again."
        ) from error


def _read_keras(path: Path, *, names: Iterable[str]) -> dict[str, Tensor]:
    import h5py

    found = {}
    with h5py.File(path) as file:
        for name in names:
            layer, part = name.rsplit("/", 1)
            depthwise = part == "kernel" and layer.endswith("depthwise_conv")
            # Keras keeps a variable, whose name starts with its layer's, in a group of the layer's name.
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
        # A tensor bears the names of all operations that were merged in it, its own first; only constants have data.
        layer = re.search(r"(?:^|/)(layer\d+/(?:\w+_)?conv|dense|logits)/", tensor.Name().decode().split(";")[0])
        data = model.Buffers(tensor.Buffer()).DataAsNumpy()
        if layer is None or not isinstance(data, np.ndarray):
            continue
        axes = (3, 0, 1, 2) if "depthwise" in layer[1] else (0, 3, 1, 2)
        values = _to_torch(_dequantised(tensor, data), kernel_axes=axes)
        if layer[1] in ("dense", "logits"):
            found["logits/kernel" if values.ndim > 1 else "logits/bias"] = values
        elif values.ndim > 1:
            found[f"{layer[1]}/kernel"] = values
        else:
            # The normalisation is folded into the kernel but for this bias; what remains changes nothing.
            norm = (values, torch.zeros_like(values), torch.full_like(values, 1 - _EPSILON))
            found |= {f"{layer[1]}/bn/{part}": value for part, value in zip(_NORM, norm, strict=True)}
    return found


def _dequantised(tensor: Any, data: npt.NDArray[np.uint8]) -> npt.NDArray[Any]:
    from tflite import TensorType as Kind

    kinds = {Kind.FLOAT32: "<f4", Kind.FLOAT16: "<f2", Kind.INT32: "<i4", Kind.UINT8: "u1", Kind.INT8: "i1"}
    values = data.view(kinds[tensor.Type()]).reshape(tensor.ShapeAsNumpy())
    steps = tensor.Quantization()
    if steps is None or steps.ScaleLength() == 0:
        return values
    # One step for the whole tensor, or one for each of its channels.
    along = [-1 if axis == steps.QuantizedDimension() else 1 for axis in range(values.ndim)]
    scale, zero = (of.astype(np.float64).reshape(along) for of in (steps.ScaleAsNumpy(), steps.ZeroPointAsNumpy()))
    return np.asarray((values - zero) * scale)


def _to_torch(values: npt.NDArray[Any], *, kernel_axes: tuple[int, ...]) -> Tensor:
    if values.ndim == len(kernel_axes):
        values = values.transpose(kernel_axes)
    return torch.from_numpy(values.astype(np.float64))
