"""A small classifier and a faulty server for property tests."""

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
    """Averages the feature map in 16 × 2 tiles: the smallest network that responds to pitch and time."""

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
    """Closes the connection after ``cuts[i]`` bytes of response ``i``, and sends complete responses afterwards."""

    content = random.Random(0).randbytes(50_000)
    cuts: list[int]
    version: str | None
    address: str

    def do_GET(self) -> None:
        requested = self.headers["Range"]
        start = int(requested.removeprefix("bytes=").rstrip("-")) if requested else 0
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
        server.handle_error = lambda *_: None  # clients close connections early
        handler.address = f"http://127.0.0.1:{server.server_port}/file"
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield handler
        server.shutdown()
