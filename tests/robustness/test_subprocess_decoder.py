"""Decoding in a subprocess: equal samples and errors; a decoder that crashes or hangs affects one file."""

from __future__ import annotations

import copy
import gc
import io
import os
import pickle
import sys
import textwrap
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import pytest
import soundfile

from musgenre.audio import AudioWindows, ReadOptions, blocks, duration_seconds, load, read_window
from musgenre.audio.options import ReadOptions as SameOptions
from musgenre.core.config import AudioSpec
from musgenre.core.errors import AudioError, AudioFileError, ParameterError

Song = Callable[..., Path]
RATE = 22_050


def decoder_processes() -> list[psutil.Process]:
    children = psutil.Process().children()
    return [
        child for child in children if any("musgenre.audio.decoder_worker" in argument for argument in child.cmdline())
    ]


@pytest.fixture(scope="module")
def isolated() -> ReadOptions:
    return ReadOptions(decode="subprocess")


@pytest.mark.parametrize("kind", ["WAV", "FLAC", "OGG", "MP3"])
def test_samples_equal_inline_decoding(song: Song, isolated: ReadOptions, kind: str) -> None:
    path = song(kind)
    expected = load(path, sample_rate=RATE)
    np.testing.assert_array_equal(load(path, sample_rate=RATE, reading=isolated), expected)
    file = io.BytesIO(b"before" + path.read_bytes())
    file.seek(6)
    np.testing.assert_array_equal(load(file, sample_rate=RATE, reading=isolated), expected)
    assert file.tell() == 6
    window = {"start_seconds": 2.5, "seconds": 1.0, "sample_rate": RATE}
    np.testing.assert_array_equal(read_window(path, **window, reading=isolated), read_window(path, **window))
    assert duration_seconds(path, reading=isolated) == duration_seconds(path)


@pytest.mark.parametrize("damage", ["truncated", "text", "empty", "missing", "NaN", "short"])
def test_errors_equal_inline_decoding(song: Song, isolated: ReadOptions, tmp_path: Path, damage: str) -> None:
    path = tmp_path / "song.wav"
    if damage == "NaN":
        soundfile.write(path, np.full(RATE, np.nan), RATE, subtype="FLOAT")
    elif damage == "short":
        soundfile.write(path, np.zeros(100), RATE)
    elif damage != "missing":
        path.write_bytes(
            {"truncated": song("WAV").read_bytes()[:50_000], "text": b"not audio" * 99, "empty": b""}[damage]
        )
    with pytest.raises(AudioError) as inline:
        load(path, sample_rate=RATE)
    with pytest.raises(AudioError) as isolated_error:
        load(path, sample_rate=RATE, reading=isolated)
    assert str(isolated_error.value) == str(inline.value)
    assert type(isolated_error.value) is type(inline.value)


def test_a_process_is_reused_for_many_files(song: Song) -> None:
    options = ReadOptions(decode="subprocess")
    gc.collect()  # ends the processes of earlier tests
    before = len(decoder_processes())
    load(song("WAV"), sample_rate=RATE, reading=options)
    (process,) = decoder_processes()[before:]
    for kind in ("FLAC", "OGG", "WAV"):
        load(song(kind), sample_rate=RATE, reading=options)
        next(blocks(song(kind), sample_rate=RATE, reading=options))
    assert decoder_processes()[before:] == [process]
    del options
    gc.collect()
    process.wait(10)  # the finaliser of the options kills it without waiting
    assert len(decoder_processes()) == before


def test_each_thread_has_its_own_process(song: Song) -> None:
    options, results = ReadOptions(decode="subprocess"), []
    barrier = threading.Barrier(3)

    def read() -> None:
        windows = iter(AudioWindows(song("FLAC"), AudioSpec(), reading=options))
        first = next(windows)
        barrier.wait(60)
        results.append(np.concatenate([first[1], *(window for _, window in windows)]))

    threads = [threading.Thread(target=read) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    expected = np.concatenate([window for _, window in AudioWindows(song("FLAC"), AudioSpec())])
    assert len(results) == 3
    assert all((result == expected).all() for result in results)


FAULTS = """
    import ctypes, importlib.util, os, sys, time
    spec = importlib.util.spec_from_file_location("soundfile", {path!r})
    module = importlib.util.module_from_spec(spec)
    sys.modules["soundfile"] = module
    spec.loader.exec_module(module)

    class Faulty(module.SoundFile):
        def read(self, *arguments, **options):
            block = super().read(*arguments, **options)
            if self.samplerate == 11_111:
                ctypes.string_at(0)
            if self.samplerate == 12_222:
                while True:
                    time.sleep(1)
            if self.samplerate == 13_333:
                bytearray(2**33)
            if self.samplerate == 14_444:
                print("invalid", file=sys.__stdout__, flush=True)
                os.write(os.open(__file__ + ".written", os.O_CREAT | os.O_WRONLY), b"x")
            return block

    module.SoundFile = Faulty
"""


@pytest.fixture
def faulty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[int], Path]:
    """Replaces soundfile in new processes by a module that fails at certain sample rates."""
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / "soundfile.py").write_text(textwrap.dedent(FAULTS).format(path=soundfile.__file__))
    monkeypatch.setattr(sys, "path", [str(tmp_path / "modules"), *sys.path])

    def song(rate: int) -> Path:
        path = tmp_path / f"{rate}.wav"
        soundfile.write(path, np.full(rate, 0.25), rate)
        return path

    return song


