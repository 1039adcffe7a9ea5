"""Threads for work that computes outside of Python: workers with one core each, and work done ahead of its use."""

from __future__ import annotations

import contextlib
import functools
import os
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor, wait
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def ahead(items: Iterable[T], *, depth: int = 2) -> Generator[T, None, None]:
    """Yields what an iterable yields, having a thread of its own compute the next few meanwhile.

    Args:
        items: What is iterated over, all in that thread.
        depth: How many are computed before they are asked for, at least 1.

    Example:
        >>> list(ahead(range(4)))
        [0, 1, 2, 3]
    """
    iterator, end = iter(items), object()
    with ThreadPoolExecutor(1) as thread:
        waiting: deque[Future[T | object]] = deque(thread.submit(next, iterator, end) for _ in range(depth))
        with _cancelled_at_the_end(waiting):
            while (item := waiting.popleft().result()) is not end:
                waiting.append(thread.submit(next, iterator, end))
                yield item  # type: ignore[misc]


@contextlib.contextmanager
def one_core_workers(count: int) -> Iterator[Workers]:
    """Gives threads in which PyTorch computes on one core each; they are kept for the next who asks.

    Two threads that work on a window each are done sooner than two that share every window, for these have to wait
    for one another several hundred times, and wait long where a third thread, such as the decoder's, wants the core.

    Args:
        count: Number of threads; below 2 all work is done by the caller's own thread, when it is asked for.
    """
    if count < 2:
        yield Workers()
        return
    import torch

    yield Workers(_pool(count, torch.get_num_threads()), pending=2 * count)


@functools.cache
def _pool(count: int, intra_op_threads: int) -> ThreadPoolExecutor:
    """Returns threads that are kept: the memory and the plans of a thread that has computed before are warm."""
    return ThreadPoolExecutor(count, initializer=_compute_on_one_core, initargs=(intra_op_threads,))


# A forked process has none of its parent's threads.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.cache_clear)


class Workers:
    """What :func:`one_core_workers` gives; by itself, nobody: all is done by whoever asks.

    Attributes:
        several: Whether there are threads.
    """

    def __init__(self, pool: Executor | None = None, *, pending: int = 0) -> None:
        self._pool = pool
        self._pending = pending
        self.several = pool is not None

    def map(self, work: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
        """Yields ``work(item)`` for each item, in order; twice as many items as there are threads are held at a time.

        The items are made in the caller's thread. The first error ends it; what has not begun by then never does.
        """
        if self._pool is None:
            yield from map(work, items)
            return
        waiting: deque[Future[R]] = deque()
        with _cancelled_at_the_end(waiting):
            for item in items:
                waiting.append(self._pool.submit(work, item))
                if len(waiting) == self._pending:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()


@contextlib.contextmanager
def _cancelled_at_the_end(waiting: deque[Future[R]]) -> Iterator[None]:
    try:
        yield
    finally:
        wait([future for future in waiting if not future.cancel()])


def _compute_on_one_core(elsewhere: int) -> None:
    """Sets PyTorch's threads to one for the calling thread alone."""
    import torch

    torch.get_num_threads()  # the first call in a thread sets that thread's number to the common one
    torch.set_num_threads(1)  # this thread's number, and the common one, which threads to come start with
    again = threading.Thread(target=torch.set_num_threads, args=(elsewhere,))
    again.start()  # the common one as it was, from a thread whose own number concerns nobody
    again.join()
