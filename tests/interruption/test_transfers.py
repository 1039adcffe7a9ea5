"""Downloads from faulty servers yield the right file, or an error and no file."""

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

from musgenre.core import download as transfers
from musgenre.core.download import download, fetch
from musgenre.core.errors import DownloadError, MusgenreError

FILE = "/genres.tar.gz"


def checksum(content: bytes, kind: str = "sha256") -> str:
    return f"{kind}:{hashlib.new(kind, content).hexdigest()}"


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def cut(after: int, *, ranges: bool = True):
    return lambda handler: handler.send(cut_after=after, ranges=ranges)


class TestResuming:
    @pytest.mark.parametrize("known", [True, False])
    def test_broken_connections_are_resumed(self, pages, tmp_path, known):
        url = pages.respond(FILE, *[cut(400_000)] * 4, lambda handler: handler.send())
        path = download(url, tmp_path / "file", checksum=checksum(pages.content) if known else None)
        assert path.read_bytes() == pages.content
        assert names_in(tmp_path) == ["file"]
        assert pages.sent < 1.5 * len(pages.content)

    def test_a_killed_download_is_resumed(self, pages, tmp_path):
        url = pages.respond(FILE, lambda handler: handler.send(pause=0.05), lambda handler: handler.send())
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
        pages.requested.clear()
        assert download(url, tmp_path / "file").read_bytes() == pages.content
        start = int(pages.requested[-1][1].removeprefix("bytes=").rstrip("-"))
        assert start >= 300_000
        assert names_in(tmp_path) == ["file"]

    def test_a_complete_part_is_not_downloaded_again(self, pages, tmp_path, monkeypatch):
        url = pages.address + FILE
        with monkeypatch.context() as patch:
            patch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError("killed")))
            with pytest.raises(DownloadError, match="killed"):
                download(url, tmp_path / "file")
        sent = pages.sent
        assert download(url, tmp_path / "file").read_bytes() == pages.content
        assert [requested for _, requested in pages.requested] == [None, None]
        assert pages.sent <= sent + 500_000  # the second response is not read

    def test_another_version_restarts(self, pages, tmp_path):
        url = pages.respond(FILE, cut(700_000), lambda handler: handler.send_error(404))
        with pytest.raises(DownloadError, match="404"):
            download(url, tmp_path / "file")
        assert len(names_in(tmp_path)) == 1
        pages.content, pages.tag = pages.content[::-1], '"second"'
        pages.respond(FILE, lambda handler: handler.send())
        assert download(url, tmp_path / "file").read_bytes() == pages.content
        assert names_in(tmp_path) == ["file"]

    def test_a_version_that_changes_between_requests_restarts(self, pages, tmp_path):
        def change(handler):
            handler.send()
            pages.content, pages.tag = pages.content[::-1], '"second"'

        url = pages.respond(FILE, cut(700_000), change, lambda handler: handler.send())
        assert download(url, tmp_path / "file").read_bytes() == pages.content

    @pytest.mark.parametrize("tag", [None, 'W/"weak"'])
    def test_no_resuming_without_a_version(self, pages, tmp_path, tag):
        pages.tag = tag
        url = pages.respond(FILE, cut(700_000))
        with pytest.raises(DownloadError, match="IncompleteRead"):
            download(url, tmp_path / "file")
        assert names_in(tmp_path) == []
        assert len(pages.requested) == 1

    def test_no_resuming_without_range_support(self, pages, tmp_path):
        url = pages.respond(FILE, cut(700_000, ranges=False), lambda handler: handler.send(ranges=False))
        with pytest.raises(DownloadError, match="IncompleteRead"):
            download(url, tmp_path / "file")
        assert names_in(tmp_path) == []
        assert download(url, tmp_path / "file").read_bytes() == pages.content

    def test_wrong_range_in_the_response(self, pages, tmp_path):
        def other_part(handler):
            handler.send_response(206)
            handler.send_header("Content-Range", f"bytes 5-{len(pages.content) - 1}/{len(pages.content)}")
            handler.send_header("Content-Length", "3")
            handler.end_headers()
            handler.wfile.write(b"abc")

        url = pages.respond(
            FILE, cut(700_000), lambda handler: handler.send(), other_part, lambda handler: handler.send()
        )
        with pytest.raises(DownloadError, match="did not send the requested range"):
            download(url, tmp_path / "file")
        assert download(url, tmp_path / "file").read_bytes() == pages.content

    def test_gives_up_without_progress(self, pages, tmp_path):
        url = pages.respond(FILE, cut(700_000), cut(0))
        with pytest.raises(DownloadError, match="IncompleteRead"):
            download(url, tmp_path / "file")
        assert len(pages.requested) < 10
        pages.respond(FILE, lambda handler: handler.send())
        assert download(url, tmp_path / "file").read_bytes() == pages.content
        assert pages.requested[-1][1] == "bytes=700000-"


