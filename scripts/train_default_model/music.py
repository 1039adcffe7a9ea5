"""Unlabelled music for the pretraining of the student.

    python scripts/train_default_model/music.py MUSIC_FOLDER

downloads the pretraining data of the default model: the soundtracks of 112 games and other programs in Debian 12, under
free licences that are documented in the ``copyright`` file of each package. 6.6 GB are downloaded by apt-get, one
package at a time, and 1.4 GB of audio are extracted. Any other directory of music can be used instead.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import io
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from musgenre.audio import load
from musgenre.core.errors import AudioError

TABLE = Path(__file__).with_name("music.csv")
SUFFIXES = {".ogg", ".oga", ".opus", ".mp3", ".flac"}
SMALLEST_BYTES = 150_000
"""Smaller files are sound effects, not music."""

SHORTEST_SECONDS = 12
EXCERPT_SECONDS = 6
MOST_EXCERPTS = 6
SILENCE = 1e-3

Excerpts = npt.NDArray[np.int16]


def excerpts(folder: Path, *, rate: int) -> tuple[Excerpts, npt.NDArray[np.float64]]:
    """Cut excerpts of 6 s from the music in a directory, one per 12 s of a file, at most six per file.

    Args:
        folder: A directory tree with audio files. Files that cannot be read are reported and skipped.
        rate: Sample rate of the excerpts, in hertz.

    Returns:
        The excerpts, ``(count, 6 * rate)`` in 16 bits, and their sampling probabilities: the total weight of a
        directory (an album) is the 0.6th power of the number of its excerpts.
    """
    cut, albums = [], []
    for path in sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES):
        try:
            song = load(path, sample_rate=rate)
        except AudioError as error:
            print(f"skipped: {error}", flush=True)
            continue
        for excerpt in _cut(song, rate=rate):
            cut.append(excerpt)
            albums.append(str(path.parent))
    _, album, counts = np.unique(albums, return_inverse=True, return_counts=True)
    weights = (counts**-0.4)[album]
    return np.stack(cut), weights / weights.sum()


def _cut(song: npt.NDArray[np.float32], *, rate: int) -> Iterator[Excerpts]:
    length = EXCERPT_SECONDS * rate
    count = min(MOST_EXCERPTS, int(len(song) / rate // SHORTEST_SECONDS))
    for number in range(count):
        middle = int((number + 0.5) / count * len(song))
        start = min(max(0, middle - length // 2), len(song) - length)
        excerpt = song[start : start + length]
        loudness = float(np.sqrt(np.mean(excerpt**2)))
        if loudness > SILENCE:
            yield (excerpt * min(1 / np.abs(excerpt).max(), 0.1 / loudness) * 32_767).astype(np.int16)


def main() -> None:
    """Download the packages of the table that are not there yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    with TABLE.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        album = folder / row["package"]
        if album.exists():
            continue
        with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
            package = _download(row["package"], Path(temporary), version=row["version"], sha256=row["sha256"])
            unpacked = Path(temporary) / "album"
            unpacked.mkdir()
            with package.open("rb") as stream:
                _unpack(stream, unpacked)
            folder.mkdir(exist_ok=True)
            shutil.move(unpacked, album)
        print(f"{row['package']}: {len(list(album.iterdir()))} files", flush=True)


def _download(package: str, folder: Path, *, version: str, sha256: str) -> Path:
    """Download a Debian package with apt-get and check its digest."""
    subprocess.run(["apt-get", "-qq", "download", f"{package}={version}"], cwd=folder, check=True)
    (path,) = folder.glob("*.deb")
    if hashlib.sha256(path.read_bytes()).hexdigest() != sha256:
        raise SystemExit(f"{path.name} is not the file that the default model was trained on.")
    return path


def _unpack(package: BinaryIO, folder: Path) -> None:
    """Extract the audio files of a Debian package, an ``ar`` archive with the member ``data.tar``."""
    package.seek(8)
    while header := package.read(60):
        name, size = header[:16].decode().strip(), int(header[48:58])
        content = package.read(size + size % 2)
        if name.startswith("data.tar"):
            with tarfile.open(fileobj=io.BytesIO(content)) as files:
                songs = [
                    member
                    for member in files.getmembers()
                    if member.isfile() and Path(member.name).suffix.lower() in SUFFIXES and member.size > SMALLEST_BYTES
                ]
                for number, song in enumerate(sorted(songs, key=lambda member: member.name), start=1):
                    stream = files.extractfile(song)
                    if stream is not None:
                        (folder / f"{number:03d}{Path(song.name).suffix.lower()}").write_bytes(stream.read())


if __name__ == "__main__":
    main()
