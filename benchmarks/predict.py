"""How fast a song is predicted, and how much memory it takes, beside what one would write by hand.

    python benchmarks/predict.py [--repeats 20]

The peer is the recipe that musgenre began from: ``librosa.load``, ``librosa.feature.melspectrogram``, one picture of
224 x 224 for the whole clip, torchvision's VGG-16 (with random weights, which take as long as trained ones). Times are
medians of warm runs in one process; memory is the peak of a fresh process a song.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile

RATE = 22_050

_PEAK = """
import resource, sys
import musgenre
musgenre.GenreClassifier.from_pretrained().predict(sys.argv[1])
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # KiB, but bytes on macOS
print(peak / (2**20 if sys.platform == "darwin" else 2**10))
"""


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--repeats", type=int, default=20)
    repeats = parser.parse_args().repeats
    with tempfile.TemporaryDirectory() as folder:
        clip, minute, hour = (_song(Path(folder), seconds=seconds) for seconds in (30, 60, 3600))
        print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
        # First of all: a child's peak counts what its parent holds when it is forked, and the peer is large.
        small, large = _peak_mib(minute), _peak_mib(hour)
        print(f"peak memory: {small:.0f} MiB for 1 minute, {large:.0f} MiB for 60 minutes")
        empty, package = (_process(code, repeats=repeats) for code in ("pass", "import musgenre"))
        print(f"import musgenre: {(package - empty) * 1000:.0f} ms over an empty interpreter ({empty * 1000:.0f} ms)")
        ours, theirs = _median(_musgenre(clip), repeats), _median(_by_hand(clip), repeats)
        print(
            f"30 s clip, path to genre: {ours * 1000:.0f} ms; by hand {theirs * 1000:.0f} ms; ratio {ours / theirs:.2f}"
        )


def _song(folder: Path, *, seconds: int) -> Path:
    path = folder / f"{seconds}.flac"
    generator = np.random.default_rng(0)
    with soundfile.SoundFile(path, "w", samplerate=RATE, channels=1) as file:
        for _ in range(seconds):
            file.write(generator.normal(scale=0.1, size=RATE))
    return path


def _musgenre(clip: Path) -> Callable[[], object]:
    import musgenre

    classifier = musgenre.GenreClassifier.from_pretrained()
    return lambda: classifier.predict(clip)


def _by_hand(clip: Path) -> Callable[[], object]:
    import librosa
    import torch
    import torchvision

    network = torchvision.models.vgg16(weights=None).eval()

    def predict() -> object:
        samples, rate = librosa.load(clip, sr=RATE)
        mel = librosa.power_to_db(librosa.feature.melspectrogram(y=samples, sr=rate), ref=np.max)
        picture = torch.from_numpy(mel)[None, None].repeat(1, 3, 1, 1)
        picture = torch.nn.functional.interpolate(picture, size=(224, 224), mode="bilinear")
        with torch.inference_mode():
            return network(picture).softmax(dim=1)

    return predict


def _median(work: Callable[[], object], repeats: int) -> float:
    work()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def _process(code: str, *, repeats: int) -> float:
    return _median(lambda: subprocess.run([sys.executable, "-c", code], check=True), repeats)


def _peak_mib(song: Path) -> float:
    done = subprocess.run([sys.executable, "-c", _PEAK, str(song)], check=True, capture_output=True, text=True)
    return float(done.stdout)


if __name__ == "__main__":
    main()
