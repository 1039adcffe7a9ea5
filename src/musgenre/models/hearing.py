"""How songs pass through a network: which thread decodes, which computes, and what is held meanwhile."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterable, Iterator
from itertools import chain, groupby, islice
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from musgenre.audio import AudioSource
from musgenre.core.threads import Workers, one_core_workers

K = TypeVar("K")
T = TypeVar("T")
R = TypeVar("R")

_SHARED_BATCH, _CPU_BATCH, _GPU_BATCH = 5, 10, 64


def batch_size_for(device: torch.device, *, shared: bool = True) -> int:
    """Returns how many windows go through the network together.

    On a CPU ten take a tenth less time than two times five, but of five each a clip of half a minute has work for two
    cores. A GPU needs many to be filled.

    Args:
        device: Where the network runs.
        shared: Whether several threads share the windows.
    """
    if device.type != "cpu":
        return _GPU_BATCH
    return _SHARED_BATCH if shared else _CPU_BATCH


def each(
    songs: Iterable[AudioSource], work: Callable[[AudioSource, Workers], R], *, device: torch.device
) -> Generator[R, None, None]:
    """Yields ``work(song, workers)`` of each song, in order, as soon as it and those before it are done.

    Several files that are given by their paths are heard side by side, each from first to last in a thread with one
    core: that loses least. What is in memory or an open file is heard before the next song is asked for, since whoever
    makes the songs may use the same memory again, or close the file; its decoding and its windows share the cores.

    Args:
        songs: The songs; at most twice as many are held as there are threads.
        work: What is done with a song; with no workers it does all by itself.
        device: Where the network runs.
    """
    with one_core_workers(_threads(device)) as workers:
        for is_path, group in groupby(songs, key=lambda song: isinstance(song, str | os.PathLike)):
            begun = list(islice(group, 2)) if is_path else []
            several = len(begun) == 2
            of_songs, of_windows = (workers, Workers()) if several else (Workers(), workers)
            rest = chain(begun, group)  # noqa: B031 - what islice has left
            yield from of_songs.map(_helped(work, of_windows), rest)


def alone(song: AudioSource, work: Callable[[AudioSource, Workers], R], *, device: torch.device) -> R:
    """Returns ``work(song, workers)``; the song's decoding and its windows share the cores."""
    with one_core_workers(_threads(device)) as workers:
        return work(song, workers)


def heard(
    audio: Iterable[tuple[K, npt.NDArray[np.float32]]],
    work: Callable[[Tensor], T],
    *,
    workers: Workers,
    batch_size: int,
    device: torch.device,
) -> Iterator[tuple[list[K], T]]:
    """Yields where the windows of a batch are, and what ``work`` gives of them, batch after batch.

    Args:
        audio: Windows, each with its place: a song's, which start at so many seconds, or those of several songs.
        work: What is done with a batch ``(batch, samples)`` on the device.
        workers: Who does it.
        batch_size: Windows in a batch.
        device: Where the batches are brought.
    """

    def answer(batch: list[tuple[K, npt.NDArray[np.float32]]]) -> tuple[list[K], T]:
        with torch.inference_mode():
            samples = torch.from_numpy(np.stack([window for _, window in batch])).to(device)
            return [place for place, _ in batch], work(samples)

    windows = iter(audio)
    yield from workers.map(answer, iter(lambda: list(islice(windows, batch_size)), []))


def _helped(work: Callable[[AudioSource, Workers], R], workers: Workers) -> Callable[[AudioSource], R]:
    return lambda song: work(song, workers)


def _threads(device: torch.device) -> int:
    # As many as PyTorch would use itself. Other devices than these two are not made for several threads.
    return torch.get_num_threads() if device.type in ("cpu", "cuda") else 1
