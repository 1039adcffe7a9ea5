"""Benchmark musgenre and its peers in one run.

    pip install -e ".[bench]"
    pytest benchmarks [--yamnet yamnet.tflite] [--ten-hours] [--table speed.md] [--benchmark-json speed.json]

Peers: librosa, nnAudio and ``torch.stft`` for the spectrogram; for files, YAMNet in TFLite (patches of 0.975 s without
overlap, its fastest configuration) and the published recipe: ``librosa.load``, ``librosa.feature.melspectrogram``, one
image of 224 × 224 per clip, torchvision's VGG-16 (with random weights, whose computation takes as long as that of
trained ones). Ratios are meaningful on an idle machine; on a busy one, use ``--benchmark-timer=time.process_time``,
except for the rows that measure processes or threads: a folder, workers, the first prediction.
"""
# ruff: noqa: PLR0917 - fixtures are passed by name

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import librosa
import numpy as np
import pytest
import soundfile
import soxr
import torch
import torchvision

import musgenre
from musgenre.core.config import AudioSpec, Component, ModelConfig
from musgenre.features import LogMel
from musgenre.models.network import GenreNetwork

pytestmark = pytest.mark.timeout(0)  # without limit
RATE = 22_050
Measure = Callable[..., None]
Work = Callable[[], object]
Songs = dict[str, Path]
CLIP = np.random.default_rng(0).normal(scale=0.1, size=30 * RATE).astype(np.float32)


def _librosa() -> Work:
    return lambda: librosa.power_to_db(librosa.feature.melspectrogram(y=CLIP, sr=RATE), ref=np.max)


def _nnaudio() -> Work:
    features = pytest.importorskip("nnAudio.features", reason="needs the extra 'bench'")
    mel = features.MelSpectrogram(sr=RATE, n_fft=2048, hop_length=512, n_mels=128, verbose=False)
    waveform = torch.from_numpy(CLIP)
    return lambda: mel(waveform).clamp(min=1e-10).log10()


def _stft() -> Work:
    window, waveform = torch.hann_window(2048), torch.from_numpy(CLIP)
    bank = torch.from_numpy(librosa.filters.mel(sr=RATE, n_fft=2048))

    def work() -> torch.Tensor:
        spectrum = torch.stft(waveform, 2048, 512, window=window, pad_mode="constant", return_complex=True)
        return (bank @ spectrum.abs().square()).clamp(min=1e-10).log10()

    return work


def _logmel(clips: int = 1) -> Work:
    feature, waveform = LogMel(sample_rate=RATE), torch.from_numpy(CLIP).repeat(clips, 1)
    return lambda: feature(waveform)


@pytest.fixture(autouse=True)
def _no_gradients() -> Iterator[None]:
    with torch.inference_mode():
        yield


@pytest.mark.parametrize(
    ("who", "make"),
    [("musgenre", _logmel), ("librosa", _librosa), ("torch.stft", _stft), ("nnAudio", _nnaudio)],
)
def test_log_mel(measure: Measure, who: str, make: Callable[[], Work]) -> None:
    measure("log-mel, one clip", who, make(), rounds=40)


@pytest.mark.parametrize(("row", "clips"), [("batch of 16", 16), ("an hour", 120)])
def test_log_mel_of_much(measure: Measure, row: str, clips: int) -> None:
    feature = LogMel(sample_rate=RATE)
    much = torch.from_numpy(CLIP).repeat(clips, 1) if clips == 16 else torch.from_numpy(CLIP).repeat(1, clips)
    measure(f"log-mel, per clip of {row}", "musgenre", lambda: feature(much), rounds=5, per=clips)


@pytest.mark.parametrize("row", ["batch of 16", "an hour"])
def test_log_mel_of_one(measure: Measure, row: str) -> None:
    measure(f"log-mel, per clip of {row}", "one clip", _logmel(), rounds=40)


def _recipe(song: Path) -> Work:
    network = torchvision.models.vgg16(weights=None).eval()

    def work() -> torch.Tensor:
        samples, rate = librosa.load(song, sr=RATE)
        mel = librosa.power_to_db(librosa.feature.melspectrogram(y=samples, sr=rate), ref=np.max)
        image = torch.from_numpy(mel)[None, None].repeat(1, 3, 1, 1)
        image = torch.nn.functional.interpolate(image, size=(224, 224), mode="bilinear")
        scores: torch.Tensor = network(image).softmax(dim=1)
        return scores

    return work


def _yamnet(song: Path, model: str) -> Work:
    interpreters = pytest.importorskip("ai_edge_litert.interpreter", reason="needs the extra 'bench'")
    interpreter = interpreters.Interpreter(model, num_threads=2)
    interpreter.allocate_tensors()
    entry, scores = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]

    def work() -> Any:
        samples, rate = soundfile.read(song, dtype="float32", always_2d=True)
        mono = soxr.resample(samples.mean(axis=1), rate, 16_000)
        rows = []
        for start in range(0, mono.size - 15_600 + 1, 15_600):
            interpreter.set_tensor(entry, mono[None, start : start + 15_600])
            interpreter.invoke()
            rows.append(interpreter.get_tensor(scores)[0])
        return np.mean(rows, axis=0)

    return work


def _predict(song: Path, *, runtime: Any = "torch") -> Work:
    classifier = musgenre.GenreClassifier.from_pretrained(device="cpu")
    classifier.runtime = runtime
    return lambda: classifier.predict(song)


