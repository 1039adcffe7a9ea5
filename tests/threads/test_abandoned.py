"""Abandoned predictions: no deadlock, no lost worker, correct later predictions, and an interpreter that exits."""

from __future__ import annotations

import gc
import io
import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle

import numpy as np
import pytest
import soundfile
from torch import nn

from musgenre.audio import AudioWindows, ReadOptions, blocks
from musgenre.core.config import AudioSpec

RATE = 8_000
pytestmark = pytest.mark.timeout(120)


class Holder:
    """An object in a reference cycle, which only the garbage collector frees."""

    def __init__(self, iterator):
        self.cycle = self
        self.iterator = iterator


def consume_with_an_error(iterator):
    for _ in iterator:
        raise ZeroDivisionError


class CollectInWorker(nn.Module):
    """An identity layer that, once enabled, blocks workers until it is armed and then collects garbage in them.

    With ``workers``, each worker waits once at a barrier for that many workers, which fails if one is lost.
    """

    def __init__(self, *, workers: int | None = None):
        super().__init__()
        self.enabled = False
        self.armed, self.collected = threading.Event(), threading.Event()
        self.barrier = None if workers is None else threading.Barrier(workers)
        self.arrived = set()

    def forward(self, batch):
        if self.enabled and len(batch) < 4:
            self.armed.wait(30)
            gc.collect()
            self.collected.set()
        if self.barrier is not None and threading.get_ident() not in self.arrived:
            self.arrived.add(threading.get_ident())
            self.barrier.wait(30)
        return batch


@pytest.fixture
def no_gc():
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_gc")
class TestCollectedInAWorker:
    @pytest.mark.parametrize("kind", ["paths", "samples", "files"])
    def test_predictions_continue(self, classifier, paths, threads, kind):
        layer = CollectInWorker()
        classifier.network.head = nn.Sequential(layer, classifier.network.head).eval()
        expected = [classifier.predict(path).probabilities for path in paths[:12]]
        layer.enabled = True
        iterator = classifier.predict_iter([paths[6], *paths[:6]])
        next(iterator)  # ten seconds give four windows, the only batch that is not blocked
        Holder(iterator)
        del iterator  # now unreachable, with running tasks; a worker collects it
        layer.armed.set()
        sources = {
            "paths": paths[:12],
            "samples": [soundfile.read(path, dtype="float32") for path in paths[:12]],
            "files": [io.BytesIO(path.read_bytes()) for path in paths[:12]],
        }[kind]
        results = []
        thread = threading.Thread(target=lambda: results.extend(classifier.predict(sources)), daemon=True)
        thread.start()
        thread.join(60)
        assert not thread.is_alive(), "a worker waits for a task of its own pool"
        assert layer.collected.is_set()
        layer.enabled = False
        classifier.network.head = nn.Sequential(CollectInWorker(workers=threads), classifier.network.head).eval()
        assert len(classifier.predict(paths)) == len(paths)  # uses all workers
        for result, probabilities in zip(results, expected, strict=True):
            assert list(result.probabilities.values()) == pytest.approx(list(probabilities.values()), abs=1e-5)

    @pytest.mark.slow
    def test_audio_iterators(self, classifier, paths, threads):
        layer = CollectInWorker()
        classifier.network.head = nn.Sequential(layer, classifier.network.head).eval()
        files = [path.open("rb") for path in paths[:4]]
        for file in files:
            windows, parts = iter(AudioWindows(file, AudioSpec(RATE))), blocks(paths[0], sample_rate=RATE)
            next(windows), next(parts)
            Holder((windows, parts))
            del windows, parts
        isolated = blocks(paths[0], sample_rate=RATE, reading=ReadOptions(decode="subprocess"))
        next(isolated)
        Holder(isolated)
        del isolated
        layer.enabled = True
        layer.armed.set()
        results = []
        thread = threading.Thread(target=lambda: results.extend(classifier.predict(paths)), daemon=True)
        thread.start()
        thread.join(60)
        assert not thread.is_alive()
        assert len(results) == len(paths)
        for file in files:
            file.close()


