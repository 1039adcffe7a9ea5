"""Models on disk and on the hub: ``config.json`` and ``model.safetensors``, checked before they are used.

No pickle is read and no import path followed: a file chooses among the registered features and
backbones, and nothing else. ``musgenre.models.validation`` checks it before it is used.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from musgenre.backbones.base import BACKBONES
from musgenre.core.config import FORMAT_VERSION, ModelConfig, from_dict, to_dict
from musgenre.core.errors import ConfigError, MusgenreError, ParameterError, WeightsError
from musgenre.models import hub
from musgenre.models.network import GenreNetwork
from musgenre.models.saving import CONFIG_FILE, WEIGHTS_FILE, pairing, pending_config, replacing_model
from musgenre.models.validation import build, read_text, refuse_pickle, required, tensor_shapes

if TYPE_CHECKING:
    from typing_extensions import Unpack

_log = logging.getLogger(__name__)

DEFAULT_MODEL = "vgg16-slim-gtzan-v2"
_ASSETS = Path(__file__).parents[1] / "assets"
BUNDLED = {
    DEFAULT_MODEL: _ASSETS,
    "yamnet-gtzan-v1": _ASSETS / "yamnet-gtzan",
    "yamnet-gtzan": _ASSETS / "yamnet-gtzan",
}
"""The models inside the package, by name. A name without a version means the latest one."""

RETIRED = {"vgg16-slim-gtzan-v1": "vgg16-slim-gtzan-v2"}
"""Names that the package had once, and what replaced each."""

_BACKBONE = "backbone."
_SHOWN = 20
"""As many names are listed in a message."""

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def locate(source: str | os.PathLike[str] | None, **options: Unpack[hub.HubOptions]) -> Path:
    """Returns the directory of a model, downloading it if it is on the hub.

    Args:
        source: ``None`` for the bundled model, the name of a bundled model, a directory, or a hub id
            ``"org/name"``. A directory that exists goes before a hub id of the same spelling.
        **options: For a hub model: ``revision``, ``cache_dir``, ``token``, ``local_files_only``, as
            :class:`~musgenre.models.hub.HubOptions` tells.

    Raises:
        WeightsError: There is no such model, it is a pickle, or the hub cannot be reached.
    """
    if source is None:
        return BUNDLED[DEFAULT_MODEL]
    if Path(source).is_dir():
        return Path(source)
    refuse_pickle(Path(source))
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
    return hub.download(name, files=[CONFIG_FILE, WEIGHTS_FILE], **options)


def load(
    directory: Path, *, backbone_weights: str | os.PathLike[str] | None = None, local_files_only: bool = False
) -> tuple[ModelConfig, GenreNetwork]:
    """Reads a model.

    Args:
        directory: Where ``config.json`` and ``model.safetensors`` are.
        backbone_weights: For a model without its backbone's weights, the file that holds them, in place of the source
            that the configuration names.
        local_files_only: Whether the backbone's weights must be on this machine already.

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
    config = read_config(pending_config(directory) or directory / CONFIG_FILE)
    elsewhere = config.backbone.options.get("weights") is not None
    if elsewhere:
        # A path in a file from somewhere else could point anywhere; the user's own does not.
        _check_named(config)
        if local_files_only and backbone_weights is None:
            backbone_weights = _kept(config)
    built = config
    if backbone_weights is not None:
        if not elsewhere:
            raise ParameterError(f"'{directory}' holds the weights of its backbone: leave backbone_weights out.")
        options = {**config.backbone.options, "weights": os.fspath(backbone_weights)}
        built = replace(config, backbone=replace(config.backbone, options=options))
    path = required(directory / WEIGHTS_FILE, what="weights", links=directory in BUNDLED.values())
    with _damage_told(path):
        shapes = tensor_shapes(path)
    network = build(built, shapes=shapes, pretrained=elsewhere)
    with _damage_told(path):
        _fill(network, path, shapes=shapes, besides=_BACKBONE if elsewhere else None)
    _log.debug("Loaded the model %r from '%s'.", config.name, directory)
    return config, network


def save(directory: Path, *, config: ModelConfig, network: GenreNetwork, head_only: bool = False) -> None:
    """Writes a model; one that was there is replaced at once, and stays as it was if the process is killed before that.

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
        with replacing_model(directory, config=text) as new_weights:
            save_file(tensors, new_weights, metadata=pairing(text))
            new_weights.chmod(0o644)  # safetensors makes files that nobody else can read
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"The model cannot be written to '{directory}': {error}") from error


def read_config(path: Path) -> ModelConfig:
    """Reads ``config.json``.

    Raises:
        WeightsError: There is no such file, or it cannot be read.
        ConfigError: It is no JSON, has unknown or missing keys or wrong types, or is from a newer format.
    """
    try:
        pairs: Any = json.loads(read_text(required(path, what="model", links=path.parent in BUNDLED.values())))
    except MusgenreError:
        raise
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
    named = BACKBONES.entry(config.backbone.name).named_weights
    if source not in named:
        raise ConfigError(
            f"A model without its backbone's weights must name them, which {source!r} does not: the backbone "
            f"{config.backbone.name!r} knows {', '.join(map(repr, named)) or 'no names'}."
        )


def _kept(config: ModelConfig) -> Path:
    backbone = config.backbone
    path = BACKBONES.entry(backbone.name).cached_weights(backbone.options["weights"])
    if path is None or not path.is_file():
        raise WeightsError(
            f"The model {config.name!r} is a head on {backbone.name!r}, whose weights {backbone.options['weights']!r} "
            f"are not kept on this machine{'' if path is None else f' (at {str(path)!r})'}, and local_files_only=True "
            "forbids to download them: name the file by backbone_weights, or load the model once without that option."
        )
    return path


@contextlib.contextmanager
def _damage_told(path: Path) -> Iterator[None]:
    try:
        yield
    except MusgenreError:
        raise
    except Exception as error:
        # Besides its own errors safetensors raises PyTorch's, where a type of numbers cannot be converted.
        raise WeightsError(
            f"'{path}' is damaged or no safetensors file ({error}): save the model or download it again."
        ) from error


def _fill(network: GenreNetwork, path: Path, *, shapes: dict[str, tuple[int, ...]], besides: str | None) -> None:
    state = network.state_dict()
    wanted = {name: tensor for name, tensor in state.items() if besides is None or not name.startswith(besides)}
    _compare(shapes, {name: tuple(tensor.shape) for name, tensor in wanted.items()}, path=path)
    with safe_open(path, framework="pt") as file:
        # copy_ converts, so that weights in half precision on disk run in single precision.
        network.load_state_dict(state | {name: file.get_tensor(name) for name in wanted})
    bad = [name for name, tensor in network.state_dict().items() if not tensor.isfinite().all()]
    if bad:
        raise WeightsError(f"'{path}' is damaged: numbers in {_few(bad)} are not finite. Download it again.")


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
    told = "; ".join(f"{kind}: {_few(names)}" for kind, names in problems if names)
    if told:
        raise WeightsError(f"'{path}' does not fit the network that its {CONFIG_FILE} describes: {told}.")


def _few(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(name[:100] for name in names[:_SHOWN]) + more
