from __future__ import annotations

import io
import os
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from musgenre.audio import blocks, duration_seconds, load, read_window
from musgenre.core.errors import AudioError, AudioFileError

Song = Callable[..., Path]
RATE = 22_050
SECOND = np.linspace(-0.9, 0.9, RATE, dtype=np.float32)


def encoded(kind: str, **options: object) -> bytearray:
    file = io.BytesIO()
    soundfile.write(file, np.tile(SECOND, 3), RATE, format=kind, **options)
    return bytearray(file.getvalue())


# Samples in memory


@pytest.mark.parametrize(
    ("dtype", "scale", "zero"),
    [("int8", 2**7, 0), ("uint8", 2**7, 128), ("int16", 2**15, 0), (">i2", 2**15, 0), ("int32", 2**31, 0)],
)
def test_integers_are_scaled_by_their_full_scale(dtype: str, scale: int, zero: int) -> None:
    integers = (SECOND.astype(float) * scale + zero).round().astype(dtype)
    np.testing.assert_allclose(load((integers, RATE), sample_rate=RATE), SECOND, atol=0.51 / scale + 1e-7)


@pytest.mark.parametrize("dtype", ["float16", "float32", ">f4", "float64"])
def test_floats_are_not_scaled(dtype: str) -> None:
    floats = SECOND.astype(dtype)
    np.testing.assert_array_equal(load((floats, RATE), sample_rate=RATE), floats.astype(np.float32))


@pytest.mark.parametrize(
    "waveform",
    [
        torch.from_numpy(SECOND),
        torch.from_numpy(SECOND).requires_grad_(),
        torch.from_numpy(SECOND).reshape(1, -1),
        SECOND.tolist(),
        np.stack([SECOND * 2, SECOND * 0]),
        np.stack([SECOND * 2, SECOND * 0], axis=1).T,
    ],
)
def test_accepted_types_of_waveforms(waveform: object) -> None:
    np.testing.assert_array_equal(load((waveform, float(RATE)), sample_rate=RATE), SECOND)


def test_blocks_do_not_share_the_memory_of_the_source() -> None:
    for source in (SECOND.copy(), np.stack([SECOND, SECOND])):
        for block in blocks((source, RATE), sample_rate=RATE):
            block[:] = 7
        assert (source == SECOND).all()


def test_duration_and_windows_of_a_waveform() -> None:
    assert duration_seconds((SECOND, RATE)) == 1.0
    window = read_window((SECOND, RATE), start_seconds=0.5, seconds=0.1, sample_rate=RATE)
    np.testing.assert_array_equal(window, SECOND[11_025:13_230])


@pytest.mark.parametrize("rate", [0, -1, 99, 2**31 - 1, 10**400, float("nan"), float("inf"), 22_050.5, True, "x", None])
def test_invalid_sample_rate_of_a_waveform(rate: object) -> None:
    with pytest.raises(AudioError, match=r"a sample rate of .*; expected a whole number of hertz"):
        load((SECOND, rate), sample_rate=RATE)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("waveform", "message"),
    [
        (SECOND.reshape(-1, 2), r"shape \(11025, 2\) has more channels than samples; give waveform.T"),
        (np.zeros((0, RATE)), r"shape \(0, 22050\); expected .* not empty"),
        (np.zeros((2, 0)), r"shape \(2, 0\); expected .* not empty"),
        (np.zeros((1, 2, RATE)), r"shape \(1, 2, 22050\); expected \(samples,\) or \(channels, samples\)"),
        (0.5, r"shape \(\); expected"),
        (np.zeros(RATE, np.int64), "samples of type int64; give floats from -1 to 1"),
        (np.zeros(RATE, bool), "samples of type bool; give floats"),
        (np.zeros(RATE, complex), "samples of type complex128; give floats"),
        ("song.wav", "samples of type <U8; give floats"),
        ([[0.0, 1.0], [0.0]], "list cannot be converted to an array"),
        (torch.zeros(RATE, dtype=torch.bfloat16), "Tensor cannot be converted to an array .*BFloat16"),
        (np.zeros(2_204), r"lasts 0.100 s; at least 0.1 s"),
    ],
)
def test_invalid_samples(waveform: object, message: str) -> None:
    with pytest.raises(AudioError, match=message) as caught:
        load((waveform, RATE), sample_rate=RATE)
    assert not isinstance(caught.value, AudioFileError)


def test_shortest_accepted_duration() -> None:
    assert load((np.zeros(2_205), RATE), sample_rate=RATE).size == 2_205


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300])
@pytest.mark.parametrize("index", [0, 12 * RATE])
@pytest.mark.filterwarnings("error")
def test_samples_must_be_finite_in_every_block(value: float, index: int) -> None:
    waveform = np.zeros((2, 15 * RATE))
    waveform[1, index] = value
    with pytest.raises(
        AudioError, match=rf"waveform: the sample at {index / RATE:.3f} s \(index {index}\) is -?(nan|inf)"
    ):
        load((waveform, RATE), sample_rate=16_000)


def test_samples_of_a_file_must_be_finite(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "nan.wav", np.where(np.arange(RATE) == 500, np.nan, 0.1), RATE, subtype="FLOAT")
    for read in (
        lambda path: load(path, sample_rate=RATE),
        lambda path: read_window(path, start_seconds=0.01, seconds=0.1, sample_rate=RATE),
    ):
        with pytest.raises(AudioError, match=r"nan.wav: the sample at 0.023 s \(index 500\) is nan"):
            read(tmp_path / "nan.wav")


