"""Threads: an iterator that computes items ahead, and workers in which PyTorch uses one core each.

Nothing here waits in code that the garbage collector may run (a generator's ``finally``, ``__del__``, a weak
reference's callback), since that code runs in any thread and at any time: a worker that waited there for a task of its
own pool would wait forever. Abandoned tasks are cancelled and not joined.
"""

from __future__ import annotations

import functools
import os
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from typing import TypeVar

from musgenre.core.errors import ParameterError

T = TypeVar("T")
R = TypeVar("R")

_END = object()
_FORK_SECONDS = 10.0
_local = threading.local()  # ``task``: the task that this worker thread runs


class Prefetcher(Iterator[T]):
    """Iterates over items that one background thread computes ahead.

    Used as a context manager, it waits at the end for the item that is being computed, so that the caller may close
    the source of the items. If it is dropped, nothing waits: items that are not computed yet are cancelled, and the
    thread ends.

    Args:
        items: Iterable that the thread iterates over.
        depth: Number of items computed ahead, at least 1.

    Raises:
        ParameterError: ``depth`` is less than 1.

    Example:
        >>> with Prefetcher(range(4)) as items:
        ...     list(items)
        [0, 1, 2, 3]
    """

    def __init__(self, items: Iterable[T], *, depth: int = 2) -> None:
        if depth < 1:
            raise ParameterError(f"depth must be at least 1, not {depth!r}.")
        self._items = iter(items)
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="musgenre-prefetch")
        self._pending: deque[Future[T | object]] = deque()
        for _ in range(depth):
            self._submit()

    def __next__(self) -> T:
        """Return the next item; errors of the iterable are raised here.

        Raises:
            StopIteration: There are no more items.
        """
        if not self._pending:
            raise StopIteration
        item = self._pending.popleft().result()
        if item is _END:
            self.close()
            raise StopIteration
        self._submit()
        return item  # type: ignore[return-value]

    def __enter__(self) -> Prefetcher[T]:
        """Return the iterator itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the iterator."""
        self.close()

    def close(self) -> None:
        """Cancel the remaining items and wait for the one that is being computed."""
        self._pending.clear()
        self._executor.shutdown(wait=True, cancel_futures=True)

    def _submit(self) -> None:
        # A task holds a weak reference to the iterator: once that is dropped, it does nothing.
        self._pending.append(self._executor.submit(_compute_next, weakref.ref(self)))


def _compute_next(reference: weakref.ref[Prefetcher[T]]) -> T | object:
    prefetcher = reference()
    return _END if prefetcher is None else next(prefetcher._items, _END)