class TestAbandoned:
    @pytest.mark.parametrize("how", ["dropped", "closed", "after an exception", "source fails"])
    def test_next_prediction_is_correct(self, classifier, paths, threads, how):
        expected = classifier.predict(paths[0]).probabilities

        def sources():
            yield from paths[:20]
            if how == "source fails":
                raise LookupError("no more")
            yield from cycle(paths)

        iterator = classifier.predict_iter(sources())
        next(iterator)
        if how == "closed":
            iterator.close()
        elif how == "after an exception":
            with pytest.raises(ZeroDivisionError):
                consume_with_an_error(iterator)
        elif how == "source fails":
            with pytest.raises(LookupError, match="no more"):
                list(iterator)
        del iterator
        found = classifier.predict(paths[0]).probabilities
        assert list(found.values()) == pytest.approx(list(expected.values()), abs=1e-6)

    def test_decoding_of_long_files_stops_soon(self, classifier, paths, tmp_path, threads):
        long = tmp_path / "long.wav"
        soundfile.write(long, np.zeros(3600 * RATE, np.int16), RATE)
        batches = []
        classifier.network.backbone.register_forward_pre_hook(lambda *_: batches.append(1))
        iterator = classifier.predict_iter([paths[0], long, long, long, long])
        next(iterator)
        del iterator
        start = time.monotonic()
        classifier.predict([paths[0], paths[1]])
        assert time.monotonic() - start < 20
        before = -1
        while before != len(batches):  # a running batch may still end
            assert time.monotonic() - start < 20
            before = len(batches)
            time.sleep(0.3)
        assert before < 300  # one hour has 120 batches

    @pytest.mark.slow
    def test_callers_and_abandoned_iterators_together(self, classifier, paths, threads):
        """Eight threads predict while others abandon iterators, with frequent garbage collection."""
        sample = soundfile.read(paths[0], dtype="float32")
        expected = list(classifier.predict(sample).probabilities.values())
        rounds, stop = 1_000 // 8, threading.Event()
        errors = []

        def abandon():
            while not stop.is_set():
                iterator = classifier.predict_iter(cycle(paths))
                next(iterator)
                Holder(iterator)

        def predict():
            try:
                for _ in range(rounds):
                    found = list(classifier.predict(sample).probabilities.values())
                    assert found == pytest.approx(expected, abs=1e-5)
            except BaseException as error:  # noqa: BLE001 - asserted on below
                errors.append(error)

        before = gc.get_threshold()
        gc.set_threshold(50, 2, 2)
        try:
            abandoning = [threading.Thread(target=abandon, daemon=True) for _ in range(2)]
            predicting = [threading.Thread(target=predict, daemon=True) for _ in range(8)]
            for thread in (*abandoning, *predicting):
                thread.start()
            for thread in predicting:
                thread.join(100)
            assert not any(thread.is_alive() for thread in predicting)
        finally:
            stop.set()
            gc.set_threshold(*before)
        for thread in abandoning:
            thread.join(30)
        assert not any(thread.is_alive() for thread in abandoning)
        assert errors == []

    def test_nested_predictions_in_a_worker(self, classifier, paths, threads):
        """A layer that calls the classifier runs in a worker, which must not wait for another worker."""
        inner = classifier.predict(paths[1]).probabilities
        found = []

        class Nested(nn.Module):
            def forward(self, batch):
                if not getattr(self, "busy", False):
                    self.busy = True
                    found.append(classifier.predict(paths[1]).probabilities)
                    self.busy = False
                return batch

        classifier.network.head = nn.Sequential(Nested(), classifier.network.head).eval()
        assert len(classifier.predict(paths[:8])) == 8
        assert list(found[0].values()) == pytest.approx(list(inner.values()), abs=1e-5)


