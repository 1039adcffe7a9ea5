"""A small classifier, for properties that hold of any."""

from __future__ import annotations

import http.server
import random
import threading
from collections.abc import Iterator

import pytest
import torch

import musgenre
from musgenre.backbones import Backbone, InputSpec
from musgenre.core import download as transfers
from musgenre.core.config import AudioSpec, Component, ModelConfig
from musgenre.features.spectral import LogMel

RATE = 8_000


class Mosaic(Backbone):
    """The picture in sixteen by two tiles: as small as a network can be that hears where and how high a sound is."""

    def __init__(self, *, in_channels: int) -> None:
        super().__init__()
        self.out_features = 32 * in_channels
        self.expects = InputSpec(channels=in_channels)

    def stages(self) -> list[torch.nn.Module]:
        return []

    def forward(self, feature: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.adaptive_avg_pool2d(feature, (16, 2)).flatten(1)


@pytest.fixture(scope="session")
def classifier() -> musgenre.GenreClassifier:
    spec = AudioSpec(RATE, window_seconds=0.3, hop_seconds=0.2)
    config = ModelConfig(
        "tiny", ("jazz", "metal", "pop"), spec, Component("logmel"), Component("mosaic"), temperature=0.7
    )
    backbone = Mosaic(in_channels=1)
    head = torch.nn.Linear(backbone.out_features, len(config.labels))
    torch.nn.init.normal_(head.weight, std=0.7, generator=torch.Generator().manual_seed(0))
    feature = LogMel(sample_rate=RATE, n_fft=256, hop_length=64, n_mels=32)
    return musgenre.GenreClassifier(musgenre.GenreNetwork(feature, backbone, head=head), config, device="cpu")


class BrokenServer(http.server.BaseHTTPRequestHandler):
    """Breaks off after as many bytes as it is told, answer by answer; then it works."""

    content = random.Random(0).randbytes(50_000)
    cuts: list[int]
    version: str | None
    address: str

    def do_GET(self) -> None:
        asked = self.headers["Range"]
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
        self.send_response(206 if start else 200)
        self.send_header("Content-Range", f"bytes {start}-{len(self.content) - 1}/{len(self.content)}")
        self.send_header("Content-Length", str(len(self.content) - start))
        self.send_header("Accept-Ranges", "bytes")
        if self.version is not None:
            self.send_header("ETag", self.version)
        self.end_headers()
        cut = self.cuts.pop(0) if self.cuts else None
        self.wfile.write(self.content[start:][:cut])
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def broken_server() -> Iterator[type[BrokenServer]]:
    handler = type("Handler", (BrokenServer,), {"cuts": [], "version": None})
    with pytest.MonkeyPatch.context() as patch, http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        patch.setenv("NO_PROXY", "127.0.0.1")
        patch.setattr(transfers, "RETRY_PAUSE_SECONDS", 0.0)
        server.daemon_threads = True
        server.handle_error = lambda *_: None  # of a client that has what it wants
        handler.address = f"http://127.0.0.1:{server.server_port}/file"
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield handler
        server.shutdown()
