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

    requested: list[str]

    def do_GET(self) -> None:
        self.requested.append(self.path)
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
def requested() -> list[str]:
    """The paths that the server received."""
    return []


@pytest.fixture
def address(requested: list[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    handler = type("Server", (_Server,), {"requested": requested})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MUSGENRE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def _files(directory: Path) -> list[str]:
    """All files below a directory except lock files."""
    return sorted(path.name for path in directory.rglob("*") if path.is_file() and path.suffix != ".lock")


class TestCacheDirectory:
    def test_environment_variable(self, cache):
        assert cache_directory() == cache
        assert cache_directory("a", "b.h5") == cache / "a" / "b.h5"
        assert not cache.exists()

    def test_tilde_is_expanded(self, monkeypatch, tmp_path):
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.setenv("MUSGENRE_CACHE", "~/mine")
        assert cache_directory("a") == tmp_path / "mine" / "a"

    @pytest.mark.parametrize("value", [None, ""])
    def test_default_is_the_systems_cache_directory(self, monkeypatch, value):
        monkeypatch.delenv("MUSGENRE_CACHE", raising=False)
        if value is not None:
            monkeypatch.setenv("MUSGENRE_CACHE", value)
        assert cache_directory() == Path(platformdirs.user_cache_dir("musgenre", False))


class TestFetch:
    @pytest.mark.parametrize("sha256", [None, CHECKSUM, CHECKSUM.upper()], ids=["none", "small letters", "capitals"])
    def test_downloads_once(self, address, cache, requested, sha256):
        for _ in range(3):
            path = fetch(f"{address}/file", "net", "weights.h5", sha256=sha256)
            assert path == cache / "net" / "weights.h5"
            assert path.read_bytes() == CONTENT
        assert requested == ["/file"]
        assert _files(cache) == ["weights.h5"]

    def test_an_existing_file_needs_no_network(self, cache):
        (cache / "net").mkdir(parents=True)
        (cache / "net" / "weights.h5").write_bytes(CONTENT)
        for sha256 in (None, CHECKSUM):
            assert fetch(_unreachable_url(), "net", "weights.h5", sha256=sha256) == cache / "net" / "weights.h5"

    @pytest.mark.parametrize(("page", "reason"), [("/other", "404"), ("/cut", "IncompleteRead|Connection broken")])
    def test_a_failed_download_leaves_no_file(self, address, cache, page, reason):
        with pytest.raises(WeightsError, match=reason) as caught:
            fetch(address + page, "net", "weights.h5", sha256=None)
        assert isinstance(caught.value, OSError)
        assert _files(cache) == []
        assert fetch(f"{address}/file", "net", "weights.h5", sha256=None).read_bytes() == CONTENT

    def test_message_for_an_unreachable_server(self, cache):
        address = _unreachable_url()
        with pytest.raises(WeightsError) as caught:
            fetch(address, "net", "weights.h5", sha256=None)
        for part in (address, "on another machine", f"put it at '{cache / 'net' / 'weights.h5'}'"):
            assert part in str(caught.value)
        assert "\n" not in str(caught.value)

    def test_wrong_checksum(self, address, cache):
        with pytest.raises(WeightsError, match=f"does not match.*{CHECKSUM}"):
            fetch(f"{address}/file", "net", "weights.h5", sha256="0" * 64)
        assert _files(cache) == []

    def test_a_cached_file_is_replaced_only_by_the_right_one(self, address, cache):
        path = cache / "weights.h5"
        cache.mkdir()
        path.write_bytes(b"older")
        with pytest.raises(WeightsError):
            fetch(f"{address}/cut", "weights.h5", sha256=CHECKSUM)
        assert path.read_bytes() == b"older"
        assert fetch(f"{address}/file", "weights.h5", sha256=CHECKSUM).read_bytes() == CONTENT

    def test_unwritable_cache(self, address, cache):
        cache.write_text("a file where the directory should be")
        with pytest.raises(WeightsError, match="put it at"):
            fetch(f"{address}/file", "net", "weights.h5", sha256=None)


def _unreachable_url() -> str:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{closed.getsockname()[1]}/file"
