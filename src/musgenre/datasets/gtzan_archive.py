"""Where GTZAN can be downloaded, and how that becomes a folder of tracks."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from musgenre.core.download import download
from musgenre.core.errors import DatasetError, DownloadError
from musgenre.core.files import file_lock
from musgenre.datasets.archives import unpack

FOLDER = "genres"
"""The archive's folder, which is one of those that :class:`~musgenre.datasets.GTZAN` looks for."""

_MAX_BYTES = 4 * 2**30  # three times GTZAN's
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Address:
    """Where an archive is published.

    Attributes:
        url: Its address.
        checksum: As :func:`musgenre.core.download.download` takes it, or ``None`` where it is not known.
        size: Its bytes, or ``None`` where that is not known.
    """

    url: str
    checksum: str | None = None
    size: int | None = None


ADDRESSES = (
    Address(
        "https://huggingface.co/datasets/marsyas/gtzan/resolve/d2146561ecc7df707d9e6b8318885fe6a39668a2/data/genres.tar.gz",
        "sha256:b28cc067ff6199bd826f5d1a6931458586d64acae7f44b2e882b7a97af057531",
    ),
    Address(
        "http://opihi.cs.uvic.ca/sound/genres.tar.gz",
        "sha256:24347e0223d2ba798e0a558c4c172d9d4a19c00bb7963fe055d183dadb4ef2c6",
        1_225_571_541,
    ),
)
"""The archives that are known, in the order in which they are tried; ``data/README.md`` says who knows them."""


def fetch(root: Path, *, url: str | None, checksum: str | None, progress: bool) -> None:
    """Downloads an archive of GTZAN and unpacks it to ``root/genres``; the archive is removed then.

    Args:
        root: The folder; made if need be.
        url: The address of a copy; ``None`` tries :data:`ADDRESSES`.
        checksum: Of that copy, or ``None``.
        progress: Whether a bar is drawn, if there is a terminal.

    Raises:
        DatasetError: No address gives the archive, or it cannot be unpacked.
    """
    addresses = ADDRESSES if url is None else (Address(url, checksum),)
    archive = root / f"{FOLDER}.tar.gz"
    try:
        root.mkdir(parents=True, exist_ok=True)
        with file_lock(root / f".{FOLDER}.lock"):
            if not (root / FOLDER).exists():  # unless another made it while this one waited
                _download(archive, addresses, progress=progress)
                unpack(archive, root / FOLDER, max_bytes=_MAX_BYTES)
                archive.unlink()
    except OSError as error:
        raise DatasetError(f"GTZAN cannot be kept in '{root}' ({error}): choose another folder.") from error


def _download(archive: Path, addresses: tuple[Address, ...], *, progress: bool) -> None:
    failures = []
    for address in addresses:
        if address.checksum is None:
            _log.warning(
                "No checksum of %s is known: whether the archive is the right one is not checked.", address.url
            )
        try:
            download(address.url, archive, checksum=address.checksum, size=address.size, progress=progress)
            return
        except DownloadError as error:
            unknown = "" if address.checksum else " No checksum of it is known; you may pass one."
            failures.append(f"{error}{unknown}")
            _log.info("%s", error)
    raise DatasetError(f"GTZAN cannot be downloaded. {' '.join(failures)}")
