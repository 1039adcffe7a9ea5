"""YAMNet: a small network that knows AudioSet's 521 kinds of sound, music among them.

It is MobileNet v1 (Howard et al., "MobileNets: Efficient Convolutional Neural Networks for Mobile Vision
Applications", 2017, arXiv:1704.04861) on patches of a spectrogram, as TensorFlow's model garden has it in
``research/audioset/yamnet`` (Plakal and Ellis; code and weights under the Apache License 2.0).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from musgenre.backbones.base import Backbone, InputSpec
from musgenre.errors import ConfigError, WeightsError
from musgenre.functional import frame

PATCH_FRAMES = 96
PATCH_HOP_FRAMES = 48
N_MELS = 64
OFFICIAL_WEIGHTS = "https://storage.googleapis.com/audioset/yamnet.h5"

_CLASSES = 521
_STEM_CHANNELS = 32
# Channels, stride of the first block, and number of blocks of each group.
_GROUPS = ((64, 1, 1), (128, 2, 2), (256, 2, 2), (512, 2, 6), (1024, 2, 2))
_NAMES = (
    "layer1/conv",
    *(f"layer{number}/{kind}_conv" for number in range(2, 15) for kind in ("depthwise", "pointwise")),
)
_NORM = ("beta", "moving_mean", "moving_variance")
_EPSILON = 1e-4

Layer = nn.Conv2d | nn.Linear


class YAMNet(Backbone):
    """YAMNet up to its embedding: 14 layers, 3.2 M parameters.

    A window is cut into patches of 96 frames (0.96 s) every 48; what is left at its end is not heard. Each patch
    becomes an embedding, and the window's vector is their mean.

    The batch normalisation that follows each convolution is folded into it, as the published statistics have it. So
    the network is the same in training as in evaluation, and small batches do it no harm; it is made for being
    fine-tuned from its weights, not for being trained from random ones.

    Args:
        in_channels: Must be 1.
        weights: Path of the official ``yamnet.h5`` or of a TFLite version of YAMNet (quantised or not), read with
            the extra ``musgenre[yamnet]``; or ``None`` for random weights. Neither file comes with musgenre.

    Shape:
        - Input: ``(batch, 1, 64, frames)`` of the feature ``yamnet-logmel``, at least 96 frames
        - Output: ``(batch, 1024)``

    Raises:
        ConfigError: ``in_channels`` is not 1; later, the feature has another shape.
        WeightsError: The weights cannot be read, or do not fit.

    Example:
        >>> YAMNet(weights=None)(torch.zeros(2, 1, 64, 298)).shape
        torch.Size([2, 1024])
    """

    default_feature: ClassVar[str] = "yamnet-logmel"

    def __init__(self, *, in_channels: int = 1, weights: str | None = "yamnet.h5") -> None:
        super().__init__()
        if in_channels != 1:
            raise ConfigError(f"yamnet expects 1 channel, got {in_channels}: use the feature 'yamnet-logmel'.")
        self.expects = InputSpec(channels=1, min_size=(N_MELS, PATCH_FRAMES))
        self.stem = nn.Sequential(*_convolution(1, _STEM_CHANNELS, stride=2))
        self.groups = nn.ModuleList()
        channels = _STEM_CHANNELS
        for width, stride, count in _GROUPS:
            blocks = [_separable(channels, width, stride=stride)]
            blocks += [_separable(width, width, stride=1) for _ in range(count - 1)]
            self.groups.append(nn.Sequential(*blocks))
            channels = width
        self.out_features = channels
        self.pretrained = weights is not None
        layers = dict(zip(_NAMES, (layer for layer in self.modules() if isinstance(layer, nn.Conv2d)), strict=True))
        if weights is not None:
            _fill(layers, Path(weights))
        else:
            for layer in layers.values():
                _draw(layer)

    def stages(self) -> list[nn.Module]:
        """Returns the first convolution, then the 13 blocks in five groups of equal width."""
        return [self.stem, *self.groups]

    def forward(self, feature: Tensor) -> Tensor:
        """Maps ``(batch, 1, 64, frames)`` to the mean embedding of the patches, ``(batch, 1024)``."""
        return self.embed_patches(feature).mean(dim=1)

    def embed_patches(self, feature: Tensor) -> Tensor:
        """Maps ``(batch, 1, 64, frames)`` to one embedding a patch, ``(batch, patches, 1024)``.

        Raises:
            ConfigError: The feature has another shape, or fewer than 96 frames.
        """
        if feature.shape[1:3] != (1, N_MELS) or feature.shape[3] < PATCH_FRAMES:
            raise ConfigError(
                f"yamnet expects a feature of (batch, 1, {N_MELS}, at least {PATCH_FRAMES}), not "
                f"{tuple(feature.shape)}: use the feature 'yamnet-logmel' with windows of at least 0.975 s."
            )
        patches = frame(feature[:, 0], frame_length=PATCH_FRAMES, hop_length=PATCH_HOP_FRAMES)
        # (batch, bins, patches, frames) to pictures as TensorFlow has them: time downwards.
        pictures = patches.permute(0, 2, 3, 1).reshape(-1, 1, PATCH_FRAMES, N_MELS)
        for stage in self.stages():
            pictures = stage(pictures)
        return pictures.mean(dim=(-2, -1)).reshape(-1, patches.shape[2], self.out_features)


class AudioSetScores(nn.Module):
    """YAMNet's own output layer: from an embedding to the scores of AudioSet's 521 classes.

    The classes are independent of each other, and their order is that of ``yamnet_class_map.csv``, which is
    published beside the network. The scores of a window are the mean over its patches:
    ``AudioSetScores(weights=path)(yamnet.embed_patches(feature)).mean(dim=1)``.

    Args:
        weights: As :class:`YAMNet` has it.

    Shape:
        - Input: ``(..., 1024)``
        - Output: ``(..., 521)``, in [0, 1]

    Raises:
        WeightsError: The weights cannot be read, or do not fit.
    """

    def __init__(self, *, weights: str | None = "yamnet.h5") -> None:
        super().__init__()
        self.dense = nn.Linear(_GROUPS[-1][0], _CLASSES)
        if weights is not None:
            _fill({"logits": self.dense}, Path(weights))

    def forward(self, embedding: Tensor) -> Tensor:
        """Maps embeddings to scores."""
        return torch.sigmoid(self.dense(embedding))


def _convolution(in_channels: int, channels: int, *, stride: int, groups: int = 1) -> list[nn.Module]:
    # TensorFlow's "SAME": in all 2 zeros are needed at stride 1, and 1 zero, at the end, at stride 2 of an even size;
    # with patches of 96 x 64 every size is even.
    before = 1 if stride == 1 else 0
    return [
        nn.ZeroPad2d((before, 1, before, 1)),
        nn.Conv2d(in_channels, channels, kernel_size=3, stride=stride, groups=groups),
        nn.ReLU(inplace=True),
    ]


def _separable(in_channels: int, channels: int, *, stride: int) -> nn.Sequential:
    return nn.Sequential(
        *_convolution(in_channels, in_channels, stride=stride, groups=in_channels),
        nn.Conv2d(in_channels, channels, kernel_size=1),
        nn.ReLU(inplace=True),
    )


def _draw(layer: nn.Conv2d) -> None:
    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


def _fill(layers: Mapping[str, Layer], path: Path) -> None:
    """Loads a file's weights into layers that are given under their names in Keras."""
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
            f"YAMNet's weights cannot be read from '{path}' ({error.strerror}), and musgenre does not download them: "
            f"get the official file from {OFFICIAL_WEIGHTS} (Apache License 2.0), or a TFLite version of it, and "
            'name it: backbone=Component("yamnet", {"weights": "path/to/yamnet.h5"}); or start from random weights: '
            '{"weights": None}.'
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
        raise WeightsError(f"'{path}' is damaged, or no file of YAMNet's weights: {error!r}.") from error


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