@pytest.mark.parametrize("who", ["musgenre", "musgenre with ONNX Runtime", "published recipe", "YAMNet in TFLite"])
@pytest.mark.parametrize(("row", "song"), [("predict, 30 s clip", "clip"), ("predict, MP3 of 78 s", "mp3")])
def test_predict(measure: Measure, songs: Songs, who: str, row: str, song: str, request: pytest.FixtureRequest) -> None:
    if who == "YAMNet in TFLite":
        model = request.config.getoption("--yamnet")
        if not model:
            pytest.skip("--yamnet names no model")
        measure(row, who, _yamnet(songs[song], model))
    elif who == "musgenre with ONNX Runtime":
        pytest.importorskip("onnxruntime", reason="needs the extra 'onnx'")
        measure(row, who, _predict(songs[song], runtime="onnx"))
    else:
        measure(row, who, {"musgenre": _predict, "published recipe": _recipe}[who](songs[song]))


@pytest.mark.parametrize("who", ["musgenre", "one worker"])
def test_folder(measure: Measure, songs: Songs, who: str) -> None:
    classifier = musgenre.GenreClassifier.from_pretrained(device="cpu")
    threads = torch.get_num_threads()
    torch.set_num_threads(threads if who == "musgenre" else 1)
    try:
        measure("predict, a folder", who, lambda: classifier.predict([songs["clip"]] * 250), rounds=3, per=250)
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("who", ["musgenre", "import torch"])
def test_cold(measure: Measure, songs: Songs, who: str) -> None:
    predict = f"import sys; sys.argv = ['musgenre', 'predict', {str(songs['clip'])!r}]; "
    code = predict + "from musgenre.cli.main import main; main()" if who == "musgenre" else "import torch"
    command = [sys.executable, "-c", code]
    measure("musgenre predict, cold", who, lambda: subprocess.run(command, check=True, capture_output=True), rounds=7)


@pytest.mark.parametrize(("who", "song", "share"), [("musgenre", "long", 1), ("ten times one minute", "minute", 0.1)])
def test_long(measure: Measure, songs: Songs, who: str, song: str, share: float) -> None:
    measure("predict, ten minutes", who, _predict(songs[song]), rounds=3, per=share)


@pytest.fixture(scope="session")
def ten_hours(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write ten hours of noise bursts, separated by silence to limit the file size."""
    if not request.config.getoption("--ten-hours"):
        pytest.skip("takes some minutes: --ten-hours")
    path, burst = tmp_path_factory.mktemp("long") / "ten-hours.flac", np.zeros(60 * RATE, np.float32)
    burst[:: 10 * RATE] = 0.5
    burst[:RATE] = CLIP[:RATE]
    with soundfile.SoundFile(path, "w", RATE, 1) as file:
        for _ in range(600):
            file.write(burst)
    return path


def test_ten_hours(measure: Measure, ten_hours: Path) -> None:
    measure("predict, ten hours", "musgenre", _predict(ten_hours), rounds=1)


def test_ten_hours_of_minutes(measure: Measure, ten_hours: Path, tmp_path: Path) -> None:
    with soundfile.SoundFile(ten_hours) as file:
        soundfile.write(tmp_path / "minute.flac", file.read(60 * RATE, dtype="float32"), RATE)
    measure("predict, ten hours", "600 times one minute", _predict(tmp_path / "minute.flac"), rounds=15, per=1 / 600)


@pytest.mark.parametrize("who", ["musgenre", "bare network"])
def test_vgg16(measure: Measure, who: str) -> None:
    image, vgg16 = Component("logmel-image"), Component("vgg16", {"weights": None})
    config = ModelConfig("vgg16", tuple("abcdefghij"), AudioSpec(), image, vgg16)
    classifier = musgenre.GenreClassifier(GenreNetwork.from_config(config), config, device="cpu")
    images = torch.randn(10, 3, 224, 224).to(memory_format=torch.channels_last)
    bare = torchvision.models.vgg16(weights=None).eval().to(memory_format=torch.channels_last)
    work: Work = (lambda: classifier.predict((CLIP, RATE))) if who == "musgenre" else (lambda: bare(images))
    measure("predict with VGG-16", who, work, rounds=5)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("who", ["musgenre", "bare network"])
def test_gpu(measure: Measure, who: str) -> None:
    config = ModelConfig("vgg16", tuple("abcdefghij"), AudioSpec(), Component("logmel-image"), Component("vgg16"))
    network = GenreNetwork.from_config(config).eval().cuda()
    windows = torch.from_numpy(CLIP[: 3 * RATE]).repeat(64, 1).cuda()
    images = network.feature(windows)

    def work() -> None:
        network(windows) if who == "musgenre" else network.classify(images)
        torch.cuda.synchronize()

    measure("64 windows on a GPU", who, work)


_PEAK = """
import resource, sys, torch, musgenre
musgenre.GenreClassifier.from_pretrained(device="cpu").predict(sys.argv[1])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def _peak(song: Path) -> int:
    done = subprocess.run([sys.executable, "-c", _PEAK, song], check=True, capture_output=True, text=True)
    return int(done.stdout)


def test_memory_does_not_grow_with_the_song(songs: Songs) -> None:
    assert _peak(songs["long"]) < 1.1 * _peak(songs["minute"])


def test_memory_does_not_grow_to_ten_hours(songs: Songs, ten_hours: Path) -> None:
    assert _peak(ten_hours) < 1.1 * _peak(songs["minute"])
