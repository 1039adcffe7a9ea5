"""Validates untrusted model files before they are used.

A model selects registered features and backbones and supplies tensors. It could still request too much memory, link
to files outside its directory, or contain a pickle. Each is refused before memory is allocated, a link is followed or
a pickle is read.
"""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch.utils._python_dispatch import TorchDispatchMode

from musgenre.core.config import ModelConfig
from musgenre.core.errors import ConfigError, MusgenreError, WeightsError
from musgenre.models.network import GenreNetwork

PICKLE_SUFFIXES = frozenset({".bin", ".ckpt", ".joblib", ".pickle", ".pkl", ".pt", ".pth"})
"""Suffixes of files that can run code when Python loads them."""

MAX_CONFIG_BYTES = 2**22
"""Maximum size of ``config.json``; a real one has a few thousand bytes."""

MAX_HEADER_BYTES = 2**22
"""Maximum size of the header of ``model.safetensors``, which takes about a hundred bytes per tensor."""

MAX_FEATURE_VALUES = 2**24
"""Maximum number of feature values per window; the default model has 6,272."""

SPARE_BYTES = 2**29
"""Memory that building may take beside the weights: FFT windows, and output layers that are removed, as VGG-16's."""

BACKBONE_BYTES = 2**31
"""Memory for a backbone whose weights are not in the model's file."""


def refuse_pickle(path: Path) -> None:
    """Refuses a path with the suffix of a pickle.

    Raises:
        WeightsError: The suffix is one of :data:`PICKLE_SUFFIXES`.
    """
    if path.suffix.lower() in PICKLE_SUFFIXES:
        raise WeightsError(
            f"'{path}' is a pickle by its suffix, which can run any code when it is loaded: musgenre loads models from "
            "a directory with config.json and model.safetensors only. Ask the author for that format, or save the "
            "model again with save_pretrained."
        )


def require_file(path: Path, *, content: str, allow_links: bool = False) -> Path:
    """Returns the path of a model's file, if it is a regular file inside the model's directory.

    Args:
        path: The file.
        content: What the file contains, for the message.
        allow_links: Whether it may link to any other directory, as in a package whose installer links its files.

    Raises:
        WeightsError: The file is missing, is not a regular file, or links out of the directory.
    """
    if not os.path.lexists(path):
        found = sorted(entry.name for entry in path.parent.iterdir() if entry.suffix.lower() in PICKLE_SUFFIXES)
        pickles = f" {found[0]!r} is a pickle, which can run any code and is not loaded." if found else ""
        raise WeightsError(f"'{path.parent}' contains no {content}: {path.name} is missing.{pickles}")
    # realpath, because Path.resolve() raises a RuntimeError if links form a cycle.
    target, home = Path(os.path.realpath(path)), Path(os.path.realpath(path.parent))
    allowed = [home]
    if home.parent.name == "snapshots":  # the Hub's cache stores the files of all revisions in a sibling directory
        allowed.append(home.parent.parent / "blobs")
    if not (allow_links or any(target.is_relative_to(directory) for directory in allowed)):
        raise WeightsError(
            f"'{path}' links out of the model's directory, to '{target}': replace the link by a copy of that file if "
            "you trust the model."
        )
    if not path.is_file():
        raise WeightsError(f"'{path}' cannot be read: it is not a regular file.")
    return path


def read_config_text(path: Path) -> str:
    """Returns the text of ``config.json``.

    Raises:
        OSError: The file cannot be read.
        ConfigError: The file is too large.
        UnicodeDecodeError: The file is not UTF-8 text.
    """
    with path.open("rb") as file:
        data = file.read(MAX_CONFIG_BYTES + 1)
    if len(data) > MAX_CONFIG_BYTES:
        raise ConfigError(f"'{path}' has more than {MAX_CONFIG_BYTES:,} bytes; a configuration has a few thousand.")
    return data.decode()


