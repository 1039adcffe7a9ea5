"""Saves and loads models: ``config.json`` and ``model.safetensors``, validated before use.

No pickle is loaded and no import path is followed: a model selects registered features and backbones by name.
:mod:`musgenre.models.validation` checks untrusted files.

Two files cannot be renamed atomically. The weights are replaced first, with the digest of their configuration in the
metadata. If the process is killed in between, the new configuration remains in a subdirectory, where loading finds it
by its digest.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import re
import shutil
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
from musgenre.core.files import file_lock
from musgenre.models import hub
from musgenre.models.network import GenreNetwork
from musgenre.models.validation import build_network, read_config_text, refuse_pickle, require_file, tensor_shapes

if TYPE_CHECKING:
    from typing_extensions import Unpack

_log = logging.getLogger(__name__)

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"

DEFAULT_MODEL = "yamnet-mel-gtzan-v1"
_ASSETS = Path(__file__).parents[1] / "assets"
BUNDLED = {
    DEFAULT_MODEL: _ASSETS,
    "yamnet-gtzan-v1": _ASSETS / "yamnet-gtzan",
    "yamnet-gtzan": _ASSETS / "yamnet-gtzan",
}
"""Directories of the models inside the package, by name. A name without a version is the latest one."""

_BACKBONE_PREFIX = "backbone."
_MAX_LISTED = 20
"""Maximum number of tensor names that a message lists."""

_PENDING = ".saving"
_DIGEST_KEY = "config_sha256"
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def locate(source: str | os.PathLike[str] | None, **options: Unpack[hub.HubOptions]) -> Path:
    """Returns the directory of a model, downloading it if it is on the Hub.

    Args:
        source: ``None`` for the default model, the name of a bundled model, a directory, or a Hub id ``"org/name"``.
            An existing directory takes precedence over a Hub id of the same spelling.
        **options: ``revision``, ``cache_dir``, ``token`` and ``local_files_only`` for a model on the Hub; see
            :class:`~musgenre.models.hub.HubOptions`.

    Raises:
        WeightsError: There is no such model, it is a pickle, or the Hub cannot be reached.
    """
    if source is None:
        return BUNDLED[DEFAULT_MODEL]
    if Path(source).is_dir():
        return Path(source)
    refuse_pickle(Path(source))
    name = os.fspath(source)
    if name in BUNDLED:
        return BUNDLED[name]
    if not _HUB_ID.fullmatch(name):
        raise WeightsError(
            f"There is no model {name!r}: expected a directory with {CONFIG_FILE} and {WEIGHTS_FILE}, a Hub id "
            f"'org/name', or a bundled model ({', '.join(BUNDLED)})."
        )
    return hub.download(name, files=[CONFIG_FILE, WEIGHTS_FILE], **options)


def load(
    directory: Path, *, backbone_weights: str | os.PathLike[str] | None = None, local_files_only: bool = False
) -> tuple[ModelConfig, GenreNetwork]:
    """Loads a model.

    Args:
        directory: The directory of ``config.json`` and ``model.safetensors``.
        backbone_weights: For a model saved without its backbone's weights, a file with these weights, instead of the
            source that the configuration names.
        local_files_only: Whether the backbone's weights must be in a local cache already.

    Returns:
        The configuration, and the network with its weights, on the CPU.

    Raises:
        ConfigError: The configuration is damaged, unknown or from a newer format, or names weights that the backbone
            does not know.
        WeightsError: A file is missing or damaged, the tensors do not fit the network, or the backbone's weights
            could not be downloaded.
        ParameterError: ``backbone_weights`` is given for a model that contains its backbone's weights.
        UnknownNameError, PluginError: The feature or backbone is not registered or does not work.
    """
    config = read_config(_pending_config(directory) or directory / CONFIG_FILE)
    is_head_only = config.backbone.options.get("weights") is not None
    if is_head_only:
        # A path in an untrusted file could point anywhere; the user's argument does not.
        _check_named_weights(config)
        if local_files_only and backbone_weights is None:
            backbone_weights = _cached_backbone_weights(config)
    built = config
    if backbone_weights is not None:
        if not is_head_only:
            raise ParameterError(f"'{directory}' contains the weights of its backbone: leave backbone_weights out.")
        options = {**config.backbone.options, "weights": os.fspath(backbone_weights)}
        built = replace(config, backbone=replace(config.backbone, options=options))
    path = require_file(directory / WEIGHTS_FILE, content="weights", allow_links=directory in BUNDLED.values())
    with _damage_as_weights_error(path):
        shapes = tensor_shapes(path)
    network = build_network(built, shapes=shapes, pretrained=is_head_only)
    with _damage_as_weights_error(path):
        _load_tensors(network, path, shapes=shapes, is_head_only=is_head_only)
    _log.debug("Loaded the model %r from '%s'.", config.name, directory)
    return config, network


def save(directory: Path, *, config: ModelConfig, network: GenreNetwork, head_only: bool = False) -> None:
    """Saves a model; an existing one is replaced atomically.

    Args:
        directory: The model's directory; created if it does not exist.
        config: The configuration.
        network: The network whose weights are written, in their own precision.
        head_only: Whether to leave out the backbone's weights, which are then loaded from the source that the
            backbone's option ``weights`` names, such as ``"audioset"``. The backbone must not have been trained.

    Raises:
        ConfigError: An option of the feature or backbone has no JSON type, or ``head_only`` is set and the backbone's
            weights have no name that means the same on every machine.
        WeightsError: The directory or a file cannot be written.
    """
    pairs = to_dict(config)
    if head_only:
        _check_named_weights(config)
    else:
        # The saved weights replace the initial ones.
        options = {key: value for key, value in config.backbone.options.items() if key != "weights"}
        pairs["backbone"] = {"name": config.backbone.name, "options": options}
    # Copies, because the format refuses tensors that share memory, as tied weights do.
    tensors = {
        name: _copy(tensor)
        for name, tensor in network.state_dict().items()
        if not (head_only and name.startswith(_BACKBONE_PREFIX))
    }
    try:
        text = json.dumps(pairs, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    except (TypeError, ValueError) as error:
        raise ConfigError(f"The configuration has a value that JSON cannot represent: {error}") from error
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with _atomic_model_write(directory, config=text) as path:
            save_file(tensors, path, metadata={_DIGEST_KEY: _digest(text.encode())})
            path.chmod(0o644)  # safetensors creates files that only the owner can read
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"The model cannot be written to '{directory}': {error}") from error


def read_config(path: Path) -> ModelConfig:
    """Reads ``config.json``.

    Raises:
        WeightsError: The file is missing or cannot be read.
        ConfigError: The file is not JSON, has unknown or missing keys or wrong types, or is from a newer format.
    """
    try:
        file = require_file(path, content="model", allow_links=path.parent in BUNDLED.values())
        pairs: Any = json.loads(read_config_text(file))
    except MusgenreError:
        raise
    except OSError as error:
        raise WeightsError(f"'{path}' cannot be read: {error}") from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"'{path}' is not JSON: {error}") from error
    version = pairs.get("format_version") if isinstance(pairs, dict) else None
    if isinstance(version, int) and version > FORMAT_VERSION:
        raise ConfigError(
            f"'{path}' has format {version}, of musgenre {pairs.get('library_version', 'unknown')}; this version "
            f"reads formats up to {FORMAT_VERSION}: upgrade with pip install --upgrade musgenre."
        )
    try:
        return from_dict(ModelConfig, pairs)
    except ConfigError as error:
        raise ConfigError(f"'{path}': {error}") from error


@contextlib.contextmanager
def _atomic_model_write(directory: Path, *, config: str) -> Iterator[Path]:
    """Yields a path for the weights, and replaces both files of a model if the block succeeds.

    Args:
        directory: The model's directory, which must exist.
        config: The text of the configuration. The weights must have its digest in their metadata.

    Raises:
        OSError: A file cannot be written.
    """
    pending = directory / _PENDING
    with file_lock(directory / f"{_PENDING}.lock"):
        if (interrupted := _pending_config(directory)) is not None:
            interrupted.replace(directory / CONFIG_FILE)
        shutil.rmtree(pending, ignore_errors=True)
        try:
            pending.mkdir()
            (pending / CONFIG_FILE).write_text(config, encoding="utf-8")
            yield pending / WEIGHTS_FILE
            for name in (WEIGHTS_FILE, CONFIG_FILE):
                (pending / name).replace(directory / name)
        finally:
            if _pending_config(directory) is None:
                shutil.rmtree(pending, ignore_errors=True)


def _pending_config(directory: Path) -> Path | None:
    """Returns the configuration of the current weights that a killed process could not move, or ``None``."""
    pending = directory / _PENDING / CONFIG_FILE
    if not pending.is_file():
        return None
    try:
        with safe_open(directory / WEIGHTS_FILE, framework="pt") as file:
            wanted = (file.metadata() or {}).get(_DIGEST_KEY)
    except (OSError, SafetensorError):
        return None  # loading the weights reports what is wrong with them
    return pending if _digest(pending.read_bytes()) == wanted else None


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _copy(tensor: Tensor) -> Tensor:
    return tensor.detach().cpu().clone(memory_format=torch.contiguous_format)


def _check_named_weights(config: ModelConfig) -> None:
    source = config.backbone.options.get("weights")
    named = BACKBONES.entry(config.backbone.name).named_weights
    if source not in named:
        raise ConfigError(
            f"A model without its backbone's weights must name them, and {source!r} is not a name of weights of the "
            f"backbone {config.backbone.name!r}. Available: {', '.join(map(repr, named)) or 'none'}."
        )


def _cached_backbone_weights(config: ModelConfig) -> Path:
    backbone = config.backbone
    source = backbone.options["weights"]
    path = BACKBONES.entry(backbone.name).cached_weights(source)
    if path is None or not path.is_file():
        location = "" if path is None else f" (at {str(path)!r})"
        raise WeightsError(
            f"The model {config.name!r} needs the weights {source!r} of {backbone.name!r}, which are not in the local "
            f"cache{location}, and local_files_only=True forbids downloading them: give a file as backbone_weights, or "
            "load the model once without that option."
        )
    return path


@contextlib.contextmanager
def _damage_as_weights_error(path: Path) -> Iterator[None]:
    try:
        yield
    except MusgenreError:
        raise
    except Exception as error:
        # safetensors also raises PyTorch's errors, where a number type cannot be converted.
        raise WeightsError(
            f"'{path}' is damaged or not a safetensors file ({error}): save the model or download it again."
        ) from error


def _load_tensors(network: GenreNetwork, path: Path, *, shapes: dict[str, tuple[int, ...]], is_head_only: bool) -> None:
    state = network.state_dict()
    expected = {
        name: tensor for name, tensor in state.items() if not (is_head_only and name.startswith(_BACKBONE_PREFIX))
    }
    _check_shapes(shapes, {name: tuple(tensor.shape) for name, tensor in expected.items()}, path=path)
    with safe_open(path, framework="pt") as file:
        # load_state_dict converts, so that weights in half precision on disk run in single precision.
        network.load_state_dict(state | {name: file.get_tensor(name) for name in expected})
    bad = [name for name, tensor in network.state_dict().items() if not tensor.isfinite().all()]
    if bad:
        raise WeightsError(f"'{path}' is damaged: values in {_abbreviated(bad)} are not finite. Download it again.")


def _check_shapes(found: dict[str, tuple[int, ...]], expected: dict[str, tuple[int, ...]], *, path: Path) -> None:
    differing = [
        f"{name} {found[name]} instead of {expected[name]}"
        for name in sorted(expected.keys() & found.keys())
        if found[name] != expected[name]
    ]
    problems = {
        "missing": sorted(expected.keys() - found.keys()),
        "unexpected": sorted(found.keys() - expected.keys()),
        "wrong shape": differing,
    }
    message = "; ".join(f"{problem}: {_abbreviated(names)}" for problem, names in problems.items() if names)
    if message:
        raise WeightsError(f"'{path}' does not fit the network in {CONFIG_FILE}: {message}.")


def _abbreviated(names: list[str]) -> str:
    more = f" and {len(names) - _MAX_LISTED} more" if len(names) > _MAX_LISTED else ""
    return ", ".join(name[:100] for name in names[:_MAX_LISTED]) + more