@pytest.mark.slow
class TestExit:
    """A fresh interpreter exits within ten seconds, even with open iterators."""

    @pytest.mark.parametrize("source", ["paths", "long", "samples"])
    def test_open_iterator(self, run_script, paths, tmp_path, source):
        long = tmp_path / "long.wav"
        if source == "long":
            soundfile.write(long, np.zeros(3 * 3600 * RATE, np.int16), RATE)
        run_script(
            f"""
import itertools, numpy as np, torch
torch.set_num_threads(2)
classifier = build_classifier()
sources = {{
    "paths": itertools.cycle({[str(path) for path in paths[:5]]!r}),
    "long": [{str(paths[0])!r}, *[{str(long)!r}] * 4],
    "samples": itertools.repeat((np.zeros(80_000, np.float32), 8_000)),
}}[{source!r}]
iterator = classifier.predict_iter(sources)
next(iterator)
print("done", flush=True)
"""
        )

    def test_after_a_collection_in_a_worker(self, run_script, paths):
        run_script(
            f"""
import gc, torch
from test_abandoned import CollectInWorker, Holder
torch.set_num_threads(2)
gc.disable()
classifier = build_classifier()
layer = CollectInWorker()
classifier.network.head = torch.nn.Sequential(layer, classifier.network.head).eval()
layer.enabled = True
paths = {[str(path) for path in paths[:8]]!r}
iterator = classifier.predict_iter([paths[6], *paths[:6]])
next(iterator)
Holder(iterator)
del iterator
layer.armed.set()
assert len(classifier.predict(paths)) == 8
print("done", flush=True)
"""
        )

    def test_cycle_collected_at_exit(self, run_script, paths):
        run_script(
            f"""
import gc, itertools, torch
torch.set_num_threads(2)
gc.disable()
classifier = build_classifier()
class Holder: pass
holder = Holder()
holder.me, holder.iterator = holder, classifier.predict_iter(itertools.cycle({[str(path) for path in paths[:5]]!r}))
next(holder.iterator)
del holder
print("done", flush=True)
"""
        )

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
    def test_fork_during_prediction(self, run_script, paths):
        run_script(
            f"""
import os, torch
torch.set_num_threads(2)
classifier = build_classifier()
paths = {[str(path) for path in paths[:8]]!r}
expected = classifier.predict(paths[0]).probabilities
iterator = classifier.predict_iter(paths)
next(iterator)
child = os.fork()  # while workers compute
if child == 0:
    try:
        next(iterator)
    except RuntimeError as error:
        assert "forked process" in str(error)
    else:
        raise SystemExit("the parent's iterator continued in the child")
    found = classifier.predict(paths)  # with new threads
    assert len(found) == 8
    assert max(abs(found[0].probabilities[k] - v) for k, v in expected.items()) < 1e-5
    raise SystemExit(0)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
assert len(list(iterator)) == 7
print("done", flush=True)
"""
        )

    @pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals")
    @pytest.mark.parametrize("source", ["paths", "file", "long"])
    def test_ctrl_c(self, run_script, paths, tmp_path, source):
        long = tmp_path / "long.wav"
        soundfile.write(long, np.zeros(3600 * RATE, np.int16), RATE)
        output = run_script(
            f"""
import io, itertools, os, signal, threading, torch
torch.set_num_threads(2)
classifier = build_classifier()
classifier.predict({str(paths[0])!r})
sources = {{
    "paths": itertools.cycle({[str(path) for path in paths[:5]]!r}),
    "file": io.BytesIO(open({str(long)!r}, "rb").read()),
    "long": {str(long)!r},
}}[{source!r}]
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell ignores Ctrl-C for its background jobs
threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
try:
    classifier.predict(sources)
except KeyboardInterrupt:
    print("interrupted", flush=True)
classifier.predict({str(paths[0])!r})
print("done", flush=True)
"""
        )
        assert "interrupted" in output


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_fork_while_another_thread_opens_a_file(paths):
    class SlowFile(io.BytesIO):
        def read(self, count=-1):
            time.sleep(0.1)
            return super().read(count)

    file = SlowFile(paths[0].read_bytes())
    thread = threading.Thread(target=lambda: next(blocks(file, sample_rate=RATE)), daemon=True)
    thread.start()
    codes = []
    while thread.is_alive():
        child = os.fork()
        if child == 0:
            signal.alarm(20)  # ends the child if it waits for a lock of the thread, which it does not have
            next(blocks(paths[0], sample_rate=RATE))
            os._exit(0)
        codes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        time.sleep(0.05)
    assert len(codes) > 1
    assert set(codes) == {0}


class TestConcurrentCallers:
    def test_eight_threads_get_equal_predictions(self, classifier, threads):
        random = np.random.default_rng(0)
        songs = [(random.normal(scale=0.1, size=800 + 900 * number).astype(np.float32), RATE) for number in range(24)]
        expected = [classifier.predict(song).windows.probabilities for song in songs]
        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(lambda song: classifier.predict(song).windows.probabilities, songs * 3))
        for before, after in zip(expected * 3, found, strict=True):
            np.testing.assert_allclose(after, before, atol=1e-6)
