"""Saving of models, caches and reports under kills, concurrency, full disks and read-only directories."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

import musgenre
from musgenre.core.errors import DatasetError, MusgenreError, ParameterError, WeightsError
from musgenre.core.files import file_lock
from musgenre.evaluation.report import write_text
from musgenre.training.embedding_cache import PART_ROWS, CachedArray


@pytest.fixture
def numbered(make):
    """Creates models that encode a number in both files, as labels and as weights."""

    def model(number: int) -> musgenre.GenreClassifier:
        classifier = make((f"a{number}", f"b{number}"))
        torch.nn.init.constant_(classifier.network.head[-1].bias, float(number))
        return classifier

    return model


def number_of(folder: Path) -> int:
    classifier = musgenre.GenreClassifier.from_pretrained(folder)
    number = int(classifier.labels[0].removeprefix("a"))
    assert classifier.labels == (f"a{number}", f"b{number}")
    assert classifier.network.head[-1].bias.tolist() == [number, number]
    return number


def fork(work: Callable[[], None]) -> int:
    """Forks a process that calls ``work``, and returns its id; avoids importing PyTorch again."""
    if not hasattr(os, "fork"):
        pytest.skip("needs os.fork")
    process = os.fork()
    if process == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    return process


def exit_code(process: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith(".README"))


class TestKilledWhileSaving:
    @pytest.mark.parametrize(("renames", "expected"), [(0, 0), (1, 1), (2, 1)])
    def test_before_each_rename(self, tmp_path, numbered, monkeypatch, renames, expected):
        """The old model is complete before the first rename, and the new one after it."""
        numbered(0).save_pretrained(tmp_path)
        done, replace, second = [], Path.replace, numbered(1)

        def killed(path, target):
            if len(done) == renames:
                os.kill(os.getpid(), signal.SIGKILL)
            done.append(target)
            return replace(path, target)

        with monkeypatch.context() as patch:
            patch.setattr(Path, "replace", killed)
            process = fork(lambda: second.save_pretrained(tmp_path))
        assert exit_code(process) == -signal.SIGKILL
        assert number_of(tmp_path) == expected
        numbered(2).save_pretrained(tmp_path)
        assert number_of(tmp_path) == 2
        assert files(tmp_path) == ["README.md", "config.json", "model.safetensors"]

    @pytest.mark.slow
    def test_at_random_times(self, tmp_path, numbered):
        models, random = [numbered(number) for number in range(20)], np.random.default_rng(0)
        models[0].save_pretrained(tmp_path)

        def save_all():
            for model in models * 50:
                model.save_pretrained(tmp_path)

        for _ in range(15):
            process = fork(save_all)
            time.sleep(random.uniform(0.02, 0.1))
            os.kill(process, signal.SIGKILL)
            assert exit_code(process) == -signal.SIGKILL
            assert number_of(tmp_path) in range(20)
        models[7].save_pretrained(tmp_path)
        assert number_of(tmp_path) == 7
        assert files(tmp_path) == ["README.md", "config.json", "model.safetensors"]

    def test_an_edited_configuration_takes_precedence(self, tmp_path, make):
        make().save_pretrained(tmp_path)
        config = tmp_path / "config.json"
        config.write_text(config.read_text().replace("hiss", "noise"))
        (tmp_path / ".saving").mkdir()
        (tmp_path / ".saving" / "config.json").write_text("{")
        assert musgenre.GenreClassifier.from_pretrained(tmp_path).labels == ("drone", "noise")


class TestConcurrency:
    @pytest.mark.slow
    def test_processes_and_threads_save_one_model(self, tmp_path, numbered):
        models = [numbered(number) for number in range(16)]

        def save_all(some):
            with ThreadPoolExecutor(8) as pool:
                list(pool.map(lambda model: model.save_pretrained(tmp_path), some * 3))

        processes = [fork(lambda some=some: save_all(some)) for some in (models[:8], models[8:])]
        assert [exit_code(process) for process in processes] == [0, 0]
        assert number_of(tmp_path) in range(16)
        assert files(tmp_path) == ["README.md", "config.json", "model.safetensors"]

    def test_processes_and_threads_fill_one_cache(self, tmp_path):
        shape = (5 * PART_ROWS + 3, 1, 4)

        def compute(parts):
            for part in parts:
                with (tmp_path / "computed").open("a") as file:
                    file.write(f"{part}\n")
                yield np.repeat(np.arange(part.start, part.stop, dtype=np.float32)[:, None], 4, axis=1)

        def fill():
            with ThreadPoolExecutor(8) as pool:
                list(pool.map(lambda _: CachedArray(tmp_path / "cache", shape=shape).fill(compute), range(8)))

        processes = [fork(fill) for _ in range(2)]
        assert [exit_code(process) for process in processes] == [0, 0]
        rows = np.lib.format.open_memmap(CachedArray(tmp_path / "cache", shape=shape).fill(compute), mode="r")
        np.testing.assert_array_equal(rows[:, 0, 0], np.arange(shape[0]))
        computed = (tmp_path / "computed").read_text().splitlines()
        assert len(computed) == len(set(computed)) == 6

    def test_file_lock_is_exclusive(self, tmp_path):
        active, counts = [], []

        def work(_):
            with file_lock(tmp_path / "lock"):
                active.append(1)
                counts.append(len(active))
                time.sleep(0.001)
                active.pop()

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(work, range(40)))
        assert max(counts) == 1
        assert list(tmp_path.iterdir()) == []
        with (
            file_lock(tmp_path / "lock"),
            pytest.raises(TimeoutError),
            file_lock(tmp_path / "lock", wait=False),
        ):
            pass


class TestFileSystems:
    """Existing files are unchanged, and the error states the cause."""

    def test_full_disk(self, small_disk, make):
        make().save_pretrained(small_disk / "model")
        before = {path.name: path.read_bytes() for path in (small_disk / "model").iterdir()}
        free = os.statvfs(small_disk)
        (small_disk / "full").write_bytes(bytes(free.f_bavail * free.f_frsize - 8_192))
        with pytest.raises(WeightsError, match=r"No space left|os error 28"):
            make(("jazz", "rock"), seed=1).save_pretrained(small_disk / "model")
        assert {path.name: path.read_bytes() for path in (small_disk / "model").iterdir()} == before
        assert musgenre.GenreClassifier.from_pretrained(small_disk / "model").labels == ("drone", "hiss")
        with pytest.raises(DatasetError, match="are free"):
            CachedArray(small_disk / "cache", shape=(10_000, 1, 64)).fill(lambda parts: (_ for _ in parts))
        (small_disk / "report.json").write_text("{}")
        with pytest.raises(ParameterError, match="No space left"):
            write_text(small_disk / "report.json", "x" * 1_000_000)
        assert (small_disk / "report.json").read_text() == "{}"

    def test_read_only_directory(self, tmp_path, read_only, make):
        make().save_pretrained(tmp_path / "writable" / "model")
        assert musgenre.GenreClassifier.from_pretrained(read_only / "model").labels == ("drone", "hiss")
        attempts = {
            "model": lambda: make(("jazz", "rock")).save_pretrained(read_only / "model"),
            "new": lambda: make().save_pretrained(read_only / "new"),
            "cache": lambda: CachedArray(read_only / "cache", shape=(8, 1, 4)).fill(lambda parts: (_ for _ in parts)),
            "report": lambda: write_text(read_only / "report", "{}"),
        }
        for name, attempt in attempts.items():
            with pytest.raises(MusgenreError, match="Read-only") as caught:
                attempt()
            assert str(read_only / name) in str(caught.value)
        assert musgenre.GenreClassifier.from_pretrained(read_only / "model").labels == ("drone", "hiss")
