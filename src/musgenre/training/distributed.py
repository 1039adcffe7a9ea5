"""What several processes that train one network tell each other."""

from __future__ import annotations

import os
from typing import TypeVar

_RANKS = ("RANK", "LOCAL_RANK", "SLURM_PROCID", "JSM_NAMESPACE_RANK")

Item = TypeVar("Item")


def rank() -> int:
    """Returns the number of this process, from 0, among those that Lightning, torchrun or SLURM has started.

    It is looked for where Lightning looks, which need not be imported for it.
    """
    return next((int(os.environ[name]) for name in _RANKS if name in os.environ), 0)


def several() -> bool:
    """Says whether this is one of several processes that are connected."""
    from torch import distributed

    return distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1


def gathered(item: Item) -> list[Item]:
    """Returns what each process has given, in the same order everywhere; of a single one, its own.

    Example:
        >>> gathered({"right": 3})
        [{'right': 3}]
    """
    if not several():
        return [item]
    from torch import distributed

    items: list[Item | None] = [None] * distributed.get_world_size()
    distributed.all_gather_object(items, item)
    return [one for one in items if one is not None]


def meet() -> None:
    """Waits until all processes have come here."""
    if several():
        from torch import distributed

        distributed.barrier()
