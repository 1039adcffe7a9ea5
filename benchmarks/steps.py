"""Benchmark the CPU time of each step of a prediction on one core.

    python benchmarks/steps.py [--picture steps.png] [--songs FOLDER]

Each step is measured separately on 30 s of audio; the minimum of many runs is reported, which is least affected by
other load. For comparison, the minimum number of operations, their time at the speed of a large matrix product on the
same core, and the time of one pass over the samples at the speed of a large copy are printed. With ``--songs``, the
maximum change of the probabilities for each form of the network is printed as well.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import math
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

import musgenre
from musgenre.audio import load
from musgenre.audio.windows import open_audio
from musgenre.functional import mel_groups
from musgenre.models.inference import fused
from musgenre.models.onnx import onnx_classifier

SECONDS = 30
Steps = dict[str, float]


def main() -> None:
    """Run the benchmark and print the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--picture", type=Path, help="file for the plot, in PNG format")
    parser.add_argument("--songs", type=Path, help="a directory of audio files")
    options = parser.parse_args()
    torch.set_num_threads(1)
    classifier = musgenre.GenreClassifier.from_pretrained(device="cpu")
    with torch.inference_mode():
        audio, spectrogram = _audio(), _spectrogram(classifier)
        forms = _forms(classifier)
        windows = torch.randn(5, classifier.config.audio.window_samples)
        feature = classifier.network.feature(windows)
        per_clip = SECONDS / classifier.config.audio.hop_seconds / len(windows)
        network = {name: per_clip * _least(partial(form, feature)) for name, form in forms.items()}
        for title, steps in (("audio", audio), ("spectrogram", spectrogram), ("network", network)):
            print(f"\n| {title} | ms |\n| --- | --- |")
            print("\n".join(f"| {name} | {1e3 * seconds:.2f} |" for name, seconds in steps.items()))
        _print_limits(classifier, feature)
        if options.songs:
            print("\n| network | largest change of a window's probability |\n| --- | --- |")
            for name, change in _changes(classifier, forms, songs=options.songs).items():
                print(f"| {name} | {change:.1e} |")
    if options.picture:
        _draw(audio | spectrogram | {"network, fused": network["fused"]}, options.picture)


def _print_limits(classifier: musgenre.GenreClassifier, feature: Tensor) -> None:
    """Print lower bounds: the arithmetic of each step at peak speed, and one pass over the samples."""
    mel: Any = classifier.network.feature.mel
    frames = mel.frame_count(SECONDS * classifier.config.audio.sample_rate)
    bins = mel.n_fft // 2 + 1
    with FlopCounterMode(display=False) as counted:
        classifier.network.classify(feature)
    windows = SECONDS / classifier.config.audio.hop_seconds
    operations = {
        "window": frames * mel.n_fft,
        "Fourier transform": frames * 2.5 * mel.n_fft * math.log2(mel.n_fft),
        "power": frames * 3 * bins,
        "mel bands": frames * 2 * int(mel.filterbank.value.count_nonzero()),
        "network": counted.get_total_flops() * windows / len(feature),
    }
    square, long = torch.randn(1024, 1024), torch.randn(2**26)
    peak = 2 * 1024**3 / _least(lambda: square @ square)
    bandwidth = 2 * long.nbytes / _least(long.clone, runs=5)
    print("\n| step | million operations | ms at the peak |\n| --- | --- | --- |")
    for name, count in operations.items():
        print(f"| {name} | {count / 1e6:.0f} | {1e3 * count / peak:.2f} |")
    samples = 4 * SECONDS * classifier.config.audio.sample_rate
    print(f"\nPeak: {peak / 1e9:.0f} GFLOP/s. Memory: {bandwidth / 1e9:.0f} GB/s, which is", end=" ")
    print(f"{1e3 * samples / bandwidth:.2f} ms for the {samples / 1e6:.1f} MB of samples.")


def _least(work: Callable[[], object], *, runs: int = 15) -> float:
    times = []
    for _ in range(runs + 2):
        start = time.thread_time()
        work()
        times.append(time.thread_time() - start)
    return min(times)


