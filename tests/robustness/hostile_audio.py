"""Feeds a classifier files that nobody means well with, and counts what becomes of them.

A program of its own, so that a crash, a hang or a gigabyte cost it alone::

    python tests/robustness/hostile_audio.py                         # every input, about 8,000
    python tests/robustness/hostile_audio.py --every 20            # one in twenty of those that chance makes
    python tests/robustness/hostile_audio.py --every 20 --start 1  # the next one in twenty

prints one JSON object: how many inputs ended how, the slowest, the peak of memory, and every input that did anything
but give a Prediction or a MusgenreError within ten seconds. The exit code is 1 if there is any, or the memory
passed 1 GiB.
"""

from __future__ import annotations

import argparse
import collections
import faulthandler
import gzip
import io
import json
import pickle
import random
import resource
import struct
import sys
import time
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

RATE, SECONDS = 8_000, 0.3
CUTS, FLIPS, LIES = 50, 200, 40
LIMIT_SECONDS, LIMIT_BYTES = 10.0, 2**30  # of the processor's time, which other programs do not change
LIMIT_WAITING = 60.0  # by the clock
Source = bytes | tuple[Any, int]


def clip(channels: int) -> np.ndarray:
    time_ = np.arange(int(RATE * SECONDS)) / RATE
    noise = np.random.default_rng(0).normal(scale=0.05, size=(time_.size, channels))
    return 0.4 * np.sin(2 * np.pi * 440 * time_)[:, None] + noise


def encoded(samples: np.ndarray, rate: int = RATE, **options: Any) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate, **options)
    return file.getvalue()


def every_format() -> dict[str, bytes]:
    """One clip in each format and subtype that libsndfile can write, in stereo where it may be."""
    files = {}
    for kind in sorted(soundfile.available_formats().keys() - {"SD2"}):  # its header is a second file beside it
        for subtype in sorted(soundfile.available_subtypes(kind)):
            for channels in (2, 1):
                try:
                    files[f"{kind} {subtype}"] = encoded(clip(channels), format=kind, subtype=subtype)
                except (soundfile.LibsndfileError, ValueError, TypeError):  # not together, or not into memory
                    continue
                break
    return files


def one_a_format(files: dict[str, bytes]) -> dict[str, bytes]:
    """The default subtype of each format, or the first that could be written."""
    chosen: dict[str, bytes] = {}
    for name, data in files.items():
        kind, _, subtype = name.partition(" ")
        if kind not in chosen or subtype == soundfile.default_subtype(kind):
            chosen[kind] = data
    return chosen


def damaged(name: str, data: bytes) -> Iterator[tuple[str, bytes]]:
    """The file cut at 50 places and with bits flipped in 200 ways, half of them in the header."""
    generator = random.Random(name)
    for number in range(CUTS):
        place = number if number < CUTS // 4 else len(data) * number // CUTS
        yield f"{name} cut at {place}", data[:place]
    for number in range(FLIPS):
        changed, reach = bytearray(data), min(len(data), 160 if number % 2 else len(data))
        places = [generator.randrange(reach) for _ in range(1 if number % 4 < 2 else 8)]
        for place in places:
            changed[place] ^= 1 << generator.randrange(8)
        yield f"{name} flipped at {places}", bytes(changed)


def lying(name: str, data: bytes) -> Iterator[tuple[str, bytes]]:
    """The file with numbers in its header that cannot be true."""
    generator = random.Random(name)
    for _ in range(LIES):
        place = generator.randrange(4, min(len(data), 120) - 8)
        layout, number = generator.choice(
            [
                (f"{order}{kind}", value)
                for order in "<>"
                for kind, value in [
                    ("I", 0),
                    ("I", 2**31),
                    ("I", 2**32 - 1),
                    ("I", 255),
                    ("H", 255),
                    ("H", 0),
                    ("Q", 2**40),
                    ("Q", 2**63),
                ]
            ]
        )
        changed = bytearray(data)
        struct.pack_into(layout, changed, place, number)
        yield f"{name} with {number} as {layout} at {place}", bytes(changed)


