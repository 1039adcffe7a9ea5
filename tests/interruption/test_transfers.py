"""Downloads from servers that cut, stall, redirect, lie or are busy: the right file, or an error and nothing else."""

from __future__ import annotations

import hashlib
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from musgenre.core import http as transfers
from musgenre.core.download import download, fetch
from musgenre.core.errors import DownloadError, MusgenreError

FILE = "/genres.tar.gz"


def checksum(content: bytes, kind: str = "sha256") -> str:
    return f"{kind}:{hashlib.new(kind, content).hexdigest()}"


def everything_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def cut(after: int, *, ranges: bool = True):
    return lambda handler: handler.give(cut_after=after, ranges=ranges)


class TestGoingOn:
    @pytest.mark.parametrize("known", [True, False])
    def test_a_connection_that_breaks_is_taken_up_again(self, pages, tmp_path, known):
        url = pages.answer(FILE, *[cut(400_000)] * 4, lambda handler: handler.give())
        path = download(url, tmp_path / "file", checksum=checksum(pages.content) if known else None)
        assert path.read_bytes() == pages.content
        assert everything_in(tmp_path) == ["file"]
        assert pages.sent < 1.5 * len(pages.content)

    def test_a_killed_download_goes_on(self, pages, tmp_path):
        url = pages.answer(FILE, lambda handler: handler.give(pause=0.05), lambda handler: handler.give())
        code = f"from pathlib import Path; from musgenre.core.download import download; download({url!r}, Path('file'))"
        process = subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path)
        deadline = time.monotonic() + 60
        while sum(part.stat().st_size for part in tmp_path.glob(".file.download/*.part")) < 300_000:
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        assert not (tmp_path / "file").exists()
        pages.asked.clear()
        assert download(url, tmp_path / "file").read_bytes() == pages.content
        start = int(pages.asked[-1][1].removeprefix("bytes=").rstrip("-"))
        assert start >= 300_000
        assert everything_in(tmp_path) == ["file"]

    def test_what_had_come_whole_is_not_asked_for_again(self, pages, tmp_path, monkeypatch):
        url = pages.address + FILE
        with monkeypatch.context() as patch:
            patch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError("killed")))
            with pytest.raises(DownloadError, match="killed"):
                download(url, tmp_path / "file")
        sent = pages.sent
        assert download(url, tmp_path / "file").read_bytes() == pages.content
        assert [asked for _, asked in pages.asked] == [None, None]
        assert pages.sent <= sent + 500_000  # of the second answer nothing is read

    def test_another_version_starts_anew(self, pages, tmp_path):
        url = pages.answer(FILE, cut(700_000), lambda handler: handler.send_error(404))
        with pytest.raises(DownloadError, match="404"):
            download(url, tmp_path / "file")
        assert len(everything_in(tmp_path)) == 1
        pages.content, pages.tag = pages.content[::-1], '"second"'
        pages.answer(FILE, lambda handler: handler.give())
        assert download(url, tmp_path / "file").read_bytes() == pages.content
        assert everything_in(tmp_path) == ["file"]

    def test_a_version_that_changes_in_between_starts_anew(self, pages, tmp_path):
        def change(handler):
            handler.give()
            pages.content, pages.tag = pages.content[::-1], '"second"'

        url = pages.answer(FILE, cut(700_000), change, lambda handler: handler.give())
        assert download(url, tmp_path / "file").read_bytes() == pages.content

    @pytest.mark.parametrize("tag", [None, 'W/"weak"'])
    def test_without_a_version_there_is_no_going_on(self, pages, tmp_path, tag):
        pages.tag = tag
        url = pages.answer(FILE, cut(700_000))
        with pytest.raises(DownloadError, match="IncompleteRead"):
            download(url, tmp_path / "file")
        assert everything_in(tmp_path) == []
        assert len(pages.asked) == 1

    def test_nor_where_the_server_cannot(self, pages, tmp_path):
        url = pages.answer(FILE, cut(700_000, ranges=False), lambda handler: handler.give(ranges=False))
        with pytest.raises(DownloadError, match="IncompleteRead"):
            download(url, tmp_path / "file")
        assert everything_in(tmp_path) == []
        assert download(url, tmp_path / "file").read_bytes() == pages.content

    def test_a_server_that_gives_another_part(self, pages, tmp_path):
        def other_part(handler):
            handler.send_response(206)
            handler.send_header("Content-Range", f"bytes 5-{len(pages.content) - 1}/{len(pages.content)}")
            handler.send_header("Content-Length", "3")
            handler.end_headers()
            handler.wfile.write(b"abc")

        url = pages.answer(
            FILE, cut(700_000), lambda handler: handler.give(), other_part, lambda handler: handler.give()
        )
        with pytest.raises(DownloadError, match="something else"):
            download(url, tmp_path / "file")
        assert download(url, tmp_path / "file").read_bytes() == pages.content

    def test_it_gives_up_when_nothing_comes(self, pages, tmp_path):
        url = pages.answer(FILE, cut(700_000), cut(0))
        with pytest.raises(DownloadError, match="IncompleteRead"):
            download(url, tmp_path / "file")
        assert len(pages.asked) < 10
        pages.answer(FILE, lambda handler: handler.give())
        assert download(url, tmp_path / "file").read_bytes() == pages.content
        assert pages.asked[-1][1] == "bytes=700000-"