@pytest.mark.skipif(os.name != "posix", reason="needs the signals and resource limits of POSIX")
@pytest.mark.parametrize(
    ("rate", "message"),
    [
        (11_111, r"11111.wav: its decoder crashed \(SIGSEGV\); convert the file or omit it"),
        (12_222, r"12222.wav: its decoder did not answer within 0.5 s and was stopped"),
        (13_333, r"13333.wav: its decoder failed \(MemoryError\(\)\)"),
        (14_444, r"14444.wav: its decoder failed \(OSError"),
    ],
    ids=["crash", "hang", "memory", "write"],
)
def test_a_failing_decoder_affects_only_its_file(faulty: Callable[[int], Path], rate: int, message: str) -> None:
    options = ReadOptions(decode="subprocess", timeout_seconds=0.5 if rate == 12_222 else 10)
    good = faulty(8_000)
    for _ in range(2):
        assert load(good, sample_rate=8_000, reading=options).size == 8_000
        with pytest.raises(AudioFileError, match=message):
            load(faulty(rate), sample_rate=8_000, reading=options)
    assert load(good, sample_rate=8_000, reading=options).size == 8_000


def test_nothing_is_imported_from_the_working_directory(
    song: Song, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "soundfile.py").write_text("raise SystemExit('imported from the working directory')")
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    monkeypatch.chdir(tmp_path)
    assert load(song("WAV"), sample_rate=RATE, reading=ReadOptions(decode="subprocess")).size


class Failing(io.BytesIO):
    def read(self, size: int | None = -1) -> bytes:
        if self.tell() >= 60_000:
            raise self.error  # type: ignore[attr-defined]
        return super().read(size)


@pytest.mark.parametrize("error", [ConnectionError, KeyboardInterrupt])
def test_an_exception_of_the_file_object_is_raised(
    song: Song, isolated: ReadOptions, error: type[BaseException]
) -> None:
    file = Failing(song("WAV").read_bytes())
    # Raised from its class: an instance among the parameters would hold its traceback, and a frame with the resampler's
    # C++ object, until the interpreter exits.
    file.error = error  # type: ignore[attr-defined]
    with pytest.raises(AudioFileError if issubclass(error, Exception) else KeyboardInterrupt):
        load(file, sample_rate=RATE, reading=isolated)
    assert load(song("WAV"), sample_rate=RATE, reading=isolated).size


def test_options_can_be_copied_and_pickled(song: Song) -> None:
    options = ReadOptions(max_channels=2, decode="subprocess")
    load(song("WAV"), sample_rate=RATE, reading=options)
    for other in (copy.deepcopy(options), pickle.loads(pickle.dumps(options))):
        assert other == options
        assert load(song("WAV"), sample_rate=RATE, reading=other).size
    assert SameOptions is ReadOptions


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"max_duration_seconds": 5.9},
            r"6.0 seconds, but the limit is 5.9. Raise max_duration_seconds of ReadOptions",
        ),
        ({"max_channels": 1}, "2 channels, but the limit is 1"),
        ({"max_bytes": 1_000}, r"\d+ bytes, but the limit is 1000"),
    ],
)
@pytest.mark.parametrize("decode", ["inline", "subprocess"])
@pytest.mark.parametrize("kind", ["WAV", "FLAC", "OGG", "MP3"])
def test_limits(song: Song, kind: str, decode: str, options: dict, message: str) -> None:
    path = song(kind)
    reading = ReadOptions(**options, decode=decode)
    for read in (
        lambda source: load(source, sample_rate=RATE, reading=reading),
        lambda source: list(AudioWindows(source, AudioSpec(), reading=reading)),
        lambda source: duration_seconds(source, reading=reading),
    ):
        for source in (path, io.BytesIO(path.read_bytes())):
            with pytest.raises(AudioFileError, match=message):
                read(source)
    waveform = np.zeros((2, 7 * RATE), np.int16)
    assert load((waveform, RATE), sample_rate=RATE, reading=reading).size == 7 * RATE


def test_the_duration_limit_applies_without_a_length_in_the_header() -> None:
    data = io.BytesIO()
    soundfile.write(data, np.zeros(60 * RATE, np.int16), RATE, format="MP3")
    uncounted = data.getvalue()
    uncounted = uncounted[uncounted.index(b"\xff", 200) :]  # without the first frame, which counts the others

    class Counting(io.BytesIO):
        count = 0

        def read(self, size: int | None = -1) -> bytes:
            part = super().read(size)
            self.count += len(part)
            return part

    assert duration_seconds(io.BytesIO(uncounted)) > 59
    counting = Counting(uncounted)
    with pytest.raises(AudioFileError, match="the limit is 15"):
        load(counting, sample_rate=RATE, reading=ReadOptions(max_duration_seconds=15))
    assert counting.count < 0.7 * len(uncounted)


@pytest.mark.parametrize(
    "options",
    [
        {"max_duration_seconds": 0},
        {"max_duration_seconds": float("nan")},
        {"max_channels": -1},
        {"max_bytes": 0},
        {"timeout_seconds": float("inf")},
        {"decode": "thread"},
    ],
)
def test_options_out_of_range(options: dict) -> None:
    with pytest.raises(ParameterError, match=next(iter(options))):
        ReadOptions(**options)
