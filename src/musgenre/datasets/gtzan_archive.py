"""Download of GTZAN's archive, and safe extraction of untrusted archives."""

from __future__ import annotations

import logging
import lzma
import shutil
import tarfile
import tempfile
import zlib
from dataclasses import dataclass
from pathlib import Path

from musgenre.core.download import download
from musgenre.core.errors import DatasetError, DownloadError
from musgenre.core.files import file_lock

FOLDER = "genres"
"""The folder in the archive; one of those that :class:`~musgenre.datasets.GTZAN` searches."""

_MAX_BYTES = 4 * 2**30  # three times the size of GTZAN
_BLOCK_BYTES = 1 << 20
_JUNK = frozenset([".DS_Store", "__MACOSX"])
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Address:
    """Published copy of an archive.

    Attributes:
        url: URL of the archive.
        checksum: See :func:`musgenre.core.download.download`; ``None`` if unknown.
        size: Number of bytes; ``None`` if unknown.
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
"""Known copies, in the order in which they are tried; ``data/README.md`` names the sources of their checksums."""


def fetch(root: Path, *, url: str | None, checksum: str | None, progress: bool) -> None:
    """Downloads an archive of GTZAN, unpacks it to ``root/genres``, and removes the archive.

    Args:
        root: The folder, which is created if necessary.
        url: URL of a copy; by default, :data:`ADDRESSES` are tried.
        checksum: Checksum of that copy, or ``None``.
        progress: Whether to show a progress bar if there is a terminal.

    Raises:
        DatasetError: The archive cannot be downloaded from any URL, or cannot be unpacked.
    """
    addresses = ADDRESSES if url is None else (Address(url, checksum),)
    archive = root / f"{FOLDER}.tar.gz"
    try:
        root.mkdir(parents=True, exist_ok=True)
        with file_lock(root / f".{FOLDER}.lock"):
            if not (root / FOLDER).exists():  # another process may have created it in the meantime
                _download(archive, addresses, progress=progress)
                unpack(archive, root / FOLDER, max_bytes=_MAX_BYTES)
                archive.unlink()
    except OSError as error:
        raise DatasetError(f"GTZAN cannot be written to '{root}' ({error}): choose another folder.") from error


def _download(archive: Path, addresses: tuple[Address, ...], *, progress: bool) -> None:
    failures = []
    for address in addresses:
        if address.checksum is None:
            _log.warning("No checksum of %s is known: the archive is not verified.", address.url)
        try:
            download(address.url, archive, checksum=address.checksum, size=address.size, progress=progress)
            return
        except DownloadError as error:
            unknown = "" if address.checksum else " No checksum of it is known; you may pass one."
            failures.append(f"{error}{unknown}")
            _log.info("%s", error)
    raise DatasetError(f"GTZAN cannot be downloaded. {' '.join(failures)}")


def unpack(archive: Path, directory: Path, *, max_bytes: int) -> None:
    """Extracts the single folder of an untrusted archive. The folder appears only once it is complete.

    Only regular files and folders are extracted, only inside that folder, and with plain permissions. Metadata files
    of macOS (``._*``, ``.DS_Store``, ``__MACOSX``) are skipped. Only one process at a time may extract to
    ``directory``; incomplete results of an earlier call are removed.

    Args:
        archive: A tar archive, compressed or not.
        directory: Path of the extracted folder. The folder in the archive must have the same name.
        max_bytes: Maximum size of all files together.

    Raises:
        DatasetError: The archive is damaged, is too large, or has a member that is a link, a device or outside of the
            folder; or the files cannot be written. Nothing is left behind in these cases.
    """
    if not hasattr(tarfile, "data_filter"):
        raise DatasetError(
            f"'{archive}' is not unpacked, because this version of Python cannot do so safely: use 3.10.12, 3.11.4, "
            "3.12 or later."
        )
    for partial in directory.parent.glob(f".{directory.name}.*.partial"):
        shutil.rmtree(partial)
    try:
        with tempfile.TemporaryDirectory(
            prefix=f".{directory.name}.", suffix=".partial", dir=directory.parent
        ) as partial_name:
            _extract(archive, Path(partial_name), folder=directory.name, max_bytes=max_bytes)
            Path(partial_name, directory.name).rename(directory)
    # A damaged archive raises any of these; errors of the disk are OSErrors.
    except (tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, OSError) as error:
        raise DatasetError(
            f"'{archive}' cannot be unpacked ({error or type(error).__name__}): free disk space, or remove the archive "
            "so that it is downloaded again."
        ) from error


def _extract(archive: Path, target: Path, *, folder: str, max_bytes: int) -> None:
    total = 0

    def check(member: tarfile.TarInfo, path: str) -> tarfile.TarInfo | None:
        nonlocal total
        parts = Path(member.name).parts
        if not parts or any(part in _JUNK or part.startswith("._") for part in parts):
            return None
        if not (member.isfile() or member.isdir()):
            raise DatasetError(f"'{archive}' is refused: {member.name!r} in it is a link or a device; remove it.")
        if member.name.startswith("/") or ".." in parts or parts[:1] != (folder,):
            raise DatasetError(
                f"'{archive}' is refused: {member.name!r} in it is outside of its folder '{folder}'; remove it."
            )
        total += member.size
        if total > max_bytes:
            raise DatasetError(f"'{archive}' is refused: it holds more than {max_bytes} bytes; remove it.")
        return tarfile.data_filter(member, path)

    with tarfile.open(archive) as file:
        file.extractall(target, filter=check)  # nosec B202
        # tarfile stops before the end of a compressed file, where its checksum is.
        while file.fileobj is not None and file.fileobj.read(_BLOCK_BYTES):
            pass
    if not Path(target, folder).is_dir():
        raise DatasetError(f"'{archive}' is refused: there is no folder '{folder}' in it; remove it.")
