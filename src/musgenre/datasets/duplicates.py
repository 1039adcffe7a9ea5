"""Detection of recordings that occur in two sets of tracks under different names."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterable, Sequence

from musgenre.audio import blocks, read_window
from musgenre.core.errors import AudioError
from musgenre.datasets.base import Track

_HEAD_BYTES = 1 << 16
_HEAD_SECONDS = 0.5
_RATE = 22_050

Fingerprint = Callable[[Track], str]


def same_recordings(left: Iterable[Track], right: Iterable[Track]) -> list[tuple[str, str]]:
    """Finds pairs of tracks, one from each side of a split, that are the same recording.

    Two files hold the same recording if their bytes are equal, or if they decode to equal samples (WAV and FLAC, or
    other tags). A lossy copy (the MP3 of a WAV) decodes to other samples and is not found. Stored spectrograms are
    compared with each other, and not with audio.

    Cheap fingerprints are compared first: the size and the first 64 KiB of the files, the duration and the first half
    second of the audio. Only files that match in these are read completely. Files that cannot be read are skipped.

    Args:
        left: Tracks of one side.
        right: Tracks of the other side.

    Returns:
        Sorted pairs of ids, the first from ``left`` and the second from ``right``.
    """
    lists = [list(left), list(right)]
    files = [[track for track in side if track.path is not None] for side in lists]
    spectrograms = [[track for track in side if track.spectrogram is not None] for side in lists]
    equal_bytes = _matching_pairs(*files, fingerprints=(_size, _first_bytes, _all_bytes))
    equal_samples = _matching_pairs(*files, fingerprints=(_duration, _first_samples, _all_samples))
    equal_spectrograms = _matching_pairs(*spectrograms, fingerprints=(_spectrogram,))
    return sorted(equal_bytes | equal_samples | equal_spectrograms)


def _matching_pairs(
    left: list[Track], right: list[Track], *, fingerprints: Sequence[Fingerprint]
) -> set[tuple[str, str]]:
    """Returns pairs that match in all fingerprints; each is computed only for tracks that match in those before it."""
    if not fingerprints:
        return {(one.id, other.id) for one in left for other in right}
    first, *rest = fingerprints
    ones, others = _group_by(first, left), _group_by(first, right)
    common = ones.keys() & others.keys()
    return {pair for key in common for pair in _matching_pairs(ones[key], others[key], fingerprints=rest)}


def _group_by(fingerprint: Fingerprint, tracks: list[Track]) -> dict[str, list[Track]]:
    groups: dict[str, list[Track]] = {}
    for track in tracks:
        with contextlib.suppress(OSError, AudioError):  # whatever reads the file next reports the error
            groups.setdefault(fingerprint(track), []).append(track)
    return groups


def _spectrogram(track: Track) -> str:
    return "" if track.spectrogram is None else track.spectrogram.digest()


def _size(track: Track) -> str:
    return str(track.file.stat().st_size)


def _first_bytes(track: Track) -> str:
    with track.file.open("rb") as file:
        return hashlib.sha256(file.read(_HEAD_BYTES)).hexdigest()


def _all_bytes(track: Track) -> str:
    digest = hashlib.sha256()
    with track.file.open("rb") as file:
        while part := file.read(1 << 20):
            digest.update(part)
    return digest.hexdigest()


def _duration(track: Track) -> str:
    # Rounded to a microsecond; equal samples at an equal rate have equal durations in every format.
    return f"{track.duration_seconds:.6f}"


def _first_samples(track: Track) -> str:
    samples = read_window(track.file, start_seconds=0, seconds=_HEAD_SECONDS, sample_rate=_RATE)
    return hashlib.sha256(samples.tobytes()).hexdigest()


def _all_samples(track: Track) -> str:
    digest = hashlib.sha256()
    for block in blocks(track.file, sample_rate=_RATE):
        digest.update(block.tobytes())
    return digest.hexdigest()
