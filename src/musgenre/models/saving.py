"""A model's two files, which are replaced as if they were one.

Two files cannot be renamed at once. The weights come first, with the digest of the configuration that belongs to them
in their metadata. Whoever is killed right after that leaves the configuration where it was written, and the digest
tells that it is the one.
"""

from __future__ import annotations

import contextlib
import hashlib
import shutil
from collections.abc import Iterator
from pathlib import Path

from musgenre.core.files import file_lock

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"

_BEGUN = ".saving"
_DIGEST = "config_sha256"


def pairing(config: str) -> dict[str, str]:
    """Returns the metadata of the weights that belong to a configuration."""
    return {_DIGEST: hashlib.sha256(config.encode()).hexdigest()}


@contextlib.contextmanager
def replacing_model(directory: Path, *, config: str) -> Iterator[Path]:
    """Gives a name to write the weights to; when the block ends well, both files take their places.

    Args:
        directory: Where the model is, or will be; it must be there.
        config: The text of the configuration. The weights must have :func:`pairing` as their metadata.

    Raises:
        OSError: A file cannot be written.
    """
    begun = directory / _BEGUN
    with file_lock(directory / f"{_BEGUN}.lock"):
        if (pending := pending_config(directory)) is not None:
            pending.replace(directory / CONFIG_FILE)
        shutil.rmtree(begun, ignore_errors=True)
        try:
            begun.mkdir()
            (begun / CONFIG_FILE).write_text(config, encoding="utf-8")
            yield begun / WEIGHTS_FILE
            for name in (WEIGHTS_FILE, CONFIG_FILE):
                (begun / name).replace(directory / name)
        finally:
            if pending_config(directory) is None:
                shutil.rmtree(begun, ignore_errors=True)


def pending_config(directory: Path) -> Path | None:
    """Returns the configuration that a killed process could not put in its place any more, or ``None``."""
    pending = directory / _BEGUN / CONFIG_FILE
    if not pending.is_file():
        return None
    wanted = _digest_in(directory / WEIGHTS_FILE)
    return pending if hashlib.sha256(pending.read_bytes()).hexdigest() == wanted else None


def _digest_in(weights: Path) -> str | None:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(weights, framework="pt") as file:
            return (file.metadata() or {}).get(_DIGEST)
    except (OSError, SafetensorError):
        return None  # whoever reads the weights says what is wrong with them