class TestTimeout:
    def test_a_stalled_server(self, pages, tmp_path, monkeypatch):
        monkeypatch.setattr(transfers, "TIMEOUT_SECONDS", 0.3)
        done = threading.Event()

        def stall(handler):
            handler.send(cut_after=500_000) if handler.headers["Range"] else handler.send(pause=0)

        def hang(handler):
            handler.send_response(200)
            handler.send_header("Content-Length", str(len(pages.content)))
            handler.send_header("Accept-Ranges", "bytes")
            handler.send_header("ETag", pages.tag)
            handler.end_headers()
            handler.wfile.write(pages.content[:500_000])
            handler.wfile.flush()
            done.wait(20)

        url = pages.respond(FILE, hang, stall)
        assert download(url, tmp_path / "file").read_bytes() == pages.content
        pages.respond("/silent", lambda _: done.wait(20))
        with pytest.raises(DownloadError, match=r"[Tt]imed out"):
            download(pages.address + "/silent", tmp_path / "other")
        done.set()
        assert names_in(tmp_path) == ["file"]


class TestResponses:
    @pytest.mark.parametrize(("code", "requests"), [(404, 1), (403, 1), (410, 1), (500, 3), (503, 3)])
    def test_error_statuses(self, pages, tmp_path, code, requests):
        url = pages.respond(FILE, lambda handler: handler.send_error(code))
        with pytest.raises(DownloadError, match=str(code)) as caught:
            download(url, tmp_path / "file")
        for part in (url, "on another machine", f"put it at '{tmp_path / 'file'}'"):
            assert part in str(caught.value)
        assert len(pages.requested) == requests
        assert names_in(tmp_path) == []

    def test_temporary_failures_are_retried(self, pages, tmp_path):
        url = pages.respond(FILE, lambda handler: handler.send_error(503), lambda handler: handler.send())
        assert download(url, tmp_path / "file").read_bytes() == pages.content

    @pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
    def test_redirects_are_followed(self, pages, tmp_path, code):
        def redirect(handler):
            handler.send_response(code)
            handler.send_header("Location", "/redirected")
            handler.send_header("Content-Length", "0")
            handler.end_headers()

        url = pages.respond(FILE, redirect)
        assert download(url, tmp_path / "file").read_bytes() == pages.content

    @pytest.mark.parametrize("to", [FILE, "file:///etc/passwd", "ftp://127.0.0.1/x"])
    def test_cyclic_and_non_http_redirects_are_refused(self, pages, tmp_path, to):
        def redirect(handler):
            handler.send_response(302)
            handler.send_header("Location", to)
            handler.send_header("Content-Length", "0")
            handler.end_headers()

        url = pages.respond(FILE, redirect)
        with pytest.raises(DownloadError, match=r"redirects|connection adapters"):
            download(url, tmp_path / "file")
        assert names_in(tmp_path) == []


