"""Models on disk and on the hub: ``config.json`` and ``model.safetensors``, checked before they are used.

No pickle is read and no import path followed: a file chooses among the registered features and
backbones, and nothing else.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from musgenre.atomic import replacing
from musgenre.backbones.base import BACKBONES, Backbone
from musgenre.errors import ConfigError, ParameterError, WeightsError
from musgenre.network import GenreNetwork
from musgenre.specs import FORMAT_VERSION, ModelConfig, from_dict, to_dict

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
DEFAULT_MODEL = "vgg16-slim-gtzan-v2"
_ASSETS = Path(__file__).parent / "assets"
BUNDLED = {
    DEFAULT_MODEL: _ASSETS,
    "yamnet-gtzan-v1": _ASSETS / "yamnet-gtzan",
    "yamnet-gtzan": _ASSETS / "yamnet-gtzan",
}
"""The models inside the package, by name. A name without a version means the latest one."""

RETIRED = {"vgg16-slim-gtzan-v1": "vgg16-slim-gtzan-v2"}
"""Names that the package had once, and what replaced each."""

_BACKBONE = "backbone."

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def locate(
    source: str | os.PathLike[str] | None, *, revision: str | None = None, local_files_only: bool = False
) -> Path:
    """Returns the directory of a model, downloading it if it is on the hub.

    Args:
        source: ``None`` for the bundled model, the name of a bundled model, a directory, or a hub id
            ``"org/name"``. A directory that exists goes before a hub id of the same spelling.
        revision: Branch, tag or commit of a hub model.
        local_files_only: Whether a hub model must be in the local cache already.

    Raises:
        WeightsError: There is no such model, or the hub cannot be reached.
    """
    if source is None:
        return BUNDLED[DEFAULT_MODEL]
    if Path(source).is_dir():
        return Path(source)
    name = os.fspath(source)
    if name in BUNDLED:
        return BUNDLED[name]
    if name in RETIRED:
        raise WeightsError(
            f"The model {name!r} is no longer in musgenre: {RETIRED[name]!r} replaced it. Name that one, or install "
            "the version of musgenre that had it, which CHANGELOG.md tells."
        )
    if not _HUB_ID.fullmatch(name):
        raise WeightsError(
            f"There is no model {name!r}: expected a directory that holds {CONFIG_FILE} and {WEIGHTS_FILE}, a hub id "
            f"'org/name', or a bundled model ({', '.join(BUNDLED)})."
        )
    return _download(name, revision=revision, local_files_only=local_files_only)


def load(
    directory: Path, *, backbone_weights: str | os.PathLike[str] | None = None
) -> tuple[ModelConfig, GenreNetwork]:
    """Reads a model.

    Args:
        directory: Where ``config.json`` and ``model.safetensors`` are.
        backbone_weights: For a model without its backbone's weights, the file that holds them, in place of the source
            that the configuration names.

    Returns:
        The configuration, and the network with its weights, on the CPU.

    Raises:
        ConfigError: The configuration is damaged, unknown or from a newer format, or names weights that are not among
            the backbone's named ones.
        WeightsError: A file is missing or damaged, or the tensors do not fit the network; or the backbone's weights
            are elsewhere and cannot be had.
        ParameterError: ``backbone_weights`` is given for a model that holds its backbone's weights.
        UnknownNameError, PluginError: The feature or backbone is not registered or does not work.
    """
    config = read_config(directory / CONFIG_FILE)
    elsewhere = config.backbone.options.get("weights") is not None
    if elsewhere:
        # A path in a file from somewhere else could point anywhere; the user's own does not.
        _check_named(config)
    built = config
    if backbone_weights is not None:
        if not elsewhere:
            raise ParameterError(f"'{directory}' holds the weights of its backbone: leave backbone_weights out.")
        options = {**config.backbone.options, "weights": os.fspath(backbone_weights)}
        built = replace(config, backbone=replace(config.backbone, options=options))
    network = GenreNetwork.from_config(built, pretrained=elsewhere)
    _fill(network, directory / WEIGHTS_FILE, besides=_BACKBONE if elsewhere else None)
    return config, network


def save(directory: Path, *, config: ModelConfig, network: GenreNetwork, head_only: bool = False) -> None:
    """Writes a model, each file to a temporary name first; a model that was there is replaced.

    Args:
        directory: Made if it does not exist.
        config: The configuration.
        network: The network whose weights are written, in the precision they have.
        head_only: Leaves the backbone's weights out: whoever loads the model gets them from the source that the
            backbone's option ``weights`` names, such as ``"audioset"``. The backbone must have learned nothing since.

    Raises:
        ConfigError: An option of the feature or backbone is not of JSON's types, or the backbone's weights are to be
            left out and have no name that means the same on every machine.
        WeightsError: The directory or a file cannot be written.
    """
    pairs = to_dict(config)
    if head_only:
        _check_named(config)
    else:
        # A checkpoint's own weights take the place of the initial ones.
        options = {key: value for key, value in config.backbone.options.items() if key != "weights"}
        pairs["backbone"] = {"name": config.backbone.name, "options": options}
    # Copies, because the format refuses tensors that share memory, as tied weights do.
    tensors = {
        name: _copy(tensor)
        for name, tensor in network.state_dict().items()
        if not (head_only and name.startswith(_BACKBONE))
    }
    try:
        text = json.dumps(pairs, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    except (TypeError, ValueError) as error:
        raise ConfigError(f"The configuration holds what JSON cannot: {error}") from error
    try:
        directory.mkdir(parents=True, exist_ok=True)
        # Both are written before either takes its place, so that old weights never stand beside a new configuration.
        with replacing(directory / WEIGHTS_FILE) as new_weights, replacing(directory / CONFIG_FILE) as new_config:
            save_file(tensors, new_weights)
            new_weights.chmod(0o644)  # safetensors makes files that nobody else can read
            new_config.write_text(text, encoding="utf-8")
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"The model cannot be written to '{directory}': {error}") from error


def read_config(path: Path) -> ModelConfig:
    """Reads ``config.json``.

    Raises:
        WeightsError: There is no such file, or it cannot be read.
        ConfigError: It is no JSON, has unknown or missing keys or wrong types, or is from a newer format.
    """
    try:
        pairs: Any = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise WeightsError(f"'{path.parent}' holds no model: there is no {path.name} in it.") from error
    except OSError as error:
        raise WeightsError(f"'{path}' cannot be read: {error}") from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"'{path}' is not JSON: {error}") from error
    version = pairs.get("format_version") if isinstance(pairs, dict) else None
    if isinstance(version, int) and version > FORMAT_VERSION:
        raise ConfigError(
            f"'{path}' is written in format {version}, by musgenre {pairs.get('library_version', 'unknown')}; this one "
            f"reads formats up to {FORMAT_VERSION}: upgrade with pip install --upgrade musgenre."
        )
    try:
        return from_dict(ModelConfig, pairs)
    except ConfigError as error:
        raise ConfigError(f"'{path}': {error}") from error


def _copy(tensor: Tensor) -> Tensor:
    return tensor.detach().cpu().clone(memory_format=torch.contiguous_format)


def _check_named(config: ModelConfig) -> None:
    source = config.backbone.options.get("weights")
    # A function that is registered in place of a class names no weights.
    named = getattr(BACKBONES.get(config.backbone.name), "named_weights", Backbone.named_weights)
    if source not in named:
        raise ConfigError(
            f"A model without its backbone's weights must name them, which {source!r} does not: the backbone "
            f"{config.backbone.name!r} knows {', '.join(map(repr, named)) or 'no names'}."
        )


def _fill(network: GenreNetwork, path: Path, *, besides: str | None) -> None:
    if not path.is_file():
        raise WeightsError(f"'{path.parent}' holds no weights: there is no {path.name} in it.")
    state = network.state_dict()
    wanted = {name: tensor for name, tensor in state.items() if besides is None or not name.startswith(besides)}
    try:
        with safe_open(path, framework="pt") as file:
            shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
            _compare(shapes, {name: tuple(tensor.shape) for name, tensor in wanted.items()}, path=path)
            # copy_ converts, so that weights in half precision on disk run in single precision.
            network.load_state_dict(state | {name: file.get_tensor(name) for name in wanted})
    except (SafetensorError, OSError) as error:
        if isinstance(error, WeightsError):
            raise
        raise WeightsError(
            f"'{path}' is damaged or no safetensors file ({error}): save the model or download it again."
        ) from error


def _compare(found: dict[str, tuple[int, ...]], wanted: dict[str, tuple[int, ...]], *, path: Path) -> None:
    problems = [
        ("missing", sorted(wanted.keys() - found.keys())),
        ("unexpected", sorted(found.keys() - wanted.keys())),
        (
            "misshapen",
            [
                f"{k} {found[k]} instead of {wanted[k]}"
                for k in sorted(wanted.keys() & found.keys())
                if found[k] != wanted[k]
            ],
        ),
    ]
    told = "; ".join(f"{kind}: {', '.join(names)}" for kind, names in problems if names)
    if told:
        raise WeightsError(f"'{path}' does not fit the network that its {CONFIG_FILE} describes: {told}.")


def _download(name: str, *, revision: str | None, local_files_only: bool) -> Path:
    import huggingface_hub

    try:
        directory = huggingface_hub.snapshot_download(
            name, revision=revision, local_files_only=local_files_only, allow_patterns=[CONFIG_FILE, WEIGHTS_FILE]
        )
    except Exception as error:
        # Besides its own errors the hub's client lets those of its HTTP library through, which differ by version.
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise WeightsError(
            f"The model {name!r} (revision {revision or 'main'}) is not to be had from the hub: {reason} Check the "
            "name, the revision and the network, or name a local directory."
        ) from error
    return Path(directory)
