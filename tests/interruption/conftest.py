"""Fixtures for failure tests: a faulty server, a small disk, a model and tracks."""

from __future__ import annotations

import http.server
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

import musgenre
from musgenre.core import download as transfers

CONTENT = np.random.default_rng(0).bytes(1_500_000)


class Pages:
    """Responses and received requests of a server.

    Attributes:
        address: ``http://127.0.0.1:<port>``.
        content: Body for every path without its own responses.
        tag: Its ``ETag``, or ``None`` for none.
        requested: Each requested path, with the ``Range`` header or ``None``.
        sent: Number of content bytes sent.
        responses: Responses by path; the last one is repeated.
    """

    def __init__(self) -> None:
        self.address = ""
        self.content = CONTENT
        self.tag: str | None = '"first"'
        self.requested: list[tuple[str, str | None]] = []
        self.sent = 0
        self.responses: dict[str, list[Callable[[Any], None]]] = {}

    def respond(self, path: str, *responses: Callable[[Any], None]) -> str:
        self.responses[path] = list(responses)
        return self.address + path


class Handler(http.server.BaseHTTPRequestHandler):
    pages: Pages

    def do_GET(self) -> None:
        self.pages.requested.append((self.path, self.headers["Range"]))
        responses = self.pages.responses.get(self.path)
        if responses:
            (responses.pop(0) if len(responses) > 1 else responses[0])(self)
        else:
            self.send()

    def send(self, *, cut_after: int | None = None, ranges: bool = True, pause: float = 0.0) -> None:
        """Sends the content or the requested range; closes the connection after ``cut_after`` bytes."""
        content, requested = self.pages.content, self.headers["Range"]
        start = int(requested.removeprefix("bytes=").rstrip("-")) if requested and ranges else 0
        if self.headers["If-Range"] != self.pages.tag:
            start = 0
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(content) - start))
        self.send_header("Accept-Ranges", "bytes" if ranges else "none")
        if self.pages.tag is not None:
            self.send_header("ETag", self.pages.tag)
        self.end_headers()
        rest = content[start:][:cut_after]
        for first in range(0, len(rest), 50_000):
            self.wfile.write(rest[first : first + 50_000])
            self.pages.sent += len(rest[first : first + 50_000])
            time.sleep(pause)
        if cut_after is not None:
            self.close_early()

    def close_early(self) -> None:
        self.wfile.flush()
        self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def pages(monkeypatch: pytest.MonkeyPatch) -> Iterator[Pages]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(transfers, "RETRY_PAUSE_SECONDS", 0.0)
    pages = Pages()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), type("PagesHandler", (Handler,), {"pages": pages}))
    server.daemon_threads = True
    server.handle_error = lambda *_: None  # tests kill clients
    with server:
        pages.address = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield pages
        server.shutdown()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB."""
    yield from _mounted(tmp_path / "small", "tmpfs", "size=1m")


@pytest.fixture
def read_only(tmp_path: Path) -> Iterator[Path]:
    """A directory that not even root can write to: a read-only mount of ``tmp_path / "writable"``."""
    (tmp_path / "writable").mkdir()
    for directory in _mounted(tmp_path / "read-only", str(tmp_path / "writable"), "bind"):
        completed = subprocess.run(
            ["mount", "-o", "remount,bind,ro", directory], capture_output=True, text=True, check=False
        )
        if completed.returncode:
            pytest.skip(f"a read-only mount is not possible here: {completed.stderr.strip()}")
        yield directory


def _mounted(directory: Path, source: str, options: str) -> Iterator[Path]:
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("mounting needs root on Linux")
    directory.mkdir()
    kind = ["-t", "tmpfs"] if source == "tmpfs" else []
    completed = subprocess.run(
        ["mount", *kind, "-o", options, source, directory], capture_output=True, text=True, check=False, timeout=30
    )
    if completed.returncode:
        pytest.skip(f"mounting is not possible here: {completed.stderr.strip()}")
    try:
        yield directory
    finally:
        subprocess.run(["umount", "--lazy", directory], check=True, timeout=30)


def make_classifier(labels: tuple[str, ...] = ("drone", "hiss"), *, seed: int = 0) -> musgenre.GenreClassifier:
    """A network of a few thousand weights for windows of 0.6 s at 8 kHz."""
    torch.manual_seed(seed)
    feature = musgenre.Component("logmel", {"n_fft": 256, "hop_length": 128, "n_mels": 32})
    backbone = musgenre.Component("vgg16-slim", {"width": 0.05, "dense_units": 8})
    audio = musgenre.AudioSpec(8_000, window_seconds=0.6, hop_seconds=0.6)
    config = musgenre.ModelConfig("tiny", labels, audio, feature, backbone)
    return musgenre.GenreClassifier(musgenre.GenreNetwork.from_config(config), config, device="cpu")


@pytest.fixture(scope="session")
def make() -> Callable[..., musgenre.GenreClassifier]:
    return make_classifier


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    make_classifier().save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def make_songs() -> Callable[..., list[Path]]:
    """Writes tracks of 0.1 to 0.5 s; every ``broken_every``-th is damaged in one of four ways."""

    def write(folder: Path, count: int, *, broken_every: int) -> list[Path]:
        generator = np.random.default_rng(0)
        songs = []
        for number in range(count):
            path = folder / f"{number // 1_000:02}" / f"{number:05}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            noise = generator.normal(scale=0.1, size=800 + 8 * (number % 400))
            soundfile.write(path, noise, 8_000)
            if number % broken_every == broken_every // 2:
                content = path.read_bytes()
                ways = (b"", b"not audio", content[:30], content[: len(content) // 3])
                path.write_bytes(ways[number // broken_every % len(ways)])
            songs.append(path)
        return songs

    return write
