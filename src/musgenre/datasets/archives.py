"""Archives from other people's servers, unpacked with care."""

from __future__ import annotations

import contextlib
import lzma
import shutil
import tarfile
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path

from musgenre.core.errors import DatasetError

_BLOCK_BYTES = 1 << 20
_JUNK = frozenset([".DS_Store", "__MACOSX"])


def unpack(archive: Path, place: Path, *, max_bytes: int) -> None:
    """Makes the folder of an archive that holds one; it is there whole or not at all.

    Files and folders are all that is taken, each inside that folder, with plain permissions. What macOS strews in
    (``._*``, ``.DS_Store``, ``__MACOSX``) is left out. One process at a time may do this beside ``place``; what an
    earlier one has left half done is removed.

    Args:
        archive: A tar archive, compressed or not.
        place: What becomes of the archive's folder of this name; anything but it must not be in the archive.
        max_bytes: How much the files may hold, all in all.

    Raises:
        DatasetError: The archive is damaged, has a member that is a link, a device or outside of the folder, or is too
            large; or the files cannot be written. Nothing is left of it then.
    """
    for remains in place.parent.glob(f".{place.name}.*.partial"):
        shutil.rmtree(remains)
    with (
        _explained(archive),
        tempfile.TemporaryDirectory(prefix=f".{place.name}.", suffix=".partial", dir=place.parent) as partial,
    ):
        _extract(archive, Path(partial), folder=place.name, max_bytes=max_bytes)
        Path(partial, place.name).rename(place)


def _extract(archive: Path, into: Path, *, folder: str, max_bytes: int) -> None:
    total = 0

    def checked(member: tarfile.TarInfo, path: str) -> tarfile.TarInfo | None:
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
        file.extractall(into, filter=checked)  # nosec B202
        # To the end, where compressed files have their checksum; tarfile itself stops before.
        while file.fileobj is not None and file.fileobj.read(_BLOCK_BYTES):
            pass
    if not Path(into, folder).is_dir():
        raise DatasetError(f"'{archive}' is refused: there is no folder '{folder}' in it; remove it.")


@contextlib.contextmanager
def _explained(archive: Path) -> Iterator[None]:
    if not hasattr(tarfile, "data_filter"):
        raise DatasetError(
            f"'{archive}' is not unpacked: this Python cannot do that safely. Use 3.10.12, 3.11.4, 3.12 or a later one."
        )
    try:
        yield
    # What a damaged archive leads to; errors of the disk are OSErrors.
    except (tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, OSError) as error:
        raise DatasetError(
            f"'{archive}' cannot be unpacked ({error or type(error).__name__}): make room, or remove it so that it is "
            "downloaded again."
        ) from error
