"""Detection of equal recordings, written with soundfile in several formats."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from musgenre.core.errors import DatasetError
from musgenre.datasets import duplicates
from musgenre.datasets.base import Track, TrackDataset, probe
from musgenre.datasets.duplicates import same_recordings
from musgenre.datasets.splits import check_split

RATE = 44_100


def noise(seed: int, *, seconds: float = 1.0, channels: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).integers(-9_000, 9_000, (round(seconds * RATE), channels), np.int16)


def track(path: Path, *, group: str | None = None) -> Track:
    seconds = probe(path)
    return Track(path.name, path, "rock", group, seconds if isinstance(seconds, float) else 1.0)


def write(path: Path, samples: np.ndarray, **options: object) -> Track:
    soundfile.write(path, samples, RATE, **options)
    return track(path)


def data(*tracks: Track, name: str) -> TrackDataset:
    return TrackDataset(tracks, labels=["jazz", "rock"], name=name)


def test_copy_under_another_name(tmp_path: Path):
    original = write(tmp_path / "a.wav", noise(0))
    (tmp_path / "b.wav").write_bytes(original.path.read_bytes())
    copy, other = track(tmp_path / "b.wav"), write(tmp_path / "c.wav", noise(1))
    assert original.path.stat().st_size == other.path.stat().st_size
    assert same_recordings([original, other], [copy]) == [("a.wav", "b.wav")]
    assert same_recordings([original], [other]) == []


def test_files_that_differ_only_at_the_end(tmp_path: Path):
    samples = noise(0, seconds=3)
    one = write(tmp_path / "a.wav", samples)
    samples[-1] += 1
    other = write(tmp_path / "b.wav", samples)
    assert one.path.read_bytes()[: 1 << 16] == other.path.read_bytes()[: 1 << 16]
    assert same_recordings([one], [other]) == []


def test_copy_that_cannot_be_decoded(tmp_path: Path):
    for name in "ab":
        (tmp_path / name).write_bytes(b"no audio")
    assert same_recordings([track(tmp_path / "a")], [track(tmp_path / "b")]) == [("a", "b")]


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("song.flac", {}),
        ("song.aiff", {}),
        ("song.wav", {"subtype": "FLOAT"}),
        ("song.w64", {"subtype": "PCM_24"}),
    ],
)
def test_equal_samples_in_another_format(tmp_path: Path, channels: int, name: str, options: dict):
    samples = noise(0, channels=channels)
    one = write(tmp_path / "one.wav", samples)
    other = write(tmp_path / name, samples / np.float32(2**15), **options)
    near = write(tmp_path / f"near{Path(name).suffix}", (samples + 1) / np.float32(2**15), **options)
    assert one.path.stat().st_size != other.path.stat().st_size
    assert same_recordings([one], [near, other]) == [("one.wav", name)]


def test_copy_with_other_tags(tmp_path: Path):
    one = write(tmp_path / "a.flac", noise(0))
    other = tmp_path / "b.flac"
    with soundfile.SoundFile(other, "w", samplerate=RATE, channels=1, format="FLAC") as file:
        file.title = "Another title, and a longer one"
        file.write(noise(0))
    assert one.path.read_bytes() != other.read_bytes()
    assert same_recordings([one], [track(other)]) == [("a.flac", "b.flac")]


def test_lossy_copy_is_not_found(tmp_path: Path):
    assert same_recordings([write(tmp_path / "a.wav", noise(0))], [write(tmp_path / "a.ogg", noise(0) / 2**15)]) == []


@settings(max_examples=25, deadline=None)
@given(left=st.lists(st.integers(0, 3), max_size=5), right=st.lists(st.integers(0, 3), max_size=5))
def test_all_pairs_are_found(tmp_path_factory: pytest.TempPathFactory, left: list[int], right: list[int]):
    folder = tmp_path_factory.mktemp("pairs")
    sides = [
        [write(folder / f"{side}{index}.wav", noise(seed, seconds=0.2)) for index, seed in enumerate(seeds)]
        for side, seeds in (("left", left), ("right", right))
    ]
    expected = sorted(
        (f"left{i}.wav", f"right{j}.wav") for i, one in enumerate(left) for j, other in enumerate(right) if one == other
    )
    assert same_recordings(*sides) == expected


def test_files_that_differ_at_the_start_are_not_read_completely(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    tracks = [write(tmp_path / f"{seed}.wav", noise(seed, seconds=1)) for seed in range(6)]
    read: list[str] = []
    for name in ("_all_bytes", "_all_samples"):
        monkeypatch.setattr(duplicates, name, lambda track: read.append(track.id) or track.id)
    assert same_recordings(tracks[:3], tracks[3:]) == []
    assert read == []


def test_check_split_names_both_files(tmp_path: Path):
    train = data(write(tmp_path / "a.wav", noise(0)), write(tmp_path / "b.wav", noise(1)), name="x")
    (tmp_path / "copy.wav").write_bytes((tmp_path / "a.wav").read_bytes())
    test = data(track(tmp_path / "copy.wav"), write(tmp_path / "b.flac", noise(1)), name="y")
    message = r"recording a\.wav \(also copy\.wav\), b\.wav \(also b\.flac\) on both sides"
    with pytest.raises(DatasetError, match=message):
        check_split(train, test)
    leak = check_split(train, test, allow_leakage=True)
    assert leak == "recording a.wav (also copy.wav), b.wav (also b.flac) on both sides"
    assert check_split(train, data(write(tmp_path / "c.wav", noise(2)), name="y")) is None


def test_missing_files_are_skipped(tmp_path: Path):
    missing = [Track(name, tmp_path / name, "rock", None, duration_seconds=1.0) for name in ("a.wav", "b.wav")]
    assert same_recordings(missing[:1], missing[1:]) == []
