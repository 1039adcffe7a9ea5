"""Weights of networks that were trained on photographs: read, downloaded, and put where they belong."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from musgenre.core.errors import WeightsError


def imagenet(published: Any, *, backbone: str) -> Mapping[str, Tensor]:
    """Returns the weights that torchvision publishes, from torch.hub's cache or its server.

    Args:
        published: The member of torchvision's enumeration, such as ``VGG16_Weights.IMAGENET1K_V1``.
        backbone: The backbone's name, for the message.

    Raises:
        WeightsError: They cannot be downloaded, have another checksum, or the copy in the cache is damaged.
    """
    try:
        state: Mapping[str, Tensor] = published.get_state_dict(progress=True, check_hash=True)
    except Exception as error:
        # torch.load raises whatever its parsers raise when the copy that was downloaded earlier is damaged.
        raise WeightsError(
            f"The ImageNet weights of {backbone} could not be downloaded from {published.url}, or their copy below "
            f"'{torch.hub.get_dir()}' is damaged ({error}). Remove such a copy; or download the file on another "
            f'machine and name it: backbone=Component("{backbone}", {{"weights": "{Path(published.url).name}"}}); or '
            'start from random weights: {"weights": None}.'
        ) from error
    return state


def kept_imagenet(published: Any) -> Path:
    """Returns where torch.hub keeps weights that torchvision publishes; they need not be there yet.

    Args:
        published: As for :func:`imagenet`.
    """
    return Path(torch.hub.get_dir(), "checkpoints", Path(published.url).name)


def read_state_dict(path: Path, *, named: str = "imagenet") -> Mapping[str, Tensor]:
    """Reads a state dict from ``.safetensors``, or as ``torch.save`` writes it; no code in it is run.

    Args:
        path: The file.
        named: What the backbone takes besides a path, for the message.

    Raises:
        WeightsError: There is no such file, or it holds none.
    """
    if not path.is_file():
        raise WeightsError(
            f"There is no file of weights at '{path}': give {named!r}, the path of a state dict, or None."
        )
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            state: Any = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        # torch.load raises whatever its parsers raise: OSError, RuntimeError, EOFError, UnpicklingError, KeyError.
        raise WeightsError(f"'{path}' cannot be read as a state dict: {error}") from error
    if not isinstance(state, Mapping) or not state or not all(isinstance(value, Tensor) for value in state.values()):
        raise WeightsError(f"'{path}' holds no state dict (names to tensors).")
    return state


def load_fitting(module: nn.Module, state: Mapping[str, Tensor], *, source: str, network: str, hint: str = "") -> None:
    """Loads what a module has from a state dict that may hold more, such as an output layer.

    Args:
        module: The module.
        state: Names to tensors.
        source: Where the state comes from, for the message.
        network: What it should be a state dict of, likewise.
        hint: What else there is to say.

    Raises:
        WeightsError: A tensor is missing or has another shape.
    """
    wanted = module.state_dict()
    # Files from before 2018 do not count batches, and nothing here depends on the count.
    missing = [name for name in wanted if name not in state and not name.endswith("num_batches_tracked")]
    misshapen = [name for name in wanted if name in state and state[name].shape != wanted[name].shape]
    if missing or misshapen:
        raise WeightsError(
            f"{source!r} is no state dict of {network}: missing {missing or 'nothing'}, misshapen "
            f"{misshapen or 'nothing'}{hint}."
        )
    module.load_state_dict({name: state.get(name, tensor) for name, tensor in wanted.items()})
