"""Communication between the processes that train one network."""

from __future__ import annotations

import os
from typing import TypeVar

_RANKS = ("RANK", "LOCAL_RANK", "SLURM_PROCID", "JSM_NAMESPACE_RANK")

T = TypeVar("T")


def rank() -> int:
    """Return the rank of this process, from 0, among those that Lightning, torchrun or SLURM started.

    It is read from the environment variables that Lightning reads, without importing Lightning.
    """
    return next((int(os.environ[name]) for name in _RANKS if name in os.environ), 0)


def is_distributed() -> bool:
    """Return whether this is one of several connected processes."""
    from torch import distributed

    return distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1


def gather(item: T) -> list[T]:
    """Return the items of all processes, in the same order in each of them.

    Example:
        >>> gather({"right": 3})
        [{'right': 3}]
    """
    if not is_distributed():
        return [item]
    from torch import distributed

    items: list[T | None] = [None] * distributed.get_world_size()
    distributed.all_gather_object(items, item)
    return [one for one in items if one is not None]


def barrier() -> None:
    """Wait until all processes have called this function."""
    if is_distributed():
        from torch import distributed

        distributed.barrier()