class TestStalling:
    def test_a_server_that_stalls(self, pages, tmp_path, monkeypatch):
        monkeypatch.setattr(transfers, "SECONDS_WITHOUT_AN_ANSWER", 0.3)
        done = threading.Event()

        def stall(handler):
            handler.give(cut_after=500_000) if handler.headers["Range"] else handler.give(pause=0)

        def hang(handler):
            handler.send_response(200)
            handler.send_header("Content-Length", str(len(pages.content)))
            handler.send_header("Accept-Ranges", "bytes")
            handler.send_header("ETag", pages.tag)
            handler.end_headers()
            handler.wfile.write(pages.content[:500_000])
            handler.wfile.flush()
            done.wait(20)

        url = pages.answer(FILE, hang, stall)
        assert download(url, tmp_path / "file").read_bytes() == pages.content
        pages.answer("/silent", lambda _: done.wait(20))
        with pytest.raises(DownloadError, match=r"[Tt]imed out"):
            download(pages.address + "/silent", tmp_path / "other")
        done.set()
        assert everything_in(tmp_path) == ["file"]


class TestAnswers:
    @pytest.mark.parametrize(("code", "asked"), [(404, 1), (403, 1), (410, 1), (500, 3), (503, 3)])
    def test_what_a_server_refuses(self, pages, tmp_path, code, asked):
        url = pages.answer(FILE, lambda handler: handler.send_error(code))
        with pytest.raises(DownloadError, match=str(code)) as caught:
            download(url, tmp_path / "file")
        for said in (url, "on another machine", f"put it at '{tmp_path / 'file'}'"):
            assert said in str(caught.value)
        assert len(pages.asked) == asked
        assert everything_in(tmp_path) == []

    def test_a_busy_server_is_asked_again(self, pages, tmp_path):
        url = pages.answer(FILE, lambda handler: handler.send_error(503), lambda handler: handler.give())
        assert download(url, tmp_path / "file").read_bytes() == pages.content

    @pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
    def test_a_redirect_is_followed(self, pages, tmp_path, code):
        def elsewhere(handler):
            handler.send_response(code)
            handler.send_header("Location", "/elsewhere")
            handler.send_header("Content-Length", "0")
            handler.end_headers()

        url = pages.answer(FILE, elsewhere)
        assert download(url, tmp_path / "file").read_bytes() == pages.content

    @pytest.mark.parametrize("to", [FILE, "file:///etc/passwd", "ftp://127.0.0.1/x"])
    def test_but_not_in_circles_nor_out_of_the_web(self, pages, tmp_path, to):
        def elsewhere(handler):
            handler.send_response(302)
            handler.send_header("Location", to)
            handler.send_header("Content-Length", "0")
            handler.end_headers()

        url = pages.answer(FILE, elsewhere)
        with pytest.raises(DownloadError, match=r"redirects|connection adapters"):
            download(url, tmp_path / "file")
        assert everything_in(tmp_path) == []


