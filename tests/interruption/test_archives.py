"""Unpacking of untrusted archives, and the download of GTZAN."""

from __future__ import annotations

import hashlib
import io
import logging
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

from musgenre.backbones.yamnet_weights import CACHE_PATH
from musgenre.cli.main import app
from musgenre.core.errors import DatasetError, ParameterError, WeightsError
from musgenre.datasets import GTZAN, gtzan_archive
from musgenre.datasets.gtzan import GENRES
from musgenre.models.classifier import GenreClassifier

LARGE_LIMIT = 2**30


def member(name: str, content: bytes = b"", **fields: object) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for field, value in fields.items():
        setattr(info, field, value)
    return info, content


def archive_of(path: Path, *members: tuple[tarfile.TarInfo, bytes], mode: str = "w:gz") -> Path:
    with tarfile.open(path, mode) as file:
        for info, content in members:
            file.addfile(info, io.BytesIO(content))
    return path


GOOD = member("genres/blues/blues.00000.wav", b"music", mode=0o777)


class TestUnpack:
    @pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
    def test_files_and_directories(self, tmp_path, mode):
        members = (member("genres", type=tarfile.DIRTYPE, mode=0o755), GOOD, member("./genres/jazz/a.wav", b"more"))
        gtzan_archive.unpack(
            archive_of(tmp_path / "a.tar", *members, mode=mode), tmp_path / "genres", max_bytes=LARGE_LIMIT
        )
        assert (tmp_path / "genres/blues/blues.00000.wav").read_bytes() == b"music"
        assert (tmp_path / "genres/jazz/a.wav").read_bytes() == b"more"
        assert (tmp_path / "genres/blues/blues.00000.wav").stat().st_mode & 0o022 == 0
        assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tar", "genres"]

    def test_metadata_files_are_skipped(self, tmp_path):
        junk = [member(f"genres/blues/{name}", b"junk") for name in ("._blues.00000.wav", ".DS_Store")]
        junk += [member("._genres", b"junk"), member("__MACOSX/genres/._blues", b"junk"), member("genres/._x/a", b"y")]
        gtzan_archive.unpack(archive_of(tmp_path / "a.tar.gz", *junk, GOOD), tmp_path / "genres", max_bytes=LARGE_LIMIT)
        files = [path.name for path in (tmp_path / "genres").rglob("*") if path.is_file()]
        assert files == ["blues.00000.wav"]

    @pytest.mark.parametrize(
        ("bad", "message"),
        [
            (member("../outside", b"x"), "outside of its folder"),
            (member("genres/../../outside", b"x"), "outside of its folder"),
            (member("genres/../outside", b"x"), "outside of its folder"),
            (member("/tmp/outside", b"x"), "outside of its folder"),
            (member("//tmp/outside", b"x"), "outside of its folder"),
            (member("outside", b"x"), "outside of its folder"),
            (member("genres/link", type=tarfile.SYMTYPE, linkname="/etc"), "link or a device"),
            (member("genres/link", type=tarfile.SYMTYPE, linkname="blues"), "link or a device"),
            (member("genres/link", type=tarfile.LNKTYPE, linkname="../../outside"), "link or a device"),
            (member("genres/link", type=tarfile.LNKTYPE, linkname="genres/blues/blues.00000.wav"), "link or a device"),
            (member("genres/null", type=tarfile.CHRTYPE, devmajor=1, devminor=3), "link or a device"),
            (member("genres/disk", type=tarfile.BLKTYPE, devmajor=8), "link or a device"),
            (member("genres/pipe", type=tarfile.FIFOTYPE), "link or a device"),
            (member("genres/large", b"0" * 2_000), "more than 1000 bytes"),
        ],
        ids=lambda value: value[0].name + value[0].linkname if isinstance(value, tuple) else "",
    )
    def test_a_refused_archive_leaves_no_files(self, tmp_path, bad, message):
        folder = tmp_path / "a" / "b"
        folder.mkdir(parents=True)
        archive = archive_of(tmp_path / "bad.tar.gz", GOOD, bad)
        with pytest.raises(DatasetError, match=message) as caught:
            gtzan_archive.unpack(archive, folder / "genres", max_bytes=1_000)
        assert str(archive) in str(caught.value)
        assert [path.name for path in tmp_path.rglob("*")] == ["bad.tar.gz", "a", "b"] or not list(folder.iterdir())
        assert not any(path.name == "outside" for path in tmp_path.rglob("*"))
        assert not Path("/tmp/outside").exists()

    def test_links_are_refused(self, tmp_path):
        members = (member("genres/out", type=tarfile.SYMTYPE, linkname=str(tmp_path)), member("genres/out/x", b"x"))
        with pytest.raises(DatasetError, match="link"):
            gtzan_archive.unpack(archive_of(tmp_path / "a.tar", *members), tmp_path / "genres", max_bytes=LARGE_LIMIT)
        assert not (tmp_path / "x").exists()

    def test_damaged_archive(self, tmp_path):
        noise = np.random.default_rng(0).bytes(200_000)
        complete = archive_of(tmp_path / "complete.tar.gz", GOOD, member("genres/noise", noise)).read_bytes()
        flipped = bytearray(complete)
        flipped[len(complete) // 2] ^= 0x55
        for content in (b"", b"no archive", b"<html>" * 500, complete[:100_000], complete[:-5], bytes(flipped)):
            (tmp_path / "damaged.tar.gz").write_bytes(content)
            with pytest.raises(DatasetError, match=r"cannot be unpacked|refused"):
                gtzan_archive.unpack(tmp_path / "damaged.tar.gz", tmp_path / "genres", max_bytes=LARGE_LIMIT)
            assert sorted(path.name for path in tmp_path.iterdir()) == ["complete.tar.gz", "damaged.tar.gz"]

    def test_files_of_a_killed_process_are_removed(self, tmp_path):
        (tmp_path / ".genres.abc.partial" / "genres").mkdir(parents=True)
        gtzan_archive.unpack(archive_of(tmp_path / "a.tar", GOOD), tmp_path / "genres", max_bytes=LARGE_LIMIT)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tar", "genres"]

    def test_full_disk(self, tmp_path, small_disk):
        archive = archive_of(tmp_path / "a.tar.gz", GOOD, member("genres/large", bytes(3_000_000)))
        with pytest.raises(DatasetError, match="No space left"):
            gtzan_archive.unpack(archive, small_disk / "genres", max_bytes=LARGE_LIMIT)
        assert list(small_disk.iterdir()) == []


@pytest.fixture
def gtzan(pages, monkeypatch):
    """Three tracks per genre at two URLs, of which the first is unavailable."""
    random = np.random.default_rng(0)
    names = [f"genres/{genre}/{genre}.{number:05}.wav" for genre in GENRES for number in range(3)]
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as archive:
        for name in [*names, "genres/blues/._blues.00000.wav"]:
            sound = io.BytesIO()
            soundfile.write(sound, random.normal(scale=0.1, size=800), 8_000, format="WAV")
            info, content = member(name, sound.getvalue())
            archive.addfile(info, io.BytesIO(content))
    pages.content = file.getvalue()
    dead = pages.respond("/dead", lambda handler: handler.send_error(404))
    digest = f"sha256:{hashlib.sha256(pages.content).hexdigest()}"
    addresses = (
        gtzan_archive.Address(dead, digest, 7),
        gtzan_archive.Address(pages.address + "/genres.tar.gz", digest, len(pages.content)),
    )
    monkeypatch.setattr(gtzan_archive, "ADDRESSES", addresses)
    return digest


@pytest.mark.filterwarnings("ignore::musgenre.datasets.DatasetWarning")
class TestGTZAN:
    def test_downloads_once_and_completely(self, gtzan, pages, tmp_path):
        for _ in range(2):
            root = GTZAN.download(tmp_path / "music")
        assert root == tmp_path / "music"
        assert [path for path, _ in pages.requested] == ["/dead", "/genres.tar.gz"]
        assert [path.name for path in root.iterdir()] == ["genres"]
        assert len(GTZAN(root, scheme="all")) == 30
        assert not list(root.rglob("._*"))

    def test_an_interrupted_download_is_resumed(self, gtzan, pages, tmp_path):
        pages.respond("/genres.tar.gz", lambda handler: handler.send(cut_after=7_000), lambda h: h.send_error(404))
        with pytest.raises(DatasetError, match=r"/dead.*404.*genres\.tar\.gz.*404"):
            GTZAN.download(tmp_path)
        pages.respond("/genres.tar.gz", lambda handler: handler.send())
        assert len(GTZAN(GTZAN.download(tmp_path), scheme="all")) == 30
        assert pages.requested[-1][1] == "bytes=7000-"

    def test_wrong_checksum_is_refused(self, gtzan, pages, tmp_path):
        pages.content = pages.content[:-1] + b"\1"
        with pytest.raises(DatasetError, match="does not match"):
            GTZAN.download(tmp_path)
        assert list(tmp_path.iterdir()) == []

    def test_custom_url(self, gtzan, pages, tmp_path, caplog):
        with caplog.at_level(logging.WARNING, "musgenre"):
            GTZAN.download(tmp_path / "a", url=pages.address + "/custom")
        assert "No checksum" in caplog.text
        with pytest.raises(DatasetError, match="does not match"):
            GTZAN.download(tmp_path / "b", url=pages.address + "/custom", checksum="md5:" + "0" * 32)
        with pytest.raises(DatasetError, match="No checksum of it is known; you may pass one"):
            GTZAN.download(tmp_path / "c", url=pages.address + "/dead")
        with pytest.raises(ParameterError, match="both"):
            GTZAN.download(tmp_path / "d", checksum=gtzan)
        assert GTZAN.download(tmp_path / "e", url=pages.address + "/custom", checksum=gtzan) == tmp_path / "e"

    def test_an_existing_dataset_is_not_downloaded(self, gtzan, pages, tmp_path):
        for layout in ("blues", "genres/blues", "Data/genres_original/blues"):
            root = tmp_path / layout.replace("/", "-")
            (root / layout).mkdir(parents=True)
            assert GTZAN.download(root) == root
        assert pages.requested == []

    def test_full_disk_and_read_only_directory(self, gtzan, small_disk, read_only):
        (small_disk / "full").write_bytes(bytes(2**20 - 8_192))
        with pytest.raises(DatasetError, match=r"do not fit on the disk|No space left"):
            GTZAN.download(small_disk)
        with pytest.raises(DatasetError, match="Read-only"):
            GTZAN.download(read_only)

    def test_command_line(self, gtzan, tmp_path):
        done = CliRunner().invoke(app, ["download", "gtzan", str(tmp_path)])
        assert (done.exit_code, done.stdout) == (0, f"{tmp_path}: gtzan\n"), done.exception
        assert (tmp_path / "genres" / "rock").is_dir()

    def test_addresses_have_url_and_checksum(self):
        assert len(gtzan_archive.ADDRESSES) > 1
        for address in gtzan_archive.ADDRESSES:
            assert address.url.startswith("http")
            kind, _, digits = address.checksum.partition(":")
            assert len(bytes.fromhex(digits)) == hashlib.new(kind).digest_size


class TestLocalFilesOnly:
    """``local_files_only`` also applies to the weights of a backbone."""

    @pytest.fixture
    def cache(self, tmp_path, monkeypatch):
        monkeypatch.setenv("MUSGENRE_CACHE", str(tmp_path))
        monkeypatch.setattr("requests.Session.get", lambda *_, **__: pytest.fail("sent a request"))
        return tmp_path.joinpath(*CACHE_PATH)

    def test_nothing_is_downloaded(self, cache):
        with pytest.raises(WeightsError, match="local_files_only=True forbids") as caught:
            GenreClassifier.from_pretrained("yamnet-gtzan", local_files_only=True)
        assert str(cache) in str(caught.value)
        assert not cache.exists()

    def test_cached_weights_are_used(self, cache, monkeypatch):
        import os

        path = os.environ.get("MUSGENRE_TEST_YAMNET")
        if not path:
            pytest.skip("MUSGENRE_TEST_YAMNET is not set to a file of YAMNet's weights")
        cache.parent.mkdir(parents=True)
        shutil.copy(path, cache)
        assert GenreClassifier.from_pretrained("yamnet-gtzan", local_files_only=True).config.backbone.name == "yamnet"
