"""Measures ``predict_collection`` beside the plain loop, on synthetic songs and the same cores.

    python benchmarks/scale.py --songs 1600 --block 32 --sizes 1000 10000

For 1 and 2 workers, each on a core of its own: songs a second, seconds of processor time a song, and what Ray costs on
top of ``predict_iter``, all between the moments at which a fifth and four fifths of the songs were done. The start
(processes, imports, the model) is told apart. Then the peak memory of all processes together, for collections of
several sizes. On a machine that does other things as well only the loop's processor time means something: Ray's own
processes take some all the time, the more the longer a run has to wait.
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
PARTS = 10  # in which the rows are written


def make(folder: Path, *, seconds: float) -> list[Path]:
    """A few songs: chords with a beat and noise, in stereo, as MP3."""
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


def manifest(place: Path, paths: list[Path], *, count: int) -> Path:
    with place.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("track", "path"))
        rows.writerows((number, paths[number % FILES]) for number in range(count))
    return place


def child(told: dict[str, Any]) -> None:
    """What one measured process does."""
    os.sched_setaffinity(0, told["cores"])
    from musgenre.models.classifier import GenreClassifier

    if told["how"] == "loop":
        classifier = GenreClassifier.from_pretrained(device="cpu")
        with open(told["manifest"], newline="") as file:
            paths = [row["path"] for row in csv.DictReader(file)]
        Path(told["output"]).mkdir()
        for number, _ in enumerate(classifier.predict_iter(paths), start=1):
            if number % told["songs_per_file"] == 0:
                Path(told["output"], f"{number}.parquet").touch()
        return
    from musgenre.scale import predict_collection

    options = {name: told[name] for name in ("songs_per_block", "songs_per_file")}
    options |= {"workers": len(told["cores"]), "progress": False}
    predict_collection(told["manifest"], told["output"], id_column="track", **options)


def measured(
    how: str, place: Path, *, songs: int, workers: int, songs_per_block: int, memory: bool = False
) -> dict[str, float]:
    """Songs a second, processor seconds a song, seconds at the start and in all, and peak bytes if ``memory``.

    Looking at the memory takes a good part of a core itself, so that it has no place where speed is measured.
    """
    with tempfile.TemporaryDirectory() as output:
        told: dict[str, Any] = {"how": how, "manifest": str(place), "output": f"{output}/rows"}
        told |= {
            "songs_per_block": songs_per_block,
            "cores": sorted(os.sched_getaffinity(0))[:workers],
            "songs_per_file": songs // PARTS,
        }
        environment = {**os.environ, "OMP_NUM_THREADS": str(workers), "RAY_raylet_start_wait_time_s": "180"}
        environment |= {"RAY_worker_niceness": "0"}  # as the plain loop's
        command = [sys.executable, __file__, "--child", json.dumps(told)]
        with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) as process:
            moments, peak = watched(process, Path(told["output"]), memory=memory)
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
    """How many parts were done when, and after how much processor time; and the peak of the memory."""
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
    parser.add_argument("--rounds", type=int, default=3, help="how often speed is measured; medians are told")
    parser.add_argument("--block", type=int, default=16, help="songs a block, for speed")
    parser.add_argument("--sizes", type=int, nargs="*", default=[1_000, 10_000], help="collections for memory")
    parser.add_argument("--short", type=float, default=2.0, help="the length of their songs, in seconds")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    told = parser.parse_args()
    if told.child:
        child(json.loads(told.child))
        return
    if told.songs % (PARTS * told.block):
        parser.error(f"--songs must be a multiple of {PARTS} times --block, so that all files have as many rows")
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        if told.songs:
            speed(folder, told)
        paths = make(folder, seconds=told.short)
        for size in told.sizes:
            table = manifest(folder / f"{size}.csv", paths, count=size)
            for how in ("loop", "ray"):
                found = measured(how, table, songs=size, workers=max(told.workers), songs_per_block=64, memory=True)
                figures = f"peak {found['peak'] / 2**20:.0f} MiB, {found['seconds']:.0f} s"
                print(f"{size:>6} songs of {told.short:g} s, {how:<4}: {figures}")


def speed(folder: Path, told: argparse.Namespace) -> None:
    table = manifest(folder / "all.csv", make(folder, seconds=told.seconds), count=told.songs)
    found: dict[tuple[str, int], dict[str, float]] = {}
    print("workers  how   songs/s  CPU s/song  start s")
    for workers in told.workers:
        # One after the other in each round, since the machine may be faster in one quarter of an hour than in the next.
        rounds: dict[str, list[dict[str, float]]] = {"loop": [], "ray": []}
        for _ in range(told.rounds):
            for how, measurements in rounds.items():
                measurements.append(measured(how, table, songs=told.songs, workers=workers, songs_per_block=told.block))
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
    if {1, 2} <= set(told.workers):
        for how in ("loop", "ray"):
            second = found[how, 2]["rate"] / found[how, 1]["rate"] - 1
            print(f"second worker, {how}: {second:.0%} of the first one's songs on top")


def against(loop: dict[str, float], ray: dict[str, float], *, figure: str) -> float:
    """What Ray costs on top, as a share of what the loop next to it took."""
    return (loop["rate"] / ray["rate"] if figure == "rate" else ray["cpu"] / loop["cpu"]) - 1


if __name__ == "__main__":
    main()
