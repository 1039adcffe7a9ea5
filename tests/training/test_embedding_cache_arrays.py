"""The cached array: complete or absent, whatever interrupts its computation."""

from __future__ import annotations

import contextlib
import errno
import os
import subprocess
import threading
import time
import warnings
from collections.abc import Generator, Iterator
from pathlib import Path

import filelock
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from musgenre.core.errors import AudioFileError, DatasetError
from musgenre.datasets.base import DatasetWarning
from musgenre.training import embedding_cache
from musgenre.training.embedding_cache import PART_ROWS, CachedArray

SHAPE = (3 * PART_ROWS + 5, 2, 7)
EXPECTED = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)


class Source:
    """Computes the rows of ``EXPECTED``, records which, and may fail before one of them."""

    def __init__(
        self, *, fails_at: int | None = None, error: BaseException | None = None, pause_seconds: float = 0.0
    ) -> None:
        self.requested: list[range] = []
        self.fails_at = fails_at
        self.error = error
        self.pause_seconds = pause_seconds

    def __call__(self, parts: list[range]) -> Generator[np.ndarray]:
        for part in parts:
            if self.fails_at in part and self.error is not None:
                raise self.error
            self.requested.append(part)
            time.sleep(self.pause_seconds)
            yield EXPECTED.reshape(-1, SHAPE[-1])[part.start : part.stop]


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} - {"lock"}


def test_the_file_contains_the_computed_array_and_can_be_read_by_numpy(tmp_path: Path):
    source = Source()
    path = CachedArray(tmp_path / "a" / "b", shape=SHAPE).fill(source)
    np.testing.assert_array_equal(np.load(path), EXPECTED)
    assert isinstance(np.load(path, mmap_mode="r"), np.memmap)
    assert [row for part in source.requested for row in part] == list(range(SHAPE[0] * SHAPE[1]))
    assert names_in(path.parent) == {"embeddings.npy"}


def test_a_complete_array_is_not_computed_again_even_in_a_read_only_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = CachedArray(tmp_path, shape=SHAPE).fill(Source())
    before = path.stat().st_mtime_ns
    monkeypatch.setattr(filelock, "FileLock", None)
    source = Source()
    assert CachedArray(tmp_path, shape=SHAPE).fill(source) == path
    assert source.requested == []
    assert path.stat().st_mtime_ns == before


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("out of memory")])
def test_parts_computed_before_an_interruption_are_reused(tmp_path: Path, error: BaseException):
    first = Source(fails_at=2 * PART_ROWS + 3, error=error)
    with pytest.raises(type(error)):
        CachedArray(tmp_path, shape=SHAPE).fill(first)
    assert not (tmp_path / "embeddings.npy").exists()
    second = Source()
    path = CachedArray(tmp_path, shape=SHAPE).fill(second)
    assert len(first.requested) == 2
    assert second.requested[0] == range(2 * PART_ROWS, 3 * PART_ROWS)
    np.testing.assert_array_equal(np.load(path), EXPECTED)
    assert names_in(tmp_path) == {"embeddings.npy"}


def test_partial_files_of_a_killed_process_are_removed(tmp_path: Path):
    (tmp_path / ".part-000000000.npy.0123.partial").write_bytes(b"half")
    CachedArray(tmp_path, shape=SHAPE).fill(Source())
    assert names_in(tmp_path) == {"embeddings.npy"}


@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_any_changed_byte_is_detected(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject):
    folder = tmp_path_factory.mktemp("cache")
    path = CachedArray(folder, shape=(4, 3)).fill(lambda _: (rows for rows in [EXPECTED[:4, 0, :3]]))
    content = bytearray(path.read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content)
    with pytest.warns(DatasetWarning, match="damaged"):
        CachedArray(folder, shape=(4, 3)).fill(lambda _: (rows for rows in [EXPECTED[:4, 0, :3]]))
    np.testing.assert_array_equal(np.load(path), EXPECTED[:4, 0, :3])


