"""State dicts of pretrained networks: download, read and load them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from musgenre.core.errors import WeightsError


def imagenet(published: Any, *, backbone: str) -> Mapping[str, Tensor]:
    """Returns weights published by torchvision, from torch.hub's cache or downloaded.

    Args:
        published: The member of torchvision's enumeration, such as ``VGG16_Weights.IMAGENET1K_V1``.
        backbone: Name of the backbone, for the error message.

    Raises:
        WeightsError: The download fails, its checksum is wrong, or the cached file is damaged.
    """
    try:
        state: Mapping[str, Tensor] = published.get_state_dict(progress=True, check_hash=True)
    except Exception as error:
        # torch.load raises errors of many types if the cached file is damaged.
        raise WeightsError(
            f"The ImageNet weights of {backbone} could not be downloaded from {published.url}, or the cached file in "
            f"'{torch.hub.get_dir()}' is damaged ({error}). Remove a damaged file; or download the file on another "
            f'machine and give its path, Component("{backbone}", {{"weights": "{Path(published.url).name}"}}); '
            'or start from random weights, {"weights": None}.'
        ) from error
    return state


def imagenet_path(published: Any) -> Path:
    """Returns the path of weights published by torchvision in torch.hub's cache, downloaded or not.

    Args:
        published: See :func:`imagenet`.
    """
    return Path(torch.hub.get_dir(), "checkpoints", Path(published.url).name)


def read_state_dict(path: Path, *, named: str = "imagenet") -> Mapping[str, Tensor]:
    """Reads a state dict from a ``.safetensors`` file or a file written by ``torch.save``, without running code in it.

    Args:
        path: The file.
        named: Name of the published weights, which the error message offers as an alternative to a path.

    Raises:
        WeightsError: The file does not exist, or is not a state dict.
    """
    if not path.is_file():
        raise WeightsError(f"There is no weights file '{path}': give {named!r}, the path of a state dict, or None.")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            state: Any = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        # torch.load raises OSError, RuntimeError, EOFError, UnpicklingError, KeyError and others.
        raise WeightsError(f"'{path}' cannot be read as a state dict: {error}") from error
    if not isinstance(state, Mapping) or not state or not all(isinstance(value, Tensor) for value in state.values()):
        raise WeightsError(f"'{path}' does not hold a state dict (a mapping of names to tensors).")
    return state


def load_matching(module: nn.Module, state: Mapping[str, Tensor], *, source: str, network: str, hint: str = "") -> None:
    """Loads the tensors of a module from a state dict that may hold others as well, such as an output layer.

    Args:
        module: The module.
        state: Names to tensors.
        source: Source of the state dict, for the error message.
        network: Name of the expected network, for the error message.
        hint: Text to append to the error message.

    Raises:
        WeightsError: A tensor is missing or has the wrong shape.
    """
    expected = module.state_dict()
    # Files from before 2018 lack the counter of batches, which has no effect here.
    missing = [name for name in expected if name not in state and not name.endswith("num_batches_tracked")]
    misshapen = [name for name in expected if name in state and state[name].shape != expected[name].shape]
    if missing or misshapen:
        raise WeightsError(
            f"{source!r} is not a state dict of {network}: missing {missing or 'nothing'}, wrong shape "
            f"{misshapen or 'nothing'}{hint}."
        )
    module.load_state_dict({name: state.get(name, tensor) for name, tensor in expected.items()})
