"""Properties of everything that is read from or written to disk."""

from __future__ import annotations

import io
import itertools
import json
import os
import tarfile
import tempfile
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from musgenre.cli.results import open_results
from musgenre.core.config import AudioSpec, Component, ModelConfig, Prediction, Windows, from_dict, to_dict
from musgenre.core.errors import AudioFileError, ConfigError, DatasetError
from musgenre.datasets.base import Track, TrackDataset
from musgenre.datasets.gtzan_archive import unpack
from musgenre.datasets.windows import GridWindows
from musgenre.training.embedding_cache import embedded

SETTINGS = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
PLAIN = ModelConfig("m", ("jazz", "rock"), AudioSpec(), Component("logmel"), Component("vgg16"), hidden=(4, 2))
LABELS = ("jazz", "rock")


@SETTINGS
@given(name=st.text(), value=st.none() | st.integers() | st.text(), section=st.sampled_from(["", "audio", "feature"]))
def test_unknown_keys_are_refused_at_every_level(name, value, section):
    pairs = to_dict(PLAIN)
    inner = pairs[section] if section else pairs
    is_known = name in inner
    inner.setdefault(name, value)
    if is_known:
        assert from_dict(ModelConfig, pairs) == PLAIN
    else:
        with pytest.raises(ConfigError, match="can not match"):
            from_dict(ModelConfig, pairs)


CONTENTS = [np.random.default_rng(seed).normal(scale=0.1, size=2_000) for seed in range(3)]
STEPS = st.lists(st.tuples(st.sampled_from(["write", "swap"]), st.integers(0, 1), st.integers(0, 2)), max_size=4)


@settings(SETTINGS, max_examples=12)
@given(steps=STEPS)
def test_the_cache_never_returns_data_of_another_file(classifier, steps):
    """Files of equal size and time stamp are recognised after being swapped or overwritten."""
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder, f"{number}.wav") for number in range(2)]
        contents = [0, 1]

        def write_file(number: int, content: int) -> None:
            soundfile.write(paths[number], CONTENTS[content], 8_000, subtype="FLOAT")
            os.utime(paths[number], ns=(10**18, 10**18))

        for number in range(2):
            write_file(number, number)
        for kind, number, content in [("start", 0, 0), *steps]:
            if kind == "write":
                write_file(number, content)
                contents[number] = content
            elif kind == "swap":
                os.replace(paths[0], Path(folder, "third"))
                os.replace(paths[1], paths[0])
                os.replace(Path(folder, "third"), paths[1])
                contents.reverse()
            tracks = [Track(path.stem, path, "jazz", None, 0.25) for path in paths]
            windows = GridWindows(TrackDataset(tracks, labels=classifier.labels, name="two"), audio=SPEC)
            rows = embedded(windows, classifier.network, directory=Path(folder, "cache"))
            expected = [_embedding(classifier.network, content) for content in contents]
            for row, reference in zip((rows[0][0], rows[1][0]), expected, strict=True):
                torch.testing.assert_close(row, reference)


SPEC = AudioSpec(8_000, window_seconds=0.3, hop_seconds=0.3)


def _embedding(network: torch.nn.Module, content: int) -> torch.Tensor:
    window = torch.from_numpy(np.resize(CONTENTS[content], SPEC.window_samples).astype(np.float32))
    with torch.no_grad():
        return network.backbone(network.feature(window[None]))[0]


names = st.lists(
    st.sampled_from(["genres", "blues", "..", ".", "", "a.wav", "._a", "__MACOSX", "x" * 60]), min_size=1, max_size=5
).map("/".join)
kinds = st.sampled_from([tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE])


@SETTINGS
@given(members=st.lists(st.tuples(names, kinds, names), max_size=5), good=st.booleans())
def test_an_archive_writes_only_into_its_directory(members, good):
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory, "root")
        root.mkdir()
        archive = Path(directory, "archive.tar")
        with tarfile.open(archive, "w") as file:
            for name, kind, link in [("genres/good.wav", tarfile.REGTYPE, "")] * good + members:
                info = tarfile.TarInfo(name)
                info.type, info.linkname, info.size = kind, link, 3 * (kind == tarfile.REGTYPE)
                file.addfile(info, io.BytesIO(b"abc"))
        try:
            unpack(archive, root / "genres", max_bytes=10**6)
            is_unpacked = True
        except DatasetError:
            is_unpacked = False
        assert {path.name for path in Path(directory).iterdir()} == {"root", "archive.tar"}
        assert [path.name for path in root.iterdir()] == ["genres"] * is_unpacked
        for path in root.rglob("*"):
            assert not path.is_symlink()
            assert not path.name.startswith("._")
            assert path.is_dir() or path.read_bytes() == b"abc"


paths = st.text(alphabet=st.characters(min_codepoint=1), min_size=1, max_size=12)


@SETTINGS
@given(songs=st.lists(paths, unique=True, max_size=12), data=st.data())
def test_results_truncated_at_any_byte_are_completed(songs, data):
    """A killed process leaves a file that ends at any byte."""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder, "results.jsonl")
        for _ in range(3):
            with open_results(output, labels=LABELS, resume=True) as written:
                for song in [song for song in songs if song not in written.done]:
                    written.add(_result(song))
            content = output.read_bytes()
            output.write_bytes(content[: data.draw(st.integers(0, len(content)))])
        with open_results(output, labels=LABELS, resume=True) as written:
            for song in [song for song in songs if song not in written.done]:
                written.add(_result(song))
            summary = written.summary()
        rows = [json.loads(line) for line in output.read_text().splitlines()]
        assert sorted(row["path"] for row in rows) == sorted(songs)
        failed = sum(len(song) % 2 for song in songs)
        assert sum("error" in row for row in rows) == failed
        assert f"{len(songs)} songs, {len(songs) - failed} predicted, {failed} failed" in summary


def _result(song: str) -> Prediction | AudioFileError:
    if len(song) % 2:
        error = AudioFileError(f"{song}: is\nnot audio")
        error.path = song
        return error
    return Prediction(
        dict(zip(LABELS, (0.25, 0.75), strict=True)),
        windows=Windows(np.zeros(1), np.full((1, 2), 0.5)),
        duration_seconds=1.0,
        path=song,
    )


@settings(SETTINGS, max_examples=15)
@given(cuts=st.lists(st.integers(0, 60_000), max_size=6), version=st.sampled_from(['"one"', None]))
def test_a_download_cut_at_any_byte_is_complete_or_an_error(broken_server, cuts, version):
    from musgenre.core.download import download
    from musgenre.core.errors import DownloadError

    broken_server.cuts, broken_server.version = list(cuts), version
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "file")
        for _ in itertools.count():
            try:
                download(broken_server.address, path)
                break
            except DownloadError:
                assert not path.exists()
        assert path.read_bytes() == broken_server.content
        assert [file.name for file in Path(folder).iterdir()] == ["file"]