class TestWrongFiles:
    @pytest.mark.parametrize("kind", ["sha256", "md5"])
    def test_wrong_checksum(self, pages, tmp_path, kind):
        with pytest.raises(DownloadError, match="does not match"):
            download(pages.address + FILE, tmp_path / "file", checksum=checksum(b"other", kind))
        assert names_in(tmp_path) == []
        right = download(pages.address + FILE, tmp_path / "file", checksum=checksum(pages.content, kind))
        assert right.read_bytes() == pages.content

    def test_wrong_content_length_is_refused_before_the_body(self, pages, tmp_path):
        with pytest.raises(DownloadError, match=f"{len(pages.content)} bytes instead of 7"):
            download(pages.address + FILE, tmp_path / "file", size=7)
        assert names_in(tmp_path) == []

    @pytest.mark.parametrize(("size", "message"), [(100_000, "or more"), (10**7, "instead of")])
    def test_wrong_size_without_content_length(self, pages, tmp_path, size, message):
        def without_length(handler):
            handler.send_response(200)
            handler.end_headers()
            handler.wfile.write(pages.content)

        url = pages.respond(FILE, without_length)
        with pytest.raises(DownloadError, match=message):
            download(url, tmp_path / "file", size=size)
        assert names_in(tmp_path) == []
        assert download(url, tmp_path / "file", size=len(pages.content)).read_bytes() == pages.content

    def test_larger_than_the_free_disk_space(self, pages, tmp_path):
        def huge(handler):
            handler.send_response(200)
            handler.send_header("Content-Length", str(10**17))
            handler.end_headers()

        with pytest.raises(DownloadError, match="do not fit on the disk"):
            download(pages.respond(FILE, huge), tmp_path / "file")
        assert names_in(tmp_path) == []


class TestFileSystems:
    def test_full_disk(self, pages, small_disk):
        def without_length(handler):
            handler.send_response(200)
            handler.end_headers()
            handler.wfile.write(pages.content)

        (small_disk / "file").write_bytes(b"older")
        for url in (pages.address + "/with-length", pages.respond("/without", without_length)):
            with pytest.raises(DownloadError, match=r"do not fit on the disk|No space left"):
                download(url, small_disk / "file", checksum=checksum(pages.content))
            assert (small_disk / "file").read_bytes() == b"older"
            assert names_in(small_disk) == ["file"]

    def test_read_only_directory(self, pages, tmp_path, read_only):
        (tmp_path / "writable" / "file").write_bytes(pages.content)
        for known in (None, checksum(pages.content)):
            assert download(pages.address + FILE, read_only / "file", checksum=known) == read_only / "file"
        assert pages.requested == []
        with pytest.raises(DownloadError, match="Read-only"):
            download(pages.address + FILE, read_only / "other")


class TestConcurrency:
    @pytest.mark.slow
    def test_processes_and_threads_download_once(self, pages, tmp_path, monkeypatch):
        monkeypatch.setenv("MUSGENRE_CACHE", str(tmp_path))
        url = pages.respond(FILE, lambda handler: handler.send(pause=0.02))
        code = (
            "import sys; from concurrent.futures import ThreadPoolExecutor; from musgenre.core.download import fetch\n"
            "with ThreadPoolExecutor(8) as pool:\n"
            "    paths = list(pool.map(lambda _: fetch(sys.argv[1], 'net', 'file', sha256=None), range(8)))\n"
            "print(len(set(paths)), paths[0].stat().st_size)\n"
        )
        command = [sys.executable, "-c", code, url]
        started = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
        assert [process.communicate(timeout=120)[0] for process in started] == [f"1 {len(pages.content)}\n"] * 2
        assert [requested for _, requested in pages.requested] == [None]
        assert (tmp_path / "net" / "file").read_bytes() == pages.content
        assert names_in(tmp_path / "net") == ["file"]


def test_messages_use_the_module_logger(pages, tmp_path, monkeypatch, caplog, capfd):
    monkeypatch.setenv("MUSGENRE_CACHE", str(tmp_path))
    with caplog.at_level(logging.INFO, "musgenre"):
        fetch(pages.address + FILE, "file", sha256=None)
    assert [record.name for record in caplog.records if "Downloading data" in record.getMessage()] == [
        "musgenre.core.download"
    ]
    assert capfd.readouterr() == ("", "")


def test_download_error_is_a_musgenre_error_and_an_os_error():
    assert issubclass(DownloadError, MusgenreError)
    assert issubclass(DownloadError, OSError)