def tensor_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Returns the shapes of the tensors in ``model.safetensors``, reading only its header.

    Raises:
        WeightsError: The header is too long.
        SafetensorError, OSError: The file is damaged or cannot be read.
    """
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
    if MAX_HEADER_BYTES < length <= path.stat().st_size:
        raise WeightsError(f"'{path}' has a header of {length:,} bytes; the maximum is {MAX_HEADER_BYTES:,}.")
    with safe_open(path, framework="pt") as tensors:
        return {name: tuple(tensors.get_slice(name).get_shape()) for name in tensors.keys()}  # noqa: SIM118


def build_network(config: ModelConfig, *, shapes: dict[str, tuple[int, ...]], pretrained: bool) -> GenreNetwork:
    """Builds the network of an untrusted configuration.

    Args:
        config: The configuration.
        shapes: Shapes of the tensors in the weights file, which bound the memory that the network needs.
        pretrained: See :meth:`GenreNetwork.from_config <musgenre.models.network.GenreNetwork.from_config>`.

    Raises:
        ConfigError: The network cannot be built, or needs more memory than its weights account for.
        UnknownNameError, PluginError, ParameterError, WeightsError: As ``GenreNetwork.from_config``.
    """
    weights_bytes = 4 * sum(map(math.prod, shapes.values()))
    try:
        with _MemoryBudget(2 * weights_bytes + SPARE_BYTES + BACKBONE_BYTES * pretrained):
            network = GenreNetwork.from_config(config, pretrained=pretrained)
        shape = network.feature.out_shape(config.audio.window_samples)
        if not 0 < math.prod(shape) <= MAX_FEATURE_VALUES:
            raise ConfigError(
                f"The feature {config.feature.name!r} with {config.feature.options} has the shape {shape} for each "
                f"window; it must have 1 to {MAX_FEATURE_VALUES:,} values."
            )
    except MusgenreError:
        raise
    except Exception as error:
        # Options of the wrong type raise errors of any type.
        raise ConfigError(
            f"No network can be built from the feature {config.feature} and the backbone {config.backbone}: {error!r}."
        ) from error
    return network


class _MemoryBudget(TorchDispatchMode):  # type: ignore[no-untyped-call]  # PyTorch's class has no annotations
    """Counts the bytes of every new tensor, and raises before an allocation would exceed the budget.

    ``torch.device("meta")`` is no replacement. Features that read values while they are built fail on it, it loads
    PyTorch's compiler, which takes longer than building, and it does not bound what is then built on the CPU.
    """

    def __init__(self, max_bytes: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._max_bytes = max_bytes
        self._used_bytes = 0

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # Private API: the default loads PyTorch's compiler, which takes half as long as loading PyTorch. A test fails
        # if the method has no effect.
        return False

    def __torch_dispatch__(self, *call: Any) -> Any:
        func, _, args, kwargs = (*call, None)[:4]
        kwargs = kwargs or {}
        names = [argument.name for argument in func._schema.arguments]
        # Functions with a device parameter and no input tensor create a tensor.
        if "device" in names and not any(isinstance(value, torch.Tensor) for value in args):
            named = dict(zip(names, args, strict=False)) | kwargs
            shape = _requested_shape(named)
            if shape is None:
                shape = tuple(func(*args, **{**kwargs, "device": torch.device("meta")}).shape)
            # Integer tensors without an explicit type need twice as much; the budget is not that precise.
            self._allocate(shape, dtype=named.get("dtype") or torch.get_default_dtype())
        return func(*args, **kwargs)

    def _allocate(self, shape: tuple[int, ...], *, dtype: torch.dtype) -> None:
        self._used_bytes += math.prod(shape) * dtype.itemsize
        if self._used_bytes > self._max_bytes:
            raise ConfigError(
                f"The configuration requests tensors of more than {self._max_bytes:,} bytes, far beyond its weights: "
                f"the tensor of shape {shape} is not allocated. The model is damaged or malicious."
            )


def _requested_shape(named: dict[str, Any]) -> tuple[int, ...] | None:
    """Returns the shape that the arguments of an operation request, or ``None`` if their names do not define it.

    The meta device always returns the shape, but loads PyTorch's compiler for some operations.
    """
    if "size" in named:
        return tuple(named["size"])
    for name in ("window_length", "steps"):
        if name in named:
            return (int(named[name]),)
    if "end" in named:
        step = named.get("step", 1) or 1
        return (max(0, math.ceil((named["end"] - named.get("start", 0)) / step)),)
    return None