def known_lies() -> Iterator[tuple[str, bytes]]:
    """Headers whose fields are known: rates, channels, widths and lengths from nothing to 2**40."""
    fields = {
        "WAV": {"channels": ("<H", 22), "rate": ("<I", 24), "bits": ("<H", 34), "length": ("<I", 40)},
        "AU": {"length": (">I", 8), "rate": (">I", 16), "channels": (">I", 20)},
        "AIFF": {"channels": (">H", 20), "frames": (">I", 22), "bits": (">H", 26)},
        "CAF": {"rate": (">d", 20), "channels": (">I", 44), "bits": (">I", 48), "length": (">q", 56)},
        "W64": {"channels": ("<H", 66), "rate": ("<I", 68), "bits": ("<H", 78), "length": ("<q", 96)},
        "RF64": {"channels": ("<H", 58), "rate": ("<I", 60), "length": ("<q", 28), "frames": ("<q", 36)},
    }
    for kind, places in fields.items():
        data = encoded(clip(2), format=kind, subtype="PCM_16")
        for field, (layout, place) in places.items():
            for number in (0, 1, 64, 255, 1024, 2**31 - 1, 2**31, 2**32 - 1, 2**40):
                changed = bytearray(data)
                try:
                    struct.pack_into(layout, changed, place, number)
                except struct.error:  # more than the field holds
                    continue
                yield f"{kind} with {field}={number}", bytes(changed)
    flac = encoded(clip(2), format="FLAC")
    (packed,) = struct.unpack_from(">Q", flac, 18)  # rate: 20 bits, channels: 3, width: 5, samples: 36
    for field, shift, width in (("rate", 44, 20), ("channels", 41, 3), ("bits", 36, 5), ("samples", 0, 36)):
        for number in (0, 1, 2 ** (width - 1), 2**width - 1):
            changed = bytearray(flac)
            mask = (2**width - 1) << shift
            struct.pack_into(">Q", changed, 18, (packed & ~mask) | number << shift)
            yield f"FLAC with {field}={number}", bytes(changed)


