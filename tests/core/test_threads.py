"""Prefetching and worker threads: order, bounds, errors, cancellation, and finalisers that do not block."""

from __future__ import annotations

import gc
import os
import threading
import time
import weakref
from concurrent.futures import CancelledError

import pytest
import torch

from musgenre.core import threads
from musgenre.core.errors import ParameterError
from musgenre.core.threads import Prefetcher, WorkerPool, no_fork, raise_if_cancelled, single_core_workers


def wait_until(condition, seconds=10.0):
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.005)
    return condition()


class TestPrefetcher:
    @pytest.mark.parametrize("count", [0, 1, 2, 7])
    def test_order(self, count):
        with Prefetcher(range(count)) as items:
            assert list(items) == list(range(count))

    def test_computes_ahead_in_one_other_thread(self):
        threads, second = set(), threading.Event()

        def items():
            for item in range(3):
                threads.add(threading.get_ident())
                if item == 1:
                    second.set()
                yield item

        with Prefetcher(items()) as reader:
            assert next(reader) == 0
            assert second.wait(10)  # before it is requested
            assert list(reader) == [1, 2]
        assert len(threads) == 1
        assert threading.get_ident() not in threads

    @pytest.mark.parametrize("depth", [1, 2, 5])
    def test_depth(self, depth):
        computed = []
        with Prefetcher(map(computed.append, range(100)), depth=depth) as reader:
            next(reader)
        assert len(computed) <= 1 + depth

    def test_depth_is_validated(self):
        with pytest.raises(ParameterError, match="depth must be at least 1, not 0"):
            Prefetcher([], depth=0)

    def test_errors_are_raised_in_order(self):
        def items():
            yield 1
            raise KeyError("two")

        with Prefetcher(items()) as reader:
            assert next(reader) == 1
            with pytest.raises(KeyError, match="two"):
                next(reader)
            assert list(reader) == []

    def test_closing_waits_for_the_running_item(self):
        started, finished = threading.Event(), []

        def items():
            yield 0
            started.set()
            time.sleep(0.1)
            finished.append(1)
            yield 1

        with Prefetcher(items()) as reader:
            next(reader)
            started.wait(10)
        assert finished == [1]

    def test_closing_ends_the_thread(self):
        before = threading.active_count()
        with Prefetcher(iter(int, 1)) as reader:
            next(reader)
        assert threading.active_count() == before

    def test_a_dropped_iterator_cancels_its_items_and_ends_its_thread(self):
        before, computed, blocked = threading.active_count(), [], threading.Event()

        def items():
            for number in range(100):
                computed.append(number)
                if number == 1:
                    blocked.wait(30)
                yield number

        reader = Prefetcher(items(), depth=8)
        next(reader)
        start = time.monotonic()
        del reader  # does not block, although an item is being computed
        assert time.monotonic() - start < 5
        assert threading.active_count() > before
        blocked.set()
        assert wait_until(lambda: threading.active_count() == before)
        assert len(computed) <= 3

    def test_a_dropped_iterator_frees_its_items(self):
        class Owner:
            def __iter__(self):
                while True:
                    yield self

        owner = Owner()
        alive = weakref.ref(owner)
        reader = Prefetcher(owner)
        next(reader)
        del owner, reader
        assert wait_until(lambda: gc.collect() >= 0 and alive() is None)


@pytest.mark.usefixtures("two_threads")
class TestWorkerPool:
    @pytest.mark.parametrize("count", [1, 2, 3])
    def test_order(self, count):
        workers = single_core_workers(count)
        assert list(workers.map(lambda item: item * item, range(20))) == [item * item for item in range(20)]
        assert workers.is_parallel == (count > 1)

    def test_one_core_in_workers_and_the_default_elsewhere(self):
        workers = single_core_workers(2)
        assert set(workers.map(lambda _: torch.get_num_threads(), range(8))) == {1}
        assert torch.get_num_threads() == 2
        fresh = []
        thread = threading.Thread(target=lambda: fresh.append(torch.get_num_threads()))
        thread.start()
        thread.join()
        assert fresh == [2]

    def test_a_bounded_number_of_items_is_in_progress(self):
        taken, done = [], []
        items = (taken.append(item) or item for item in range(50))
        for _ in single_core_workers(2).map(lambda item: item, items):
            done.append(1)
            assert len(taken) - len(done) <= 4

    def test_the_first_error_cancels_the_rest(self):
        started = []

        def work(item):
            started.append(item)
            return 1 // (item - 3)

        with pytest.raises(ZeroDivisionError):
            list(single_core_workers(2).map(work, range(1000)))
        assert len(started) < 20

    def test_without_an_executor_tasks_run_in_the_callers_thread(self):
        thread = threading.get_ident()
        assert list(WorkerPool().map(lambda _: threading.get_ident(), range(2))) == [thread, thread]

    @pytest.mark.parametrize("drop", [True, False], ids=["dropped", "closed"])
    def test_abandoned_tasks_are_cancelled_and_not_joined(self, drop):
        entered, release, ended = threading.Event(), threading.Event(), []

        def work(item):
            if item == 0:
                return item
            entered.set()
            release.wait(30)
            try:
                raise_if_cancelled()
            except CancelledError:
                ended.append("cancelled")
                raise
            ended.append(item)
            return item

        results = single_core_workers(2).map(work, range(20))
        next(results)
        assert entered.wait(10)
        start = time.monotonic()
        if drop:
            del results
        else:
            results.close()
        assert time.monotonic() - start < 5
        release.set()
        assert list(single_core_workers(2).map(lambda item: item, range(8))) == list(range(8))
        assert set(ended) == {"cancelled"}
        assert len(ended) <= 2

    def test_a_worker_does_not_wait_for_its_own_pool(self):
        def work(item):
            nested = single_core_workers(2)
            assert not nested.is_parallel
            return sum(nested.map(lambda number: number, range(item)))

        assert list(single_core_workers(2).map(work, range(10))) == [sum(range(item)) for item in range(10)]

    def test_nothing_is_cancelled_outside_of_a_task(self):
        assert raise_if_cancelled() is None
        assert list(single_core_workers(2).map(lambda _: raise_if_cancelled(), range(4))) == [None] * 4


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
class TestFork:
    def test_fork_waits_for_running_steps(self):
        entered, ended = threading.Event(), []

        def work():
            with no_fork():
                entered.set()
                time.sleep(0.3)
                ended.append(time.monotonic())

        thread = threading.Thread(target=work)
        thread.start()
        entered.wait(10)
        child = os.fork()
        if child == 0:
            os._exit(0 if ended else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        thread.join()
        with no_fork():  # steps begin again
            pass

    def test_fork_in_a_step_waits_for_a_limited_time(self, monkeypatch):
        monkeypatch.setattr(threads, "_FORK_SECONDS", 0.1)
        with no_fork():
            child = os.fork()
            if child == 0:
                with no_fork():
                    os._exit(0)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