class TestWrongFiles:
    @pytest.mark.parametrize("kind", ["sha256", "md5"])
    def test_wrong_bytes(self, pages, tmp_path, kind):
        with pytest.raises(DownloadError, match="does not match"):
            download(pages.address + FILE, tmp_path / "file", checksum=checksum(b"other", kind))
        assert everything_in(tmp_path) == []
        right = download(pages.address + FILE, tmp_path / "file", checksum=checksum(pages.content, kind))
        assert right.read_bytes() == pages.content

    def test_a_wrong_size_is_seen_before_anything_comes(self, pages, tmp_path):
        with pytest.raises(DownloadError, match=f"{len(pages.content)} bytes instead of 7"):
            download(pages.address + FILE, tmp_path / "file", size=7)
        assert everything_in(tmp_path) == []

    @pytest.mark.parametrize(("size", "told"), [(100_000, "or more"), (10**7, "instead of")])
    def test_or_as_it_comes(self, pages, tmp_path, size, told):
        def without_length(handler):
            handler.send_response(200)
            handler.end_headers()
            handler.wfile.write(pages.content)

        url = pages.answer(FILE, without_length)
        with pytest.raises(DownloadError, match=told):
            download(url, tmp_path / "file", size=size)
        assert everything_in(tmp_path) == []
        assert download(url, tmp_path / "file", size=len(pages.content)).read_bytes() == pages.content

    def test_more_than_the_disk_has(self, pages, tmp_path):
        def huge(handler):
            handler.send_response(200)
            handler.send_header("Content-Length", str(10**17))
            handler.end_headers()

        with pytest.raises(DownloadError, match="no room"):
            download(pages.answer(FILE, huge), tmp_path / "file")
        assert everything_in(tmp_path) == []


class TestPlaces:
    def test_a_full_disk(self, pages, small_disk):
        def without_length(handler):
            handler.send_response(200)
            handler.end_headers()
            handler.wfile.write(pages.content)

        (small_disk / "file").write_bytes(b"older")
        for url in (pages.address + "/with-length", pages.answer("/without", without_length)):
            with pytest.raises(DownloadError, match=r"no room|No space left"):
                download(url, small_disk / "file", checksum=checksum(pages.content))
            assert (small_disk / "file").read_bytes() == b"older"
            assert everything_in(small_disk) == ["file"]

    def test_a_folder_for_reading_only(self, pages, tmp_path, read_only):
        (tmp_path / "kept" / "file").write_bytes(pages.content)
        for known in (None, checksum(pages.content)):
            assert download(pages.address + FILE, read_only / "file", checksum=known) == read_only / "file"
        assert pages.asked == []
        with pytest.raises(DownloadError, match="Read-only"):
            download(pages.address + FILE, read_only / "other")


class TestTogether:
    @pytest.mark.slow
    def test_processes_and_threads_download_once(self, pages, tmp_path, monkeypatch):
        monkeypatch.setenv("MUSGENRE_CACHE", str(tmp_path))
        url = pages.answer(FILE, lambda handler: handler.give(pause=0.02))
        code = (
            "import sys; from concurrent.futures import ThreadPoolExecutor; from musgenre.core.download import fetch\n"
            "with ThreadPoolExecutor(8) as pool:\n"
            "    paths = list(pool.map(lambda _: fetch(sys.argv[1], 'net', 'file', sha256=None), range(8)))\n"
            "print(len(set(paths)), paths[0].stat().st_size)\n"
        )
        command = [sys.executable, "-c", code, url]
        started = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
        assert [process.communicate(timeout=120)[0] for process in started] == [f"1 {len(pages.content)}\n"] * 2
        assert [asked for _, asked in pages.asked] == [None]
        assert (tmp_path / "net" / "file").read_bytes() == pages.content
        assert everything_in(tmp_path / "net") == ["file"]


def test_it_speaks_through_its_own_logger(pages, tmp_path, monkeypatch, caplog, capfd):
    monkeypatch.setenv("MUSGENRE_CACHE", str(tmp_path))
    with caplog.at_level(logging.INFO, "musgenre"):
        fetch(pages.address + FILE, "file", sha256=None)
    assert [record.name for record in caplog.records if "Downloading data" in record.getMessage()] == [
        "musgenre.core.download"
    ]
    assert capfd.readouterr() == ("", "")


def test_an_error_of_a_download_is_one_of_both_kinds():
    assert issubclass(DownloadError, MusgenreError)
    assert issubclass(DownloadError, OSError)
