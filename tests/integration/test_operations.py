"""Counts of costly operations, which determine the speed and do not depend on the load of the machine."""

from __future__ import annotations

import io
import math
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
import soundfile
import soxr
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import musgenre
from musgenre.audio import load
from musgenre.core.config import AudioSpec, Component, ModelConfig
from musgenre.features import LogMel
from musgenre.transforms import MelSpectrogram

RATE = 22_050


class Counts(TorchDispatchMode):
    """Counts operations, frames of Fourier transforms, and multiplications in matrix products."""

    def __init__(self):
        super().__init__()
        self.calls, self.frames, self.products = Counter(), 0, 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.calls[function.overloadpacket.__name__] += 1
        if function.overloadpacket is torch.ops.aten._fft_r2c:
            self.frames += args[0].numel() // args[0].shape[-1]
        if function.overloadpacket is torch.ops.aten.mm:
            self.products += args[0].shape[0] * args[0].shape[1] * args[1].shape[1]
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize(("batch", "samples"), [(1, 30 * RATE), (4, 3 * RATE)])
def test_frames_are_transformed_once_and_zero_mel_weights_are_skipped(batch, samples):
    feature = LogMel(sample_rate=RATE)
    frames = batch * feature.out_shape(samples)[2]
    with Counts() as counts:
        feature(torch.randn(batch, samples))
    assert counts.frames == frames
    assert counts.calls["_fft_r2c"] == batch * math.ceil(feature.out_shape(samples)[2] * 2048 / 300_000)
    assert counts.products < frames * 128 * 1025 / 6


def test_blocks_fit_into_the_cpu_cache():
    largest = 0

    class Largest(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            nonlocal largest
            result = function(*args, **(kwargs or {}))
            if function.overloadpacket is torch.ops.aten._fft_r2c:
                largest = max(largest, result.numel() * result.element_size())
            return result

    with Largest():
        MelSpectrogram(sample_rate=RATE)(torch.randn(60 * RATE))
    assert 0 < largest < 2**20 * 1.2


def classifier():
    backbone = Component("vgg16-slim", {"width": 0.05, "dense_units": 8})
    config = ModelConfig("tiny", ("a", "b"), AudioSpec(RATE), Component("logmel", {"n_mels": 32}), backbone)
    return musgenre.GenreClassifier(musgenre.GenreNetwork.from_config(config), config, device="cpu")


@pytest.mark.parametrize(
    ("seconds", "batch_size", "threads", "passes"),
    [(30, None, 2, 2), (31, None, 2, 3), (30, None, 1, 1), (31, None, 1, 2), (30, 16, 2, 1), (1, None, 2, 1)],
)
@pytest.mark.usefixtures("two_threads")  # restores the number of threads
def test_one_forward_pass_per_batch(seconds, batch_size, threads, passes):
    torch.set_num_threads(threads)
    model, batch_sizes = classifier(), []
    model.network.backbone.register_forward_hook(lambda _, args, __: batch_sizes.append(len(args[0])))
    noise = np.random.default_rng(0).normal(scale=0.1, size=seconds * RATE)
    model.predict((noise, RATE), batch_size=batch_size)
    assert len(batch_sizes) == passes
    assert sum(batch_sizes) == -(-seconds // 3)


@pytest.mark.parametrize(("rate", "calls"), [(RATE, 0), (44_100, 4 + 1)])
def test_one_resampler_call_per_block_and_none_at_the_target_rate(monkeypatch, tmp_path, rate, calls):
    streams, chunks = [], []

    class Stream(soxr.ResampleStream):
        def __init__(self, *args, **options):
            streams.append(args)
            super().__init__(*args, **options)

        def resample_chunk(self, *args, **options):
            chunks.append(args)
            return super().resample_chunk(*args, **options)

    monkeypatch.setattr(soxr, "ResampleStream", Stream)
    noise = np.random.default_rng(0).normal(scale=0.1, size=(rate * 35, 2))
    soundfile.write(tmp_path / "song.wav", noise, rate)
    assert load(tmp_path / "song.wav", sample_rate=RATE).size == pytest.approx(35 * RATE, abs=2)
    assert len(streams) == (calls > 0)
    assert len(chunks) == calls


class File(io.BytesIO):
    reads = 0

    def read(self, *args):
        self.reads += 1
        return super().read(*args)


def test_one_mp3_decoder_call_per_block(monkeypatch):
    calls, decode, file = [], soundfile.SoundFile.buffer_read_into, File()
    monkeypatch.setattr(soundfile.SoundFile, "buffer_read_into", lambda *args: calls.append(1) or decode(*args))
    soundfile.write(file, np.random.default_rng(0).normal(scale=0.1, size=35 * RATE), RATE, format="MP3")
    file.seek(0)
    load(file, sample_rate=RATE)
    assert len(calls) == 4
    assert file.reads < 35 * RATE / 1152  # the decoder by itself reads four times per frame


@pytest.mark.slow
@pytest.mark.parametrize("command", ["library", "command line"])
def test_predicting_does_not_import_unused_libraries(tmp_path, command):
    soundfile.write(tmp_path / "song.wav", np.random.default_rng(0).normal(scale=0.1, size=RATE * 4), RATE)
    song = str(tmp_path / "song.wav")
    codes = {
        "library": f"import musgenre; musgenre.GenreClassifier.from_pretrained().predict({song!r})",
        "command line": f"import sys; sys.argv = ['musgenre', 'predict', {song!r}]\n"
        "from musgenre.cli.main import app\ntry: app()\nexcept SystemExit: pass",
    }
    unused = "librosa scipy numba sklearn matplotlib lightning torchvision huggingface_hub rich onnx onnxruntime timm"
    unused += " torch._dynamo torch._inductor sympy"
    check = f"\nimport sys; print(*[name for name in {unused!r}.split() if name in sys.modules], file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", codes[command] + check], capture_output=True, text=True, check=True)
    assert done.stderr.split() == []
