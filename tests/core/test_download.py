from __future__ import annotations

import hashlib
import http.server
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import platformdirs
import pytest

from musgenre.core.download import cache_directory, fetch
from musgenre.core.errors import WeightsError

CONTENT = os.urandom(50_000)
CHECKSUM = hashlib.sha256(CONTENT).hexdigest()


class _Server(http.server.BaseHTTPRequestHandler):
    """Answers ``/file`` with the content, ``/cut`` with half of it, and anything else with 404."""

    asked: list[str]

    def do_GET(self) -> None:
        self.asked.append(self.path)
        if self.path not in ("/file", "/cut"):
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        self.wfile.write(CONTENT[: len(CONTENT) // (2 if self.path == "/cut" else 1)])
        if self.path == "/cut":
            self.wfile.flush()
            self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def asked() -> list[str]:
    """What the server was asked for."""
    return []


@pytest.fixture
def address(asked: list[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    handler = type("Server", (_Server,), {"asked": asked})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MUSGENRE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def _files(folder: Path) -> list[str]:
    """Everything below a folder but the locks."""
    return sorted(path.name for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock")


class TestCacheDirectory:
    def test_where_the_variable_says(self, cache):
        assert cache_directory() == cache
        assert cache_directory("a", "b.h5") == cache / "a" / "b.h5"
        assert not cache.exists()

    def test_at_home(self, monkeypatch, tmp_path):
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.setenv("MUSGENRE_CACHE", "~/mine")
        assert cache_directory("a") == tmp_path / "mine" / "a"

    @pytest.mark.parametrize("value", [None, ""])
    def test_else_where_the_system_keeps_caches(self, monkeypatch, value):
        monkeypatch.delenv("MUSGENRE_CACHE", raising=False)
        if value is not None:
            monkeypatch.setenv("MUSGENRE_CACHE", value)
        assert cache_directory() == Path(platformdirs.user_cache_dir("musgenre", False))


class TestFetch:
    @pytest.mark.parametrize("sha256", [None, CHECKSUM, CHECKSUM.upper()], ids=["none", "small letters", "capitals"])
    def test_once(self, address, cache, asked, sha256):
        for _ in range(3):
            path = fetch(f"{address}/file", "net", "weights.h5", sha256=sha256)
            assert path == cache / "net" / "weights.h5"
            assert path.read_bytes() == CONTENT
        assert asked == ["/file"]
        assert _files(cache) == ["weights.h5"]

    def test_what_is_there_needs_no_network(self, cache):
        (cache / "net").mkdir(parents=True)
        (cache / "net" / "weights.h5").write_bytes(CONTENT)
        for sha256 in (None, CHECKSUM):
            assert fetch(_nowhere(), "net", "weights.h5", sha256=sha256) == cache / "net" / "weights.h5"

    @pytest.mark.parametrize(("page", "reason"), [("/other", "404"), ("/cut", "IncompleteRead|Connection broken")])
    def test_a_failure_leaves_nothing(self, address, cache, page, reason):
        with pytest.raises(WeightsError, match=reason) as caught:
            fetch(address + page, "net", "weights.h5", sha256=None)
        assert isinstance(caught.value, OSError)
        assert _files(cache) == []
        assert fetch(f"{address}/file", "net", "weights.h5", sha256=None).read_bytes() == CONTENT

    def test_unreachable_says_what_to_do(self, cache):
        address = _nowhere()
        with pytest.raises(WeightsError) as caught:
            fetch(address, "net", "weights.h5", sha256=None)
        for said in (address, "on another machine", f"put it at '{cache / 'net' / 'weights.h5'}'"):
            assert said in str(caught.value)
        assert "\n" not in str(caught.value)

    def test_wrong_bytes(self, address, cache):
        with pytest.raises(WeightsError, match=f"does not match.*{CHECKSUM}"):
            fetch(f"{address}/file", "net", "weights.h5", sha256="0" * 64)
        assert _files(cache) == []

    def test_wrong_bytes_in_the_cache_are_replaced_by_right_ones_only(self, address, cache):
        path = cache / "weights.h5"
        cache.mkdir()
        path.write_bytes(b"older")
        with pytest.raises(WeightsError):
            fetch(f"{address}/cut", "weights.h5", sha256=CHECKSUM)
        assert path.read_bytes() == b"older"
        assert fetch(f"{address}/file", "weights.h5", sha256=CHECKSUM).read_bytes() == CONTENT

    def test_a_cache_that_cannot_be_written(self, address, cache):
        cache.write_text("a file where the directory should be")
        with pytest.raises(WeightsError, match="put it at"):
            fetch(f"{address}/file", "net", "weights.h5", sha256=None)


def _nowhere() -> str:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{closed.getsockname()[1]}/file"
