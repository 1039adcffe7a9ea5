"""Files from other people's servers, fetched once and kept in the user's cache."""

from __future__ import annotations

import os
from pathlib import Path

from musgenre.errors import WeightsError

_SECONDS_WITHOUT_AN_ANSWER = 30
_CHUNK_BYTES = 1 << 18  # pooch's own, 1 KB, costs more time than a fast network does


def cache_directory(*parts: str) -> Path:
    r"""Returns where musgenre keeps what can be had again; it need not exist yet.

    The environment variable ``MUSGENRE_CACHE`` names the directory; without it, it is the system's place for caches:
    ``~/.cache/musgenre`` on Linux, ``~/Library/Caches/musgenre`` on macOS, ``%LOCALAPPDATA%\musgenre`` on Windows.

    Args:
        *parts: Names of directories below it.

    Example:
        >>> cache_directory("yamnet", "yamnet.h5").parts[-2:]
        ('yamnet', 'yamnet.h5')
    """
    import platformdirs

    named = os.environ.get("MUSGENRE_CACHE")
    root = Path(named).expanduser() if named else Path(platformdirs.user_cache_dir("musgenre", appauthor=False))
    return root.joinpath(*parts)


def fetch(url: str, *parts: str, sha256: str | None) -> Path:
    """Returns a file of the cache, downloading it first if it is not there.

    The file appears whole or not at all; of several processes that want it, one downloads and the others wait. A file
    that is there needs no network.

    Args:
        url: Where it is published, over HTTP.
        *parts: Its place in the cache: directories, then the file's name.
        sha256: Its SHA-256 as 64 hexadecimal digits, or ``None`` where it is not known and nothing can be compared.
            A file in the cache that has another one is downloaded again.

    Raises:
        WeightsError: It cannot be downloaded, has another checksum, or cannot be written; the message says where
            to put the file by hand.
    """
    import filelock
    import pooch

    path = cache_directory(*parts)
    try:
        if sha256 is None and path.is_file():
            return path
        path.parent.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(f"{path}.lock"):
            downloader = pooch.HTTPDownloader(chunk_size=_CHUNK_BYTES, timeout=_SECONDS_WITHOUT_AN_ANSWER)
            known = sha256 and f"sha256:{sha256}"
            # pooch downloads to another name, compares the checksum, and then moves the file to its place.
            pooch.retrieve(url, known_hash=known, fname=path.name, path=path.parent, downloader=downloader)
    # requests' errors are OSErrors, a wrong checksum is a ValueError.
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise WeightsError(
            f"{url} could not be fetched ({reason}). Check the network; or download it on another machine, and put it "
            f"at '{path}'."
        ) from error
    return path
