"""Benchmark ``predict_collection`` and a plain loop on synthetic files and the same cores.

    python benchmarks/scale.py --songs 1600 --block 32 --sizes 1000 10000

For 1 and 2 workers, each on its own core: files per second, CPU time per file, and the overhead of Ray over
``predict_iter``, all measured between the completion of one fifth and of four fifths of the files. The start
(processes, imports, model) is reported separately. Then the peak memory of all processes for collections of several
sizes. On a busy machine, only the CPU time of the loop is meaningful, because Ray's own processes use CPU time while
they wait.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil  # type: ignore[import-untyped]
import soundfile

FILES = 16
RATE = 44_100
PARTS = 10  # number of output files


def make(folder: Path, *, seconds: float) -> list[Path]:
    """Synthesise a few stereo MP3 files of amplitude-modulated chords with noise."""
    generator = np.random.default_rng(0)
    clock = np.arange(round(seconds * RATE)) / RATE
    paths = []
    for number in range(FILES):
        beat = 0.6 + 0.4 * np.sign(np.sin(2 * np.pi * (1 + number / 8) * clock))
        chord = sum(np.sin(2 * np.pi * 110 * (1 + number) * step * clock) for step in (1, 1.25, 1.5)) / 6 * beat
        stereo = np.stack([chord, np.roll(chord, 500)], axis=1) + generator.normal(scale=0.02, size=(clock.size, 2))
        paths.append(folder / f"{seconds}-{number}.mp3")
        soundfile.write(paths[-1], stereo, RATE)
    return paths


def manifest(path: Path, paths: list[Path], *, count: int) -> Path:
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("track", "path"))
        rows.writerows((number, paths[number % FILES]) for number in range(count))
    return path


def child(settings: dict[str, Any]) -> None:
    """Run one measured process."""
    os.sched_setaffinity(0, settings["cores"])
    from musgenre.models.classifier import GenreClassifier

    if settings["how"] == "loop":
        classifier = GenreClassifier.from_pretrained(device="cpu")
        with open(settings["manifest"], newline="") as file:
            paths = [row["path"] for row in csv.DictReader(file)]
        Path(settings["output"]).mkdir()
        for number, _ in enumerate(classifier.predict_iter(paths), start=1):
            if number % settings["songs_per_file"] == 0:
                Path(settings["output"], f"{number}.parquet").touch()
        return
    from musgenre.scale import predict_collection

    options = {name: settings[name] for name in ("songs_per_block", "songs_per_file")}
    options |= {"workers": len(settings["cores"]), "progress": False}
    predict_collection(settings["manifest"], settings["output"], id_column="track", **options)


def measured(
    how: str, path: Path, *, songs: int, workers: int, songs_per_block: int, memory: bool = False
) -> dict[str, float]:
    """Return files per second, CPU seconds per file, start and total seconds, and peak bytes if ``memory``.

    Measuring the memory uses a large part of a core, so speed and memory are measured separately.
    """
    with tempfile.TemporaryDirectory() as output:
        settings: dict[str, Any] = {"how": how, "manifest": str(path), "output": f"{output}/rows"}
        settings |= {
            "songs_per_block": songs_per_block,
            "cores": sorted(os.sched_getaffinity(0))[:workers],
            "songs_per_file": songs // PARTS,
        }
        environment = {**os.environ, "OMP_NUM_THREADS": str(workers), "RAY_raylet_start_wait_time_s": "180"}
        environment |= {"RAY_worker_niceness": "0"}  # as the plain loop's
        command = [sys.executable, __file__, "--child", json.dumps(settings)]
        with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) as process:
            moments, peak = watched(process, Path(settings["output"]), memory=memory)
        if process.returncode:
            raise SystemExit(f"{how} ended with {process.returncode}; run it by hand: {' '.join(command)}")
    (first, begun, spent), (last, ended, spent_by_then) = (
        next(moment for moment in moments if moment[0] >= share * PARTS) for share in (0.2, 0.8)
    )
    part = songs // PARTS
    between = (last - first) * part
    rate = between / (ended - begun)
    return {
        "rate": rate,
        "cpu": (spent_by_then - spent) / between,
        "start": begun - first * part / rate,
        "seconds": moments[-1][1],
        "peak": peak,
    }


def watched(
    process: subprocess.Popen[bytes], output: Path, *, memory: bool
) -> tuple[list[tuple[int, float, float]], float]:
    """Return the times and CPU times at which parts were completed, and the peak memory."""
    root, begun = psutil.Process(process.pid), time.perf_counter()
    spent: dict[tuple[int, float], float] = {}
    moments = []
    peak = 0.0
    while process.poll() is None:
        total = 0.0
        for one in family(root):
            with contextlib.suppress(psutil.Error):  # it has ended by now
                times = one.cpu_times()
                spent[one.pid, one.create_time()] = times.user + times.system
                total += one.memory_full_info().pss if memory else 0
        parts = len(list(output.glob("*.parquet")))
        moments.append((parts, time.perf_counter() - begun, sum(spent.values())))
        peak = max(peak, total)
        time.sleep(0.5)
    moments.append((PARTS, time.perf_counter() - begun, sum(spent.values())))
    return moments, peak


def family(root: psutil.Process) -> Iterator[psutil.Process]:
    yield root
    try:
        yield from root.children(recursive=True)
    except psutil.Error:
        return


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--songs", type=int, default=1600, help="songs of 30 s for speed")
    parser.add_argument("--seconds", type=float, default=30.0, help="their length")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=3, help="how often speed is measured; the medians are reported")
    parser.add_argument("--block", type=int, default=16, help="songs a block, for speed")
    parser.add_argument("--sizes", type=int, nargs="*", default=[1_000, 10_000], help="collections for memory")
    parser.add_argument("--short", type=float, default=2.0, help="the length of their songs, in seconds")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    settings = parser.parse_args()
    if settings.child:
        child(json.loads(settings.child))
        return
    if settings.songs % (PARTS * settings.block):
        parser.error(f"--songs must be a multiple of {PARTS} times --block, so that all files have as many rows")
    with tempfile.TemporaryDirectory() as path:
        folder = Path(path)
        if settings.songs:
            speed(folder, settings)
        paths = make(folder, seconds=settings.short)
        for size in settings.sizes:
            table = manifest(folder / f"{size}.csv", paths, count=size)
            for how in ("loop", "ray"):
                found = measured(how, table, songs=size, workers=max(settings.workers), songs_per_block=64, memory=True)
                figures = f"peak {found['peak'] / 2**20:.0f} MiB, {found['seconds']:.0f} s"
                print(f"{size:>6} songs of {settings.short:g} s, {how:<4}: {figures}")


def speed(folder: Path, settings: argparse.Namespace) -> None:
    table = manifest(folder / "all.csv", make(folder, seconds=settings.seconds), count=settings.songs)
    found: dict[tuple[str, int], dict[str, float]] = {}
    print("workers  how   songs/s  CPU s/song  start s")
    for workers in settings.workers:
        # One after the other in each round, since the machine may be faster in one quarter of an hour than in the next.
        rounds: dict[str, list[dict[str, float]]] = {"loop": [], "ray": []}
        for _ in range(settings.rounds):
            for how, measurements in rounds.items():
                measurements.append(
                    measured(how, table, songs=settings.songs, workers=workers, songs_per_block=settings.block)
                )
        for how, measurements in rounds.items():
            one = found[how, workers] = {
                figure: float(np.median([each[figure] for each in measurements])) for figure in measurements[0]
            }
            print(f"{workers:>7}  {how:<4} {one['rate']:>8.2f} {one['cpu']:>11.4f} {one['start']:>8.1f}", flush=True)
        over, more = (
            np.array([against(*pair, figure=figure) for pair in zip(rounds["loop"], rounds["ray"], strict=True)])
            for figure in ("rate", "cpu")
        )
        print(
            f"         overhead of Ray: {np.median(over):+.0%} of time ({', '.join(f'{one:+.0%}' for one in over)}), "
            f"{np.median(more):+.0%} of the CPU time"
        )
    if {1, 2} <= set(settings.workers):
        for how in ("loop", "ray"):
            second = found[how, 2]["rate"] / found[how, 1]["rate"] - 1
            print(f"second worker, {how}: {second:.0%} of the first one's songs on top")


def against(loop: dict[str, float], ray: dict[str, float], *, figure: str) -> float:
    """Return the overhead of Ray relative to the loop measured next to it."""
    return (loop["rate"] / ray["rate"] if figure == "rate" else ray["cpu"] / loop["cpu"]) - 1


if __name__ == "__main__":
    main()
