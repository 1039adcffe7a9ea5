"""Print the functions that one prediction calls, as ``file: function, function`` in the order of their first calls.

Usage: ``python scripts/call_path.py``. A test checks that at most eight files outside of ``functional/`` are involved,
each called from at most two others, and that ``docs/explanation/architecture.md`` names them.
"""

from __future__ import annotations

import sys
import tempfile
import threading
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import soundfile
import torch

import musgenre

PACKAGE = Path(musgenre.__file__).parent


class CallRecorder:
    """Records the functions of the package, and which file calls which, in the main thread and in new threads."""

    def __init__(self) -> None:
        self.functions: dict[tuple[str, str], None] = {}
        self.callers: dict[str, set[str]] = {}

    def __call__(self, frame: FrameType, event: str, _: Any) -> None:
        """Handle an event of ``sys.setprofile``."""
        file = self._file(frame)
        if event != "call" or file is None:
            return
        name = frame.f_code.co_qualname if sys.version_info >= (3, 11) else frame.f_code.co_name
        self.functions[file, name] = None
        caller = frame.f_back
        while caller is not None and self._file(caller) is None:
            caller = caller.f_back
        if caller is not None and (calling := self._file(caller)) not in (None, file):
            self.callers.setdefault(file, set()).add(str(calling))

    @staticmethod
    def _file(frame: FrameType) -> str | None:
        path = Path(frame.f_code.co_filename)
        return path.relative_to(PACKAGE).as_posix() if path.is_relative_to(PACKAGE) else None


def record() -> CallRecorder:
    """Record one prediction of the default model, for a WAV file of 30 s that needs resampling, with two threads."""
    torch.set_num_threads(2)
    classifier = musgenre.GenreClassifier.from_pretrained(device="cpu")
    recorder = CallRecorder()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "song.wav"
        soundfile.write(path, np.random.default_rng(0).normal(scale=0.1, size=(30 * 44_100, 2)), 44_100)
        threading.setprofile(recorder)
        sys.setprofile(recorder)
        classifier.predict(path)
        sys.setprofile(None)
        threading.setprofile(None)
    return recorder


def lines(recorder: CallRecorder) -> list[str]:
    """Return a line for each file, with its functions; special methods and nested functions are omitted."""
    files: dict[str, list[str]] = {}
    for file, function in recorder.functions:
        if "<" not in function and "__" not in function:
            files.setdefault(file, []).append(function)
    return [f"{file}: {', '.join(functions)}" for file, functions in files.items()]


if __name__ == "__main__":
    print("\n".join(lines(record())))
