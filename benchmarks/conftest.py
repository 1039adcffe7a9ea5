"""Options, audio files, and the table of ratios."""
# ruff: noqa: PLR0917 - fixtures are passed by name

from __future__ import annotations

import os
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pytest
import soundfile

RATE = 22_050
LIMITS = {
    # row: peer -> maximum ratio to the time of the peer
    "log-mel, one clip": {"librosa": 1 / 3, "nnAudio": 1.0, "torch.stft": 1.0},
    "log-mel, per clip of batch of 16": {"one clip": 1.0},
    "log-mel, per clip of an hour": {"one clip": 1.0},
    "predict, 30 s clip": {"YAMNet in TFLite": 1.0, "published recipe": 1 / 6},
    "predict, MP3 of 78 s": {"YAMNet in TFLite": 1.0, "published recipe": 1 / 3},
    "predict, a folder": {"one worker": 1 / 1.7},
    "musgenre predict, cold": {"import torch": 1.4},
    "predict, ten minutes": {"ten times one minute": 1.1},
    "predict, ten hours": {"600 times one minute": 1.1},
    "predict with VGG-16": {"bare network": 1.1},
    "64 windows on a GPU": {"bare network": 1 / 0.8},
    "finetune, an epoch": {"bare loop": 1.15},
}
"""The rows of the table with their targets on two cores."""

Measure: TypeAlias = Callable[..., None]
_RESULTS = pytest.StashKey[dict[str, dict[str, float]]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--yamnet", help="yamnet.tflite, to benchmark YAMNet as well")
    parser.addoption("--ten-hours", action="store_true", help="predict a file of ten hours as well")
    parser.addoption("--table", help="file for the table of ratios, in Markdown")


@pytest.fixture
def measure(benchmark: Any, request: pytest.FixtureRequest) -> Measure:
    """``measure(row, who, work, rounds=…, per=…)``: the median of warm runs, divided by ``per``."""

    def run(row: str, who: str, work: Callable[[], object], *, rounds: int = 15, per: float = 1) -> None:
        benchmark.group = row
        benchmark.name = who
        benchmark.pedantic(work, rounds=rounds, warmup_rounds=min(2, rounds // 3), iterations=1)
        if benchmark.stats is not None:  # not with --benchmark-disable
            found = request.config.stash.setdefault(_RESULTS, {})
            found.setdefault(row, {})[who] = benchmark.stats.stats.median / per

    return run


@pytest.fixture(scope="session")
def songs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A clip, an MP3 and a long file with a frequency-modulated tone and gated noise."""
    folder = tmp_path_factory.mktemp("songs")
    kinds = {"clip": (30, RATE, 1, "wav"), "mp3": (78, 48_000, 2, "mp3"), "long": (600, RATE, 1, "flac")}
    kinds["minute"] = (60, RATE, 1, "flac")
    paths = {}
    for name, (seconds, rate, channels, suffix) in kinds.items():
        paths[name] = folder / f"{name}.{suffix}"
        soundfile.write(paths[name], _music(seconds, rate)[:, :channels], rate)
    return paths


def _music(seconds: int, rate: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    time = np.arange(seconds * rate) / rate
    noise = np.random.default_rng(0).normal(scale=0.1, size=(time.size, 2))
    tone = 0.2 * np.sin(2 * np.pi * (220 + 30 * np.sin(time)) * time)
    return tone[:, None] + noise * (np.sin(2 * np.pi * 2 * time) > 0)[:, None]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    results = config.stash.get(_RESULTS, {})
    if not results:
        return
    lines = [
        f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}; medians in milliseconds",
        "",
        "| work | musgenre | peer | its time | ratio | aim |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for row, times in results.items():
        ours = times.get("musgenre")
        for peer, theirs in times.items():
            if peer == "musgenre" or ours is None:
                continue
            limit = LIMITS.get(row, {}).get(peer)
            aim = f"≤ {limit:.2f}" if limit else ""
            lines.append(f"| {row} | {1e3 * ours:.1f} | {peer} | {1e3 * theirs:.1f} | {ours / theirs:.2f} | {aim} |")
    table = "\n".join(lines)
    terminalreporter.write_line(table)
    if path := config.getoption("--table"):
        Path(path).write_text(f"{table}\n", encoding="utf-8")
