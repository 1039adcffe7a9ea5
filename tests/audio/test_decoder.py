"""Truncated and damaged files, and files whose header does not give the length."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from musgenre.audio import duration_seconds, load, read_window
from musgenre.core.errors import AudioFileError

Song = Callable[..., Path]
RATE = 44_100
MP3_KINDS = [{}, {"bitrate_mode": "CONSTANT"}, {"bitrate_mode": "VARIABLE"}, {"bitrate_mode": "AVERAGE"}]


def file(data: bytes | bytearray) -> io.BytesIO:
    return io.BytesIO(bytes(data))


def uncounted(data: bytes) -> bytes:
    """Remove the first frame of an MP3 file: the Xing header, which counts the other frames."""
    start = data.index(data[:2], 4)
    assert b"Xing" in data[:start] or b"Info" in data[:start]
    return data[start:]


def id3(size: int, *, footer: bool = False) -> bytes:
    flags = b"\x04\0\x10" if footer else b"\x03\0\0"
    length = bytes(size >> shift & 0x7F for shift in (21, 14, 7, 0))
    return b"ID3" + flags + length + bytes(size) + (b"3DI" + flags + length if footer else b"")


# Truncated files


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("WAV", {}),
        ("WAV", {"subtype": "FLOAT"}),
        ("WAV", {"subtype": "ALAW"}),
        ("WAV", {"subtype": "IMA_ADPCM"}),
        ("W64", {}),
        ("RF64", {}),
        ("AIFF", {}),
        ("AU", {}),
        ("OGG", {}),
        *(("MP3", options) for options in MP3_KINDS),
    ],
)
@pytest.mark.parametrize("share", [0.5, 0.9])
def test_truncated_file(song: Song, kind: str, options: dict, share: float, tmp_path: Path) -> None:
    data = song(kind, **options).read_bytes()
    path = tmp_path / "truncated.song"
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(AudioFileError, match="truncated") as caught:
        load(path, sample_rate=22_050)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("share", [0.001, 0.5, 0.9, 0.999])
def test_truncated_flac(song: Song, share: float) -> None:
    data = song("FLAC").read_bytes()
    with pytest.raises(AudioFileError, match=r"damaged or truncated|no audio that can be decoded") as caught:
        load(file(data[: int(share * len(data))]), sample_rate=22_050)
    assert isinstance(caught.value.__cause__, soundfile.LibsndfileError)


def test_header_without_audio_data(song: Song) -> None:
    with pytest.raises(AudioFileError, match="has a header but no audio data"):
        load(file(song("WAV").read_bytes()[:44]), sample_rate=22_050)


@pytest.mark.parametrize("kind", ["WAV", "AU"])
def test_wrong_length_in_the_header_is_detected_without_decoding(song: Song, kind: str) -> None:
    data = song(kind).read_bytes()
    for read in (duration_seconds, lambda source: read_window(source, start_seconds=0, seconds=1, sample_rate=RATE)):
        with pytest.raises(AudioFileError, match=r"declares 6.0 s, but only [23].\d s are present"):
            read(file(data[: len(data) // 2]))


def test_window_in_the_missing_part_of_an_mp3(song: Song) -> None:
    data = song("MP3").read_bytes()
    truncated = data[: len(data) // 2]
    assert read_window(file(truncated), start_seconds=1, seconds=1, sample_rate=RATE).size == RATE
    with pytest.raises(AudioFileError, match="truncated"):
        read_window(file(truncated), start_seconds=4.5, seconds=1, sample_rate=RATE)


def test_damaged_mp3(song: Song) -> None:
    for data in (song("MP3").read_bytes(), uncounted(song("MP3").read_bytes())):
        middle = len(data) // 2
        with pytest.raises(AudioFileError, match="damaged"):
            load(file(data[:middle] + b"\x55" * 5_000 + data[middle + 5_000 :]), sample_rate=RATE)


def test_mp3_whose_format_changes(song: Song) -> None:
    other = io.BytesIO()
    soundfile.write(other, np.zeros(3 * 22_050), 22_050, format="MP3")
    with pytest.raises(AudioFileError, match=r"its MPEG frames end at 6.0 s, but more bytes follow"):
        load(file(uncounted(song("MP3").read_bytes()) + other.getvalue()), sample_rate=RATE)


def test_ogg_without_its_last_page(song: Song) -> None:
    data = song("OGG").read_bytes()
    with pytest.raises(AudioFileError, match="last page of its OGG stream is missing"):
        load(file(data[: data.rindex(b"OggS")]), sample_rate=RATE)


@pytest.mark.parametrize(
    ("cut", "complete"),
    [(0, True), (1, False), (20, False), (3_000, False), (-1, True), (-100, True), (-200_000, True)],
)
def test_last_page_of_an_ogg_must_be_complete(song: Song, cut: int, complete: bool) -> None:
    data = song("OGG").read_bytes()
    data = data[: len(data) - cut] if cut >= 0 else data + bytes(-cut)
    if complete:
        assert load(file(data), sample_rate=RATE).size == 6 * RATE
    else:
        with pytest.raises(AudioFileError, match="last page of its OGG stream is missing"):
            load(file(data), sample_rate=RATE)


# Complete files


@pytest.mark.parametrize("kind", ["WAV", "AU"])
@pytest.mark.parametrize("length", [0, 0x7FFFFFFF, 0x7FFFF000, 0x80000000, 0xFFFFFF00, 0xFFFFFFFF])
def test_placeholder_lengths_read_to_the_end(song: Song, kind: str, length: int) -> None:
    data = bytearray(song(kind).read_bytes())
    struct.pack_into("<I" if kind == "WAV" else ">I", data, 40 if kind == "WAV" else 8, length)
    expected = load(song(kind), sample_rate=RATE)
    np.testing.assert_array_equal(load(file(data), sample_rate=RATE), expected)
    window = read_window(file(data), start_seconds=2, seconds=1, sample_rate=RATE)
    np.testing.assert_array_equal(window, expected[2 * RATE : 3 * RATE])


@pytest.mark.parametrize("kind", ["WAV", "AU", "FLAC", "OGG", "MP3"])
@pytest.mark.parametrize("junk", [b"\0", b"junk" * 5, bytes(1_001)])
def test_bytes_after_the_audio_are_ignored(song: Song, kind: str, junk: bytes) -> None:
    expected = load(song(kind), sample_rate=RATE)
    np.testing.assert_array_equal(load(file(song(kind).read_bytes() + junk), sample_rate=RATE), expected)


@pytest.mark.parametrize("cut", [1, 2, 1_000])
def test_a_few_missing_bytes_are_tolerated(song: Song, cut: int) -> None:
    size = load(file(song("WAV").read_bytes()[:-cut]), sample_rate=RATE).size
    assert 6 * RATE - size == -(-cut // 4)


@pytest.mark.parametrize("options", MP3_KINDS)
@pytest.mark.parametrize("tag", [b"", id3(100_000)])
def test_mp3_without_a_frame_count_is_read_to_its_end(song: Song, options: dict, tag: bytes) -> None:
    data = tag + uncounted(song("MP3", **options).read_bytes())
    loaded = load(file(data), sample_rate=RATE)
    assert 6 * RATE <= loaded.size <= 6 * RATE + 4 * 1_152
    assert duration_seconds(file(data)) == loaded.size / RATE
    window = read_window(file(data), start_seconds=4.3, seconds=1, sample_rate=RATE)
    np.testing.assert_allclose(window, loaded[round(4.3 * RATE) :][:RATE], atol=1e-6)


@pytest.mark.parametrize("rate", [8_000, 16_000, 22_050, 32_000, 48_000])
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("options", MP3_KINDS[1:])
def test_intact_mp3(rate: int, channels: int, options: dict) -> None:
    source = io.BytesIO()
    noise = np.random.default_rng(0).uniform(-0.1, 0.1, (rate, channels))
    soundfile.write(source, noise, rate, format="MP3", **options)
    assert load(source if source.seek(0) == 0 else None, sample_rate=rate).size == rate


@pytest.mark.parametrize("tag", [id3(100_000), id3(1_000, footer=True), id3(100) + id3(200), bytes(999)])
@pytest.mark.parametrize("end", [b"", b"TAG" + bytes(125), b"APETAGEX" + bytes(200), bytes(1_100)])
@pytest.mark.parametrize("counted", [True, False])
def test_tags_around_an_mp3(song: Song, tag: bytes, end: bytes, counted: bool) -> None:
    data = song("MP3").read_bytes()
    data = data if counted else uncounted(data)
    expected = load(file(data), sample_rate=RATE)
    np.testing.assert_array_equal(load(file(tag + data + end), sample_rate=RATE), expected)


def test_mp3_with_half_a_frame_missing_at_its_end(song: Song) -> None:
    data = song("MP3").read_bytes()
    for complete in (data, uncounted(data)):
        expected = load(file(complete), sample_rate=RATE)
        loaded = load(file(complete[:-30]), sample_rate=RATE)
        assert 0 < expected.size - loaded.size <= 2 * 1_152
        np.testing.assert_array_equal(loaded, expected[: loaded.size])


def test_truncated_mp3_writes_nothing_to_the_terminal(song: Song, capfd: pytest.CaptureFixture[str]) -> None:
    data = song("MP3").read_bytes()
    for source in (data[: len(data) // 2], b"no music\n" * 500):
        with pytest.raises(AudioFileError):
            load(file(source), sample_rate=RATE)
    assert capfd.readouterr() == ("", "")


def test_flac_without_a_length(song: Song) -> None:
    data = bytearray(song("FLAC").read_bytes())
    data[21] &= 0xF0  # the 36-bit number of samples in STREAMINFO; 0 means unknown
    data[22:26] = bytes(4)
    expected = load(song("FLAC"), sample_rate=RATE)
    np.testing.assert_array_equal(load(file(data), sample_rate=RATE), expected)
    assert duration_seconds(file(data)) == 6.0
    window = read_window(file(data), start_seconds=3, seconds=1, sample_rate=RATE)
    np.testing.assert_array_equal(window, expected[3 * RATE : 4 * RATE])
