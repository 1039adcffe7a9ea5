"""Threads that work ahead or side by side: nothing is lost, reordered, held or left running."""

from __future__ import annotations

import threading

import pytest
import torch

from musgenre.core.threads import Workers, ahead, one_core_workers


class TestAhead:
    @pytest.mark.parametrize("count", [0, 1, 2, 7])
    def test_everything_in_order(self, count):
        assert list(ahead(range(count))) == list(range(count))

    def test_is_ahead_in_one_other_thread(self):
        threads, second = set(), threading.Event()

        def items():
            for item in range(3):
                threads.add(threading.get_ident())
                if item == 1:
                    second.set()
                yield item

        reader = ahead(items())
        assert next(reader) == 0
        assert second.wait(10)  # nobody has asked for it
        assert list(reader) == [1, 2]
        assert len(threads) == 1
        assert threading.get_ident() not in threads

    def test_no_further_than_it_says(self):
        made = []
        reader = ahead(map(made.append, range(100)), depth=2)
        next(reader)
        reader.close()
        assert len(made) <= 3

    def test_an_error_comes_in_its_turn(self):
        def items():
            yield 1
            raise KeyError("two")

        reader = ahead(items())
        assert next(reader) == 1
        with pytest.raises(KeyError, match="two"):
            next(reader)

    def test_leaves_no_thread(self):
        before = threading.active_count()
        for reader in (ahead(range(5)), ahead(iter(int, 1))):
            next(reader)
            reader.close()
        assert threading.active_count() == before


@pytest.mark.usefixtures("two_threads")
class TestWorkers:
    @pytest.mark.parametrize("count", [1, 2, 3])
    def test_everything_in_order(self, count):
        with one_core_workers(count) as workers:
            assert list(workers.map(lambda item: item * item, range(20))) == [item * item for item in range(20)]
            assert workers.several == (count > 1)

    def test_one_core_each_and_elsewhere_as_before(self):
        with one_core_workers(2) as workers:
            assert set(workers.map(lambda _: torch.get_num_threads(), range(8))) == {1}
            assert torch.get_num_threads() == 2
        fresh = []
        thread = threading.Thread(target=lambda: fresh.append(torch.get_num_threads()))
        thread.start()
        thread.join()
        assert fresh == [2]

    def test_few_are_held(self):
        made, done = [], []
        with one_core_workers(2) as workers:
            for _ in workers.map(lambda item: item, map(lambda item: made.append(item) or item, range(50))):  # noqa: C417
                done.append(1)
                assert len(made) - len(done) <= 4

    def test_an_error_ends_it(self):
        begun = []

        def work(item):
            begun.append(item)
            return 1 // (item - 3)

        with one_core_workers(2) as workers, pytest.raises(ZeroDivisionError):
            list(workers.map(work, range(1000)))
        assert len(begun) < 20

    def test_nobody_works_when_asked(self):
        thread = threading.get_ident()
        assert list(Workers().map(lambda _: threading.get_ident(), range(2))) == [thread, thread]