class WorkerPool:
    """Applies a function to items in worker threads. Without an executor, it runs in the caller's thread.

    Args:
        executor: Threads that run the function.
        max_pending: Number of items in progress at a time.
    """

    def __init__(self, executor: ThreadPoolExecutor | None = None, *, max_pending: int = 1) -> None:
        self._executor = executor
        self._max_pending = max_pending

    @property
    def is_parallel(self) -> bool:
        """Whether there are worker threads."""
        return self._executor is not None

    def map(self, function: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
        """Yield ``function(item)`` for each item, in order, with a bounded number of items in progress.

        The items are taken in the caller's thread. After the first error, and when the iterator is closed or dropped,
        tasks that have not started never start, and running tasks end at their next :func:`raise_if_cancelled`.

        Raises:
            RuntimeError: The iterator is continued in a forked process, which has none of its parent's threads.
        """
        if self._executor is None:
            yield from map(function, items)
            return
        run = _Run(self._executor)
        pending: deque[Future[R]] = deque()
        try:
            for item in items:
                pending.append(self._executor.submit(run.call, function, item))
                if len(pending) == self._max_pending:
                    yield run.result(pending.popleft())
            while pending:
                yield run.result(pending.popleft())
        finally:
            run.is_abandoned = True  # the garbage collector may close this generator, so no lock is taken here


class _Run:
    """Shared state of the tasks of one call of :meth:`WorkerPool.map`."""

    def __init__(self, executor: ThreadPoolExecutor) -> None:
        self.is_abandoned = False
        self._executor = executor
        self._owner = os.getpid()

    def call(self, function: Callable[[T], R], item: T) -> R:
        if self.is_abandoned:
            raise CancelledError
        _local.task = self
        try:
            return function(item)
        finally:
            _local.task = None

    def result(self, future: Future[R]) -> R:
        if os.getpid() != self._owner:
            raise RuntimeError("An iterator over predictions cannot be continued in a forked process; start a new one.")
        return future.result()

    def is_exiting(self) -> bool:
        # An executor refuses tasks as soon as the interpreter shuts down, which then waits for those that run. The
        # standard library has no other public sign of that moment.
        try:
            self._executor.submit(int)
        except RuntimeError:
            return True
        return False


def raise_if_cancelled() -> None:
    """End the current task of a worker if its result is no longer wanted or the interpreter exits.

    Long tasks call it between their steps. It does nothing in other threads.

    Raises:
        CancelledError: The task is cancelled.
    """
    task: _Run | None = getattr(_local, "task", None)
    if task is not None and (task.is_abandoned or task.is_exiting()):
        raise CancelledError


def single_core_workers(count: int) -> WorkerPool:
    """Return worker threads in which PyTorch uses one core each; later calls return the same threads.

    Two threads that process one window each are faster than two threads that share every window, which synchronise
    several hundred times, and wait long if another thread, such as a decoder's, occupies a core.

    Args:
        count: Number of threads. With fewer than 2, and in a worker thread itself, which must not wait for its own
            pool, functions run in the caller's thread.
    """
    if count < 2 or getattr(_local, "task", None) is not None:
        return WorkerPool()
    import torch

    return WorkerPool(_executor(count, torch.get_num_threads()), max_pending=2 * count)


@functools.cache
def _executor(count: int, intra_op_threads: int) -> ThreadPoolExecutor:
    """Return cached threads: PyTorch's memory and execution plans are warm in a thread that has computed before."""
    return ThreadPoolExecutor(
        count,
        thread_name_prefix="musgenre-worker",
        initializer=_compute_on_one_core,
        initargs=(intra_op_threads,),
    )


class _ForkGate:
    """Lets ``os.fork`` wait until no thread is in a step that holds a library's lock.

    A forked process has a copy of the locks of oneDNN, soundfile and others, but not the threads that hold them.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget all steps, in a forked process: threads that do not exist there may hold the parent's lock."""
        self._condition = threading.Condition()
        self._running = 0
        self._is_forking = False

    def __enter__(self) -> None:
        with self._condition:
            self._condition.wait_for(lambda: not self._is_forking)
            self._running += 1

    def __exit__(self, *_: object) -> None:
        with self._condition:
            self._running = max(0, self._running - 1)  # 0 if this process was forked within the step
            self._condition.notify_all()

    def close(self) -> None:
        """Let no further step begin, and wait for those that run, for a limited time: one of them may be forking."""
        with self._condition:
            self._is_forking = True
            self._condition.wait_for(lambda: self._running == 0, timeout=_FORK_SECONDS)

    def open(self) -> None:
        """Let steps begin again."""
        with self._condition:
            self._is_forking = False
            self._condition.notify_all()


_fork_gate = _ForkGate()


def no_fork() -> _ForkGate:
    """Return a context manager for a step that uses a library's global locks: ``os.fork`` in another thread waits.

    Steps are short and not nested: when a fork waits, no step begins.
    """
    return _fork_gate


def _reset_after_fork() -> None:
    _fork_gate.reset()
    _executor.cache_clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_fork_gate.close, after_in_parent=_fork_gate.open, after_in_child=_reset_after_fork)


def _compute_on_one_core(default: int) -> None:
    """Set the number of PyTorch's threads to one for the calling thread only.

    ``torch.set_num_threads`` sets the number for the calling thread and the default for threads that start later;
    another thread restores the default.
    """
    import torch

    torch.get_num_threads()  # the first call in a thread applies the default
    torch.set_num_threads(1)
    restore = threading.Thread(target=torch.set_num_threads, args=(default,))
    restore.start()
    restore.join()
