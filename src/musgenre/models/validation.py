"""What is checked of a model's files before they are used, since anybody may have made them.

A model chooses among the registered parts and gives numbers. So what it could do is ask for memory, lead to other
files, or be a pickle; here each is refused, before memory is taken, a link followed or a byte of a pickle read.
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

PICKLES = frozenset({".bin", ".ckpt", ".joblib", ".pickle", ".pkl", ".pt", ".pth"})
"""Suffixes of files that Python runs when it reads them."""

LARGEST_CONFIG = 2**22
"""Bytes of ``config.json``; a real one has a few thousand."""

LARGEST_HEADER = 2**22
"""Bytes of the header of ``model.safetensors``, which is about a hundred a tensor."""

LARGEST_PICTURE = 2**24
"""Values that a feature gives for one window; the default model's have 16,640."""

SPARE_BYTES = 2**29
"""What building a network may take beside its weights: windows of spectra, and layers that are cut off, as VGG-16's."""

BACKBONE_BYTES = 2**31
"""What a backbone may take whose weights are elsewhere."""


def refuse_pickle(path: Path) -> None:
    """Refuses a file that is a pickle by its name.

    Raises:
        WeightsError: It is one.
    """
    if path.suffix.lower() in PICKLES:
        raise WeightsError(
            f"'{path}' is a pickle by its name, which can run any code when it is read: musgenre reads models from a "
            "directory with config.json and model.safetensors only. Ask its maker for that, or save the model again "
            "with save_pretrained."
        )


def required(path: Path, *, what: str, links: bool = False) -> Path:
    """Checks that a file of a model is there, is a file, and lies in the model's directory.

    Args:
        path: The file.
        what: What the directory lacks without it.
        links: Whether it may be a link to anywhere, as in a package whose installer links its files.

    Raises:
        WeightsError: It is not so.
    """
    if not os.path.lexists(path):
        found = sorted(entry.name for entry in path.parent.iterdir() if entry.suffix.lower() in PICKLES)
        pickles = f" {found[0]!r} is a pickle, which can run any code and is not read." if found else ""
        raise WeightsError(f"'{path.parent}' holds no {what}: there is no {path.name} in it.{pickles}")
    # realpath, because Path.resolve() raises a RuntimeError where links lead in a circle.
    target, home = Path(os.path.realpath(path)), Path(os.path.realpath(path.parent))
    allowed = [home]
    if home.parent.name == "snapshots":  # the hub's cache keeps the files of all revisions in one folder beside them
        allowed.append(home.parent.parent / "blobs")
    if not (links or any(target.is_relative_to(folder) for folder in allowed)):
        raise WeightsError(
            f"'{path}' is a link out of the model's directory, to '{target}': put a copy of that file in its place if "
            "you trust the model."
        )
    if not path.is_file():
        raise WeightsError(f"'{path}' cannot be read: it is no file.")
    return path


def read_text(path: Path) -> str:
    """Returns what stands in ``config.json``.

    Raises:
        OSError: It cannot be read.
        ConfigError: It is too large.
        UnicodeDecodeError: It is no text.
    """
    with path.open("rb") as file:
        data = file.read(LARGEST_CONFIG + 1)
    if len(data) > LARGEST_CONFIG:
        raise ConfigError(f"'{path}' has more than {LARGEST_CONFIG:,} bytes; a configuration has a few thousand.")
    return data.decode()


def tensor_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Returns the shapes of the tensors in ``model.safetensors`` from its header alone.

    Raises:
        WeightsError: The header is too long.
        SafetensorError, OSError: It is damaged or cannot be read.
    """
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
    if LARGEST_HEADER < length <= path.stat().st_size:
        raise WeightsError(f"'{path}' has a header of {length:,} bytes; at most {LARGEST_HEADER:,} are read.")
    with safe_open(path, framework="pt") as tensors:
        return {name: tuple(tensors.get_slice(name).get_shape()) for name in tensors.keys()}  # noqa: SIM118


def build(config: ModelConfig, *, shapes: dict[str, tuple[int, ...]], pretrained: bool) -> GenreNetwork:
    """Builds the network of a configuration that anybody may have written.

    Args:
        config: The configuration.
        shapes: Of the tensors that the file of weights holds, which say how much memory the network needs.
        pretrained: As for :meth:`GenreNetwork.from_config <musgenre.models.network.GenreNetwork.from_config>`.

    Raises:
        ConfigError: It cannot be built, or asks for more memory than its weights account for.
        UnknownNameError, PluginError, ParameterError, WeightsError: As ``GenreNetwork.from_config``.
    """
    held = 4 * sum(map(math.prod, shapes.values()))
    try:
        with _Budget(2 * held + SPARE_BYTES + BACKBONE_BYTES * pretrained):
            network = GenreNetwork.from_config(config, pretrained=pretrained)
        picture = network.feature.out_shape(config.audio.window_samples)
        if not 0 < math.prod(picture) <= LARGEST_PICTURE:
            raise ConfigError(
                f"The feature {config.feature.name!r} with {config.feature.options} makes a picture of {picture} of "
                f"each window; from 1 to {LARGEST_PICTURE:,} values are possible."
            )
    except MusgenreError:
        raise
    except Exception as error:
        # Options of the wrong type end in whatever the part makes of them.
        raise ConfigError(
            f"No network can be built of the feature {config.feature} and the backbone {config.backbone}: {error!r}."
        ) from error
    return network


class _Budget(TorchDispatchMode):  # type: ignore[no-untyped-call]  # PyTorch's class has no types
    """Counts the bytes of every tensor that is made from nothing, and refuses before too many are taken."""

    def __init__(self, most: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._most = most
        self._taken = 0

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # PyTorch would load its compiler, which takes half as long as PyTorch itself, to keep it away from this.
        return False

    def __torch_dispatch__(self, *call: Any) -> Any:
        func, _, args, kwargs = (*call, None)[:4]
        kwargs = kwargs or {}
        named = dict(zip((argument.name for argument in func._schema.arguments), args, strict=False)) | kwargs
        # What is told the device has no tensor to take it from.
        makes = any(argument.name == "device" for argument in func._schema.arguments)
        if makes and not any(isinstance(value, torch.Tensor) for value in args):
            shape = _shape(named)
            if shape is None:
                shape = tuple(func(*args, **{**kwargs, "device": torch.device("meta")}).shape)
            # Integers that are not told their type take twice as much as is counted: the bound is not that narrow.
            self._take(shape, dtype=named.get("dtype") or torch.get_default_dtype())
        return func(*args, **kwargs)

    def _take(self, shape: tuple[int, ...], *, dtype: torch.dtype) -> None:
        self._taken += math.prod(shape) * dtype.itemsize
        if self._taken > self._most:
            raise ConfigError(
                f"The configuration asks for tensors of more than {self._most:,} bytes, far beyond its weights: the "
                f"one of shape {shape} is not made. It is damaged, or made to fill the memory."
            )


def _shape(named: dict[str, Any]) -> tuple[int, ...] | None:
    """Returns the shape that an operation's arguments ask for, where it can be told from their names.

    PyTorch could always tell, but loads its compiler for some, which takes half as long as PyTorch itself.
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