@pytest.mark.parametrize("source", [None, 3, [1.0, 2.0], np.zeros(RATE), io.StringIO("text"), torch.zeros(RATE)])
def test_unsupported_types_of_sources(source: object) -> None:
    with pytest.raises(AudioError, match=r"Audio cannot be read from an object of type \w+; give a path"):
        load(source, sample_rate=RATE)  # type: ignore[arg-type]


def test_tuple_of_the_wrong_length() -> None:
    with pytest.raises(AudioError, match="got a tuple of 3"):
        load((SECOND, RATE, 1), sample_rate=RATE)  # type: ignore[arg-type]


# File objects


@pytest.mark.parametrize("kind", ["WAV", "AU", "FLAC", "OGG", "MP3"])
def test_file_objects_are_read_from_their_position_which_is_restored(song: Song, kind: str) -> None:
    data = song(kind).read_bytes()
    file = io.BytesIO(b"16 bytes of data" + data)
    file.seek(16)
    np.testing.assert_array_equal(load(file, sample_rate=RATE), load(song(kind), sample_rate=RATE))
    assert file.tell() == 16
    assert not file.closed


@pytest.mark.parametrize("kind", ["WAV", "AU", "FLAC", "OGG", "MP3"])
def test_file_objects_with_short_reads(song: Song, kind: str) -> None:
    class ShortReads(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            return super().read(min(size or 0, 1_000) if size != -1 else -1)

    np.testing.assert_array_equal(
        load(ShortReads(song(kind).read_bytes()), sample_rate=RATE), load(song(kind), sample_rate=RATE)
    )


def test_file_object_at_its_end() -> None:
    file = io.BytesIO(bytes(encoded("WAV")))
    file.seek(0, io.SEEK_END)
    with pytest.raises(AudioFileError, match="<BytesIO>: the file is empty"):
        load(file, sample_rate=RATE)


def test_closed_file_and_pipe() -> None:
    file = io.BytesIO(bytes(encoded("WAV")))
    file.close()
    reading, writing = os.pipe()
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        for source in (file, pipe):
            with pytest.raises(AudioFileError, match=r"cannot seek .*; read it into an io.BytesIO first"):
                load(source, sample_rate=RATE)


class Failing(io.BytesIO):
    """Raises ``error`` when data is read from position ``after`` or later."""

    error: BaseException
    after: int

    def read(self, size: int | None = -1) -> bytes:
        if self.tell() >= self.after:
            raise self.error
        return super().read(size)


@pytest.mark.parametrize("after", [0, 60_000])
def test_errors_of_a_file_object_are_chained(after: int) -> None:
    file = Failing(bytes(encoded("WAV")))
    file.error, file.after = ConnectionError("connection lost"), after
    with pytest.raises(AudioFileError, match="connection lost") as caught:
        load(file, sample_rate=RATE)
    assert caught.value.__cause__ is file.error


def test_keyboard_interrupt_is_raised() -> None:
    file = Failing(bytes(encoded("WAV")))
    file.error, file.after = KeyboardInterrupt(), 60_000
    with pytest.raises(KeyboardInterrupt):
        load(file, sample_rate=RATE)


# Paths and headers


def test_paths_without_audio(tmp_path: Path) -> None:
    (tmp_path / "empty.wav").touch()
    for suffix in ("mp3", "wav", "au", "raw", "gsm"):
        (tmp_path / f"text.{suffix}").write_text("This is not audio.\n" * 200)
    for path, message in {
        tmp_path / "missing.wav": "there is no such file",
        tmp_path: "is a directory; give the path of one audio file",
        tmp_path / "empty.wav": "the file is empty",
        **dict.fromkeys(tmp_path.glob("text.*"), "contains no audio that can be decoded"),
    }.items():
        for read in (
            lambda path: load(path, sample_rate=RATE),
            lambda path: read_window(path, start_seconds=0, seconds=1, sample_rate=RATE),
            duration_seconds,
        ):
            with pytest.raises(AudioFileError, match=message) as caught:
                read(path)
            assert str(path) in str(caught.value)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no named pipes")
def test_named_pipe_is_refused_without_blocking(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.wav")
    with pytest.raises(AudioFileError, match="is a pipe or a device"):
        load(tmp_path / "pipe.wav", sample_rate=RATE)


def test_null_character_in_a_path() -> None:
    with pytest.raises(AudioFileError, match="cannot be opened"):
        load("a\0b.wav", sample_rate=RATE)


@pytest.mark.parametrize(
    ("kind", "offset", "layout", "value", "message"),
    [
        ("WAV", 24, "<I", 0, "no valid sample rate"),
        ("WAV", 24, "<I", 2**31 - 1, "a sample rate of 2147483647; expected"),
        ("WAV", 24, "<I", 1, "a sample rate of 1; expected"),
        ("WAV", 22, "<H", 0, "Channel count is zero"),
        ("WAV", 22, "<H", 60_000, "Too many channels"),
        ("AU", 16, ">I", 0, "no valid sample rate"),
        ("AU", 16, ">I", 2**31 - 1, "a sample rate of 2147483647; expected"),
        ("AU", 20, ">I", 0, "Channel count is zero"),
    ],
)
def test_invalid_values_in_a_header(kind: str, offset: int, layout: str, value: int, message: str) -> None:
    data = encoded(kind)
    struct.pack_into(layout, data, offset, value)
    with pytest.raises(AudioFileError, match=message):
        load(io.BytesIO(bytes(data)), sample_rate=RATE)


def test_many_channels(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "wide.wav", np.full((4_410, 255), 0.25), RATE)
    np.testing.assert_allclose(load(tmp_path / "wide.wav", sample_rate=RATE), 0.25, atol=1e-4)
