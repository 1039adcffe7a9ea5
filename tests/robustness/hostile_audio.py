"""Predicts malicious and damaged audio files and counts the outcomes.

It is a separate program, so that a crash, a hang or excessive memory does not affect other tests::

    python tests/robustness/hostile_audio.py                       # every input, about 8,000
    python tests/robustness/hostile_audio.py --every 20            # one in twenty of the random inputs
    python tests/robustness/hostile_audio.py --every 20 --start 1  # the next twentieth

prints one JSON object: the number of each outcome, the slowest input, the peak memory, and every input that did not
give a Prediction or a MusgenreError within ten seconds. The exit code is 1 if there is any, or if the peak memory
exceeded 1 GiB.
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
TRUNCATIONS, FLIPS, HEADER_CHANGES = 50, 200, 40
LIMIT_SECONDS, LIMIT_BYTES = 10.0, 2**30  # of CPU time, which other programs do not affect
LIMIT_WAITING = 60.0  # of wall-clock time
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
    """Encodes a clip in each format and subtype that libsndfile can write, in stereo if possible."""
    files = {}
    for kind in sorted(soundfile.available_formats().keys() - {"SD2"}):  # stores its header in a second file
        for subtype in sorted(soundfile.available_subtypes(kind)):
            for channels in (2, 1):
                try:
                    files[f"{kind} {subtype}"] = encoded(clip(channels), format=kind, subtype=subtype)
                except (
                    soundfile.LibsndfileError,
                    ValueError,
                    TypeError,
                ):  # an invalid combination, or no support for file objects
                    continue
                break
    return files


def one_per_format(files: dict[str, bytes]) -> dict[str, bytes]:
    """Selects the default subtype of each format, or the first that could be written."""
    chosen: dict[str, bytes] = {}
    for name, data in files.items():
        kind, _, subtype = name.partition(" ")
        if kind not in chosen or subtype == soundfile.default_subtype(kind):
            chosen[kind] = data
    return chosen


def damaged(name: str, data: bytes) -> Iterator[tuple[str, bytes]]:
    """Truncates the file at 50 positions and flips bits in 200 ways, half of them in the header."""
    generator = random.Random(name)
    for number in range(TRUNCATIONS):
        position = number if number < TRUNCATIONS // 4 else len(data) * number // TRUNCATIONS
        yield f"{name} truncated at {position}", data[:position]
    for number in range(FLIPS):
        changed, end = bytearray(data), min(len(data), 160 if number % 2 else len(data))
        positions = [generator.randrange(end) for _ in range(1 if number % 4 < 2 else 8)]
        for position in positions:
            changed[position] ^= 1 << generator.randrange(8)
        yield f"{name} flipped at {positions}", bytes(changed)


def changed_headers(name: str, data: bytes) -> Iterator[tuple[str, bytes]]:
    """Writes impossible numbers to random positions of the header."""
    generator = random.Random(name)
    for _ in range(HEADER_CHANGES):
        position = generator.randrange(4, min(len(data), 120) - 8)
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
        struct.pack_into(layout, changed, position, number)
        yield f"{name} with {number} as {layout} at {position}", bytes(changed)


def changed_fields() -> Iterator[tuple[str, bytes]]:
    """Sets sample rates, channels, bit depths and lengths in headers to values from 0 to 2**40."""
    fields = {
        "WAV": {"channels": ("<H", 22), "rate": ("<I", 24), "bits": ("<H", 34), "length": ("<I", 40)},
        "AU": {"length": (">I", 8), "rate": (">I", 16), "channels": (">I", 20)},
        "AIFF": {"channels": (">H", 20), "frames": (">I", 22), "bits": (">H", 26)},
        "CAF": {"rate": (">d", 20), "channels": (">I", 44), "bits": (">I", 48), "length": (">q", 56)},
        "W64": {"channels": ("<H", 66), "rate": ("<I", 68), "bits": ("<H", 78), "length": ("<q", 96)},
        "RF64": {"channels": ("<H", 58), "rate": ("<I", 60), "length": ("<q", 28), "frames": ("<q", 36)},
    }
    for kind, positions in fields.items():
        data = encoded(clip(2), format=kind, subtype="PCM_16")
        for field, (layout, position) in positions.items():
            for number in (0, 1, 64, 255, 1024, 2**31 - 1, 2**31, 2**32 - 1, 2**40):
                changed = bytearray(data)
                try:
                    struct.pack_into(layout, changed, position, number)
                except struct.error:  # does not fit in the field
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


def not_audio() -> Iterator[tuple[str, bytes]]:
    """Yields content that is not audio."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("song.wav", encoded(clip(1), format="WAV"))
    generator = random.Random(0)
    yield from {
        "empty": b"",
        "a zip": archive.getvalue(),
        "a gzip": gzip.compress(encoded(clip(1), format="WAV")),
        "text": b"This is not audio, whatever its suffix.\n" * 200,
        "HTML": b"<!DOCTYPE html><html><head><title>404</title></head><body>Not found</body></html>" * 20,
        "a pickle": pickle.dumps({"song": list(range(100))}),
        "a script": b"#!/bin/sh\nrm -rf /tmp/nothing\n",
        "zeros": bytes(100_000),
        "ones": b"\xff" * 100_000,
        "nested ID3": b"ID3\4\0\0\0\0\0\0" * 5_000,
        "ID3 of 256 MB": b"ID3\4\0\0\x7f\x7f\x7f\x7f" + bytes(100),
        "empty MPEG frames": b"\xff\xfb\x90\x00" * 5_000,
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
    for prefix in magic:
        for number in range(12):
            yield f"{prefix!r} and noise {number}", prefix + generator.randbytes(10 ** (1 + number % 4))
    for number in range(50):
        yield f"noise {number}", generator.randbytes(generator.randrange(1, 20_000))


def samples() -> Iterator[tuple[str, Source]]:
    """Yields extreme samples, sample rates and data types, as arrays and as files."""
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
    """Encodes twelve hours of silence as a small file."""
    file = io.BytesIO()
    with soundfile.SoundFile(file, "w", rate, 1, format=kind) as writer:
        for _ in range(12 * 360):  # libsndfile's OGG encoder crashes if it receives an hour at once
            writer.write(np.zeros(10 * rate, np.float32))
    return file.getvalue()


def inputs(*, every: int = 1, start: int = 0) -> Iterator[tuple[str, Source]]:
    """Yields all fixed inputs, and every ``every``-th of the random ones."""
    files = every_format()
    yield from files.items()
    yield from samples()
    yield from not_audio()
    yield "twelve hours of FLAC", long_silence("FLAC", 1_000)
    if every == 1:
        yield "twelve hours of OGG", long_silence("OGG", 8_000)
        yield "twelve hours of MP3", long_silence("MP3", 8_000)
    random_inputs = [*changed_fields()]
    for kind, data in one_per_format(files).items():
        random_inputs += [*damaged(kind, data), *changed_headers(kind, data)]
    random.Random(every).shuffle(random_inputs)
    yield from random_inputs[start::every]


def classifiers(decode: str) -> tuple[Any, Any]:
    """Returns a classifier with a tiny network, and the bundled one."""
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
    """Returns "Prediction" or the name of a MusgenreError; other exceptions are raised."""
    from musgenre.core.errors import MusgenreError

    audio: Any = source
    if isinstance(source, bytes):
        audio = io.BytesIO(source)
        if folder is not None:
            audio = folder / "song.wav"
            audio.write_bytes(source)
    try:
        prediction = classifier.predict(audio)
    except MusgenreError as error:
        str(error)
        return type(error).__name__
    total = sum(prediction.probabilities.values())
    if not (abs(total - 1) < 1e-6 and np.isfinite(prediction.windows.probabilities).all()):
        raise ValueError(f"probabilities that sum to {total}")
    return "Prediction"


def peak_memory() -> int:
    """Returns the peak memory of this process in bytes; getrusage includes the memory of its parent."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return 1024 * int(status.partition("VmHWM:")[2].split()[0])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--start", type=int, default=0)
    parser.add_argument("--decode", default="inline")
    parser.add_argument(
        "--folder", type=Path, help="directory in which one input in ten is written to a file and read by its path"
    )
    options = parser.parse_args()
    tiny, bundled = classifiers(options.decode)
    results: collections.Counter[str] = collections.Counter()
    failures, slowest, last = {}, (0.0, ""), options.folder / "last" if options.folder else None
    for number, (name, source) in enumerate(inputs(every=options.every, start=options.start)):
        if last is not None:
            last.write_text(name)
        faulthandler.dump_traceback_later(LIMIT_WAITING, exit=True)  # code that hangs in C handles no signals
        started = time.process_time()
        try:
            result = outcome(
                bundled if number % 20 == 0 else tiny, source, options.folder if number % 10 == 0 else None
            )
        except Exception as error:  # noqa: BLE001 - any other exception is a failure
            result = failures[name] = repr(error)[:200]
        seconds = time.process_time() - started
        faulthandler.cancel_dump_traceback_later()
        if seconds > LIMIT_SECONDS:
            failures[name] = f"{seconds:.1f} s"
        slowest = max(slowest, (round(seconds, 2), name))
        results[result] += 1
    peak = max(peak_memory(), 1024 * resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
    summary = {"inputs": results.total(), "results": dict(results), "slowest": slowest, "peak_mib": peak >> 20}
    sys.stdout.write(json.dumps({**summary, "failures": failures}) + "\n")
    return 1 if failures or peak > LIMIT_BYTES else 0


if __name__ == "__main__":
    sys.exit(main())