def _audio() -> Steps:
    rate = 48_000
    samples = np.random.default_rng(0).normal(scale=0.1, size=(SECONDS * rate, 2)).astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "song.mp3"
        soundfile.write(path, samples, rate)

        def decode() -> None:
            with contextlib.closing(open_audio(path)) as song:
                for _ in song.parts():
                    pass

        mono = samples.mean(axis=1)
        steps = {
            "decode MP3, 48 kHz stereo": _least(decode),
            "resample": _least(lambda: soxr.resample(mono, rate, 22_050)),
        }
        whole = _least(lambda: load(path, sample_rate=22_050))
        return steps | {"mix, check, copy": max(0.0, whole - sum(steps.values()))}


def _spectrogram(classifier: musgenre.GenreClassifier) -> Steps:
    feature: Any = classifier.network.feature
    waveform = torch.randn(1, SECONDS * classifier.config.audio.sample_rate)
    mel: Any = feature.mel
    count, window, bank = 300_000 // mel.n_fft, mel.window(waveform), mel.filterbank(waveform)
    times = mel.frame_count(waveform.shape[-1]) / count
    frames = waveform[0].unfold(-1, mel.n_fft, mel.hop_length)[:count]
    windowed = frames * window
    spectrum = torch.view_as_real(torch.fft.rfft(windowed))
    squares, power = torch.empty_like(spectrum), torch.empty(spectrum.shape[:2])
    summed = torch.empty(len(bank), count)
    products = [(bank[bands, bins], power.T[bins], summed[bands]) for bands, bins in mel_groups(bank)]

    def square_and_add() -> None:
        torch.mul(spectrum, spectrum, out=squares)
        torch.add(squares[..., 0], squares[..., 1], out=power)

    bands = mel(waveform)
    steps: dict[str, Callable[[], object]] = {
        "window": lambda: torch.mul(frames, window, out=windowed),
        "Fourier transform": lambda: torch.fft.rfft(windowed),
        "power": square_and_add,
        "mel bands": lambda: [torch.mm(weight, part, out=out) for weight, part, out in products],
    }
    found = {name: times * _least(step, runs=100) for name, step in steps.items()}
    found["logarithm and scaling"] = _least(lambda: feature.from_mel(bands.clone()))
    return found | {"whole feature": _least(lambda: feature(waveform))}


def _forms(classifier: musgenre.GenreClassifier) -> dict[str, Callable[[Tensor], Tensor]]:
    network = classifier.network
    quick = fused(network)
    half = copy.deepcopy(quick).bfloat16()
    forms: dict[str, Callable[[Tensor], Tensor]] = {
        "as trained": network.classify,
        "fused": quick.classify,
        "fused, bfloat16": lambda feature: half.classify(feature.bfloat16()).float(),
    }
    try:
        forms["ONNX Runtime"] = onnx_classifier(network, window_samples=classifier.config.audio.window_samples)
    except musgenre.MusgenreError as error:
        print(error)
    return forms


def _changes(
    classifier: musgenre.GenreClassifier, forms: dict[str, Callable[[Tensor], Tensor]], *, songs: Path
) -> dict[str, float]:
    spec, largest = classifier.config.audio, dict.fromkeys(forms, 0.0)
    for path in sorted(path for path in songs.rglob("*.*") if path.suffix in (".flac", ".wav")):
        samples = torch.from_numpy(load(path, sample_rate=spec.sample_rate))
        if samples.numel() < spec.window_samples:
            continue
        feature = classifier.network.feature(samples.unfold(0, spec.window_samples, spec.hop_samples))
        rows = {
            name: (form(feature).double() / classifier.config.temperature).softmax(1) for name, form in forms.items()
        }
        for name, row in rows.items():
            largest[name] = max(largest[name], (row - rows["as trained"]).abs().max().item())
    return largest


def _draw(steps: Steps, path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 3.5), layout="constrained")
    axes = figure.subplots()
    names = [name for name in steps if name != "whole feature"][::-1]
    axes.barh(names, [1e3 * steps[name] for name in names])
    axes.set_xlabel(f"processor time for {SECONDS} s of audio, one core, in ms")
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