@pytest.mark.parametrize("damage", ["empty", "truncated", "text", "no checksum", "shape"])
@pytest.mark.parametrize("name", ["embeddings.npy", "part-000000000.npy"])
def test_a_damaged_file_is_computed_again_with_one_warning(tmp_path: Path, name: str, damage: str):
    last = SHAPE[0] * SHAPE[1] - 1
    if name.startswith("part"):
        with pytest.raises(RuntimeError):
            CachedArray(tmp_path, shape=SHAPE).fill(Source(fails_at=last, error=RuntimeError()))
    else:
        CachedArray(tmp_path, shape=SHAPE).fill(Source())
    path = tmp_path / name
    content = path.read_bytes()
    if damage == "no checksum":  # as np.save writes it, without a checksum
        np.save(path, np.zeros(SHAPE, np.float32))
    elif damage == "shape":
        other = CachedArray(tmp_path / "other", shape=(1, 1)).fill(lambda _: (rows for rows in [EXPECTED[0, :1, :1]]))
        other.replace(path)
    else:
        path.write_bytes({"empty": b"", "truncated": content[:-7], "text": b"not an array"}[damage])
    with pytest.warns(DatasetWarning, match="damaged") as record:
        CachedArray(tmp_path, shape=SHAPE).fill(Source())
    assert len(record) == 1
    np.testing.assert_array_equal(np.load(tmp_path / "embeddings.npy"), EXPECTED)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        CachedArray(tmp_path, shape=SHAPE).fill(Source())


def test_one_thread_computes_while_the_others_wait(tmp_path: Path):
    sources = [Source(pause_seconds=0.02) for _ in range(6)]
    arrays: list[np.ndarray] = []
    threads = [
        threading.Thread(target=lambda s=source: arrays.append(np.load(CachedArray(tmp_path, shape=SHAPE).fill(s))))
        for source in sources
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(len(source.requested) for source in sources)[:-1] == [0] * 5
    assert len(arrays) == 6
    for array in arrays:
        np.testing.assert_array_equal(array, EXPECTED)


class TestFullDisk:
    def test_too_little_space_is_an_error_before_the_computation(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        usage = embedding_cache.shutil.disk_usage(tmp_path)
        monkeypatch.setattr(embedding_cache.shutil, "disk_usage", lambda _: usage._replace(free=EXPECTED.nbytes))
        source = Source()
        with pytest.raises(DatasetError, match="are free"):
            CachedArray(tmp_path, shape=SHAPE).fill(source)
        assert source.requested == []
        assert names_in(tmp_path) == set()

    @pytest.mark.parametrize("writes", [0, 2, 7])  # before the first part, the third, and the complete array
    def test_no_partial_file_remains_and_complete_parts_are_reused(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, writes: int
    ):
        successes = iter([True] * writes)
        original = embedding_cache.atomic_write

        @contextlib.contextmanager
        def until_full(path: Path) -> Iterator[Path]:
            with original(path) as partial:
                yield partial
                if not next(successes, False):  # buffered data reaches the disk when the file is closed
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        with monkeypatch.context() as full:
            full.setattr(embedding_cache, "atomic_write", until_full)
            with pytest.raises(DatasetError, match="No space left"):
                CachedArray(tmp_path, shape=SHAPE).fill(Source())
        assert names_in(tmp_path) == {f"part-{PART_ROWS * number:09d}.npy" for number in range(writes)}
        source = Source()
        np.testing.assert_array_equal(np.load(CachedArray(tmp_path, shape=SHAPE).fill(source)), EXPECTED)
        assert len(source.requested) == 7 - writes

    def test_full_tmpfs(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        mount = ["mount", "-t", "tmpfs", "-o", "size=12k", "tmpfs", str(tmp_path)]
        if (
            os.name != "posix"
            or os.geteuid() != 0
            or subprocess.run(mount, check=False, capture_output=True).returncode
        ):
            pytest.skip("mounting a small disk requires root")
        try:
            usage = embedding_cache.shutil.disk_usage("/")
            monkeypatch.setattr(embedding_cache.shutil, "disk_usage", lambda _: usage)  # as if the disk filled up later
            with pytest.raises(DatasetError, match="No space left"):
                CachedArray(tmp_path, shape=SHAPE).fill(Source())
            for path in tmp_path.glob("*[!k]"):  # excludes the lock
                first = int(path.stem.removeprefix("part-"))
                np.testing.assert_array_equal(np.load(path), EXPECTED.reshape(-1, SHAPE[-1])[first : first + PART_ROWS])
        finally:
            subprocess.run(["umount", str(tmp_path)], check=True)


def test_a_directory_that_cannot_be_written(tmp_path: Path):
    (tmp_path / "file").write_text("not a directory")
    with pytest.raises(DatasetError, match=r"Cannot cache embeddings in .*file"):
        CachedArray(tmp_path / "file" / "key", shape=SHAPE).fill(Source())


def test_an_unreadable_track_is_not_reported_as_a_disk_error(tmp_path: Path):
    with pytest.raises(AudioFileError, match="song"):
        CachedArray(tmp_path, shape=SHAPE).fill(Source(fails_at=0, error=AudioFileError("song.mp3 is truncated")))