def costumes() -> Iterator[tuple[str, bytes]]:
    """What is no audio at all."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("song.wav", encoded(clip(1), format="WAV"))
    generator = random.Random(0)
    yield from {
        "nothing": b"",
        "a zip": archive.getvalue(),
        "a gzip": gzip.compress(encoded(clip(1), format="WAV")),
        "text": b"This is no music, whatever its name says.\n" * 200,
        "HTML": b"<!DOCTYPE html><html><head><title>404</title></head><body>Not found</body></html>" * 20,
        "a pickle": pickle.dumps({"song": list(range(100))}),
        "a script": b"#!/bin/sh\nrm -rf /tmp/nothing\n",
        "zeros": bytes(100_000),
        "ones": b"\xff" * 100_000,
        "nested ID3": b"ID3\4\0\0\0\0\0\0" * 5_000,
        "ID3 of 256 MB": b"ID3\4\0\0\x7f\x7f\x7f\x7f" + bytes(100),
        "frames of nothing": b"\xff\xfb\x90\x00" * 5_000,
    }.items()
    magic = (
        b"RIFF\xff\xff\xff\xffWAVEfmt ",
        b"RIFX",
        b"fLaC\0\0\0\x22",
        b"OggS\0\2",
        b"FORM",
        b".snd",
        b"caff\0\1\0\0",
        b"riff.\x91\xcf\x11",
    )
    for start in magic:
        for number in range(12):
            yield f"{start!r} and noise {number}", start + generator.randbytes(10 ** (1 + number % 4))
    for number in range(50):
        yield f"noise {number}", generator.randbytes(generator.randrange(1, 20_000))


def samples() -> Iterator[tuple[str, Source]]:
    """Numbers that are hard to compute with, as arrays and as files of floating-point numbers."""
    size = int(RATE * SECONDS)
    arrays = {
        "NaN": np.full(size, np.nan),
        "one NaN": np.where(np.arange(size) == size - 1, np.nan, 0.1),
        "infinity": np.full(size, np.inf),
        "minus infinity": np.where(np.arange(size) == 0, -np.inf, 0.0),
        "denormals": np.full(size, 1e-310),
        "float32 denormals": np.full(size, 1e-40),
        "the smallest number": np.full(size, 5e-324),
        "silence": np.zeros(size),
        "DC": np.ones(size),
        "negative DC": -np.ones(size),
        "DC of 1e9": np.full(size, 1e9),
        "DC of 1e30": np.full(size, 1e30),
        "the largest number": np.full(size, 1.7e308),
        "a square wave": np.sign(np.sin(np.arange(size))),
        "an impulse": np.where(np.arange(size) == 5, 1.0, 0.0),
        "1 sample": np.zeros(1),
        "0 samples": np.zeros(0),
        "799 samples": np.zeros(799),
        "800 samples": np.zeros(800),
    }
    for name, array in arrays.items():
        yield f"array: {name}", (array, RATE)
        for subtype in ("FLOAT", "DOUBLE", "PCM_U8", "PCM_24", "PCM_32"):
            if subtype in ("FLOAT", "DOUBLE") or np.isfinite(array).all():
                with warnings.catch_warnings(), np.errstate(all="ignore"):
                    warnings.simplefilter("ignore")
                    yield f"{subtype}: {name}", encoded(array, format="WAV", subtype=subtype)
    for rate in (0, 1, 99, 100, 999_999, 1_000_001, 2**31, -8_000, float("nan"), "8000"):
        yield f"array at {rate} Hz", (clip(1)[:, 0], rate)  # type: ignore[arg-type]
    for dtype in ("int8", "uint8", "int16", "int32", "int64", "float16", "float32", "complex64", "bool", "object"):
        yield f"array of {dtype}", (np.zeros(size).astype(dtype), RATE)


def long_silence(kind: str, rate: int) -> bytes:
    """Twelve hours of silence in a small file."""
    file = io.BytesIO()
    with soundfile.SoundFile(file, "w", rate, 1, format=kind) as writer:
        for _ in range(12 * 360):  # libsndfile's OGG crashes when it is given an hour at once
            writer.write(np.zeros(10 * rate, np.float32))
    return file.getvalue()


def inputs(*, every: int = 1, start: int = 0) -> Iterator[tuple[str, Source]]:
    """Every input, or one in so many of those that chance makes."""
    files = every_format()
    yield from files.items()
    yield from samples()
    yield from costumes()
    yield "twelve hours of FLAC", long_silence("FLAC", 1_000)
    if every == 1:
        yield "twelve hours of OGG", long_silence("OGG", 8_000)
        yield "twelve hours of MP3", long_silence("MP3", 8_000)
    drawn = [*known_lies()]
    for kind, data in one_a_format(files).items():
        drawn += [*damaged(kind, data), *lying(kind, data)]
    random.Random(every).shuffle(drawn)
    yield from drawn[start::every]


def classifiers(decode: str) -> tuple[Any, Any]:
    """A classifier with a tiny network, and the one in the package."""
    import torch

    from musgenre import AudioSpec, Component, GenreClassifier, GenreNetwork, ModelConfig, ReadOptions

    torch.set_num_threads(1)
    torch.manual_seed(0)
    config = ModelConfig(
        "tiny",
        ("a", "b"),
        AudioSpec(8_000, window_seconds=1.0, hop_seconds=1.0),
        Component("logmel", {"n_fft": 512, "hop_length": 200, "n_mels": 40}),
        Component("vgg16-slim", {"width": 0.03, "dense_units": 8}),
    )
    reading = ReadOptions(decode=decode)  # type: ignore[arg-type]
    tiny = GenreClassifier(GenreNetwork.from_config(config), config, device="cpu", reading=reading)
    return tiny, GenreClassifier.from_pretrained(device="cpu", reading=reading)


def outcome(classifier: Any, source: Source, folder: Path | None) -> str:
    """What becomes of one input: "Prediction", or the name of an error; what else is raised passes."""
    from musgenre.core.errors import MusgenreError

    given: Any = source
    if isinstance(source, bytes):
        given = io.BytesIO(source)
        if folder is not None:
            given = folder / "song.wav"
            given.write_bytes(source)
    try:
        prediction = classifier.predict(given)
    except MusgenreError as error:
        str(error)
        return type(error).__name__
    total = sum(prediction.probabilities.values())
    if not (abs(total - 1) < 1e-6 and np.isfinite(prediction.windows.probabilities).all()):
        raise ValueError(f"probabilities that sum to {total}")
    return "Prediction"


def own_peak() -> int:
    """Returns the most memory that this process has had, in bytes; getrusage counts that of who started it as well."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return 1024 * int(status.partition("VmHWM:")[2].split()[0])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--start", type=int, default=0)
    parser.add_argument("--decode", default="inline")
    parser.add_argument("--folder", type=Path, help="where one input in ten is written to a file and read by its path")
    told = parser.parse_args()
    tiny, bundled = classifiers(told.decode)
    results: collections.Counter[str] = collections.Counter()
    failures, slowest, last = {}, (0.0, ""), told.folder / "last" if told.folder else None
    for number, (name, source) in enumerate(inputs(every=told.every, start=told.start)):
        if last is not None:
            last.write_text(name)
        faulthandler.dump_traceback_later(LIMIT_WAITING, exit=True)  # what hangs in C hears no signal
        begun = time.process_time()
        try:
            result = outcome(bundled if number % 20 == 0 else tiny, source, told.folder if number % 10 == 0 else None)
        except Exception as error:  # noqa: BLE001 - anything but the project's own is what is looked for
            result = failures[name] = repr(error)[:200]
        seconds = time.process_time() - begun
        faulthandler.cancel_dump_traceback_later()
        if seconds > LIMIT_SECONDS:
            failures[name] = f"{seconds:.1f} s"
        slowest = max(slowest, (round(seconds, 2), name))
        results[result] += 1
    peak = max(own_peak(), 1024 * resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
    summary = {"inputs": results.total(), "results": dict(results), "slowest": slowest, "peak_mib": peak >> 20}
    sys.stdout.write(json.dumps({**summary, "failures": failures}) + "\n")
    return 1 if failures or peak > LIMIT_BYTES else 0


if __name__ == "__main__":
    sys.exit(main())
