from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from musgenre.core.errors import DatasetError
from musgenre.datasets.base import DatasetWarning
from musgenre.datasets.folder import AudioFolder


@pytest.fixture
def music(tmp_path: Path, noise: Callable[..., Path]) -> Path:
    root = tmp_path / "my music"
    for name in ("Salsa & Son/b.wav", "Salsa & Son/disc 1/a.FLAC", "choro/lamento.ogg", "choro/x.mp3"):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix in {".ogg", ".mp3"}:
            import numpy as np
            import soundfile

            soundfile.write(path, np.zeros(8_000, dtype=np.float32), 8_000)
        else:
            noise(path)
    return root


def test_labels_ids_and_order(music: Path):
    data = AudioFolder(music)
    assert data.labels == ("Salsa & Son", "choro")
    assert [track.id for track in data] == [
        "Salsa & Son/b.wav", "Salsa & Son/disc 1/a.FLAC", "choro/lamento.ogg", "choro/x.mp3",
    ]  # fmt: skip
    assert data.label_indices() == [0, 0, 1, 1]
    assert all(track.group is None for track in data)
    assert data.name == "my music"
    assert data[0].path.is_file()


def test_hidden_files_and_other_formats_are_ignored(music: Path):
    before = [track.id for track in AudioFolder(music)]
    for name in ("choro/._lamento.ogg", "choro/.DS_Store", "choro/cover.jpg", "choro/.trash/x.wav", "readme.wav"):
        (music / name).parent.mkdir(exist_ok=True)
        (music / name).write_bytes(b"junk")
    (music / ".git").mkdir()
    assert [track.id for track in AudioFolder(music)] == before


def test_undecodable_file_is_left_out_with_one_warning(music: Path):
    (music / "choro/bad.wav").write_text("no audio")
    with pytest.warns(DatasetWarning, match=r"1 of 5 tracks left out: choro/bad\.wav") as caught:
        data = AudioFolder(music)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    assert [track.id for track in data.missing] == ["choro/bad.wav"]
    assert len(data) == 4


def test_groups(music: Path, tmp_path: Path):
    table = tmp_path / "groups.csv"
    table.write_text("\ufefftrack,group,year\nchoro/x.mp3,Pixinguinha,1928\nSalsa & Son/b.wav,,\n", encoding="utf-8")
    groups = {track.id: track.group for track in AudioFolder(music, groups=table)}
    assert groups.pop("choro/x.mp3") == "Pixinguinha"
    assert set(groups.values()) == {None}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "header 'track,group'"),
        (b"track,artist\nchoro/x.mp3,a\n", "header 'track,group'"),
        (b"track,group\nchoro/x.mp3\n", "both values in each row"),
        (b"track,group\nchoro/y.mp3,a\n", r"do not exist: choro/y\.mp3.*such as 'Salsa"),
        (b"track,group\nchoro/x.mp3,a\nchoro/x.mp3,b\n", "twice"),
        (b"track,group\n\xff\xfe,a\n", "cannot be read"),
        (None, "cannot be read"),
    ],
)
def test_invalid_group_file(music: Path, tmp_path: Path, content: bytes | None, message: str):
    table = tmp_path / "groups.csv"
    if content is not None:
        table.write_bytes(content)
    with pytest.raises(DatasetError, match=message):
        AudioFolder(music, groups=table)


def test_group_of_undecodable_file_is_accepted(music: Path, tmp_path: Path):
    (music / "choro/bad.wav").write_text("no audio")
    table = tmp_path / "groups.csv"
    table.write_text("track,group\nchoro/bad.wav,a\n")
    with pytest.warns(DatasetWarning):
        assert len(AudioFolder(music, groups=table)) == 4


def test_invalid_folders(music: Path, tmp_path: Path):
    with pytest.raises(DatasetError, match="not a folder"):
        AudioFolder(tmp_path / "nowhere")
    with pytest.raises(DatasetError, match=r"two sub-folders.*found: disc 1"):
        AudioFolder(music / "Salsa & Son")
    (music / "empty").mkdir()
    with pytest.raises(DatasetError, match="empty holds no audio file"):
        AudioFolder(music)
    (music / "empty/bad.wav").write_text("no audio")
    with pytest.raises(DatasetError, match="no file of empty can be decoded"):
        AudioFolder(music)
