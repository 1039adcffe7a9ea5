"""Recordings that stand on two sides under two names."""

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

Sign = Callable[[Track], str]


def same_recordings(left: Iterable[Track], right: Iterable[Track]) -> list[tuple[str, str]]:
    """Finds tracks of two sides whose files hold the same recording.

    Two files hold the same recording if their bytes are the same, or if they decode to the same samples: in WAV and
    in FLAC, or under other tags. A lossy copy (the MP3 of a WAV) decodes to other samples and is not found.

    Cheap signs are compared first: size and first 64 KiB of the bytes, length and first half second of the sound.
    Only files that agree in these are read as a whole. A file that cannot be read is passed over: whatever reads it
    next says what is wrong with it.

    Args:
        left: Tracks of one side.
        right: Tracks of the other.

    Returns:
        The ids of each pair, one of each side, sorted.
    """
    ones, others = list(left), list(right)
    copies = _agreeing(ones, others, signs=(_size, _first_bytes, _all_bytes))
    sounds = _agreeing(ones, others, signs=(_length, _first_sound, _all_sound))
    return sorted(copies | sounds)


def _agreeing(left: list[Track], right: list[Track], *, signs: Sequence[Sign]) -> set[tuple[str, str]]:
    """Pairs of tracks that agree in all signs; a later sign is asked only of tracks that agree in those before it."""
    if not signs:
        return {(one.id, other.id) for one in left for other in right}
    sign, *later = signs
    ones, others = _sorted_by(sign, left), _sorted_by(sign, right)
    return {pair for key in ones.keys() & others.keys() for pair in _agreeing(ones[key], others[key], signs=later)}


def _sorted_by(sign: Sign, tracks: list[Track]) -> dict[str, list[Track]]:
    found: dict[str, list[Track]] = {}
    for track in tracks:
        with contextlib.suppress(OSError, AudioError):
            found.setdefault(sign(track), []).append(track)
    return found


def _size(track: Track) -> str:
    return str(track.path.stat().st_size)


def _first_bytes(track: Track) -> str:
    with track.path.open("rb") as file:
        return hashlib.sha256(file.read(_HEAD_BYTES)).hexdigest()


def _all_bytes(track: Track) -> str:
    digest = hashlib.sha256()
    with track.path.open("rb") as file:
        while part := file.read(1 << 20):
            digest.update(part)
    return digest.hexdigest()


def _length(track: Track) -> str:
    # The header's, to a microsecond: the same samples at the same rate last equally long in any format.
    return f"{track.duration_seconds:.6f}"


def _first_sound(track: Track) -> str:
    samples = read_window(track.path, start_seconds=0, seconds=_HEAD_SECONDS, sample_rate=_RATE)
    return hashlib.sha256(samples.tobytes()).hexdigest()


def _all_sound(track: Track) -> str:
    digest = hashlib.sha256()
    for block in blocks(track.path, sample_rate=_RATE):
        digest.update(block.tobytes())
    return digest.hexdigest()
