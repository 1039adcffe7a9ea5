"""How often things are done: the counts on which speed rests, and which no busy machine can change."""

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
    """Counts operations, and of the Fourier transform the frames and of products the multiplications."""

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
def test_each_frame_is_transformed_once_and_only_what_is_not_zero_multiplied(batch, samples):
    feature = LogMel(sample_rate=RATE)
    frames = batch * feature.out_shape(samples)[2]
    with Counts() as counts:
        feature(torch.randn(batch, samples))
    assert counts.frames == frames
    assert counts.calls["_fft_r2c"] == batch * math.ceil(feature.out_shape(samples)[2] * 2048 / 300_000)
    assert counts.products < frames * 128 * 1025 / 6


def test_blocks_stay_in_the_cache():
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
@pytest.mark.usefixtures("two_threads")  # which puts their number back
def test_a_song_takes_as_many_passes_as_it_has_batches(seconds, batch_size, threads, passes):
    torch.set_num_threads(threads)
    model, seen = classifier(), []
    model.network.backbone.register_forward_hook(lambda _, args, __: seen.append(len(args[0])))
    noise = np.random.default_rng(0).normal(scale=0.1, size=seconds * RATE)
    model.predict((noise, RATE), batch_size=batch_size)
    assert len(seen) == passes
    assert sum(seen) == -(-seconds // 3)


@pytest.mark.parametrize(("rate", "calls"), [(RATE, 0), (44_100, 4 + 1)])
def test_a_song_is_resampled_once_by_block_and_not_at_all_at_its_own_rate(monkeypatch, tmp_path, rate, calls):
    made, chunks = [], []

    class Stream(soxr.ResampleStream):
        def __init__(self, *args, **options):
            made.append(args)
            super().__init__(*args, **options)

        def resample_chunk(self, *args, **options):
            chunks.append(args)
            return super().resample_chunk(*args, **options)

    monkeypatch.setattr(soxr, "ResampleStream", Stream)
    noise = np.random.default_rng(0).normal(scale=0.1, size=(rate * 35, 2))
    soundfile.write(tmp_path / "song.wav", noise, rate)
    assert load(tmp_path / "song.wav", sample_rate=RATE).size == pytest.approx(35 * RATE, abs=2)
    assert len(made) == (calls > 0)
    assert len(chunks) == calls


class File(io.BytesIO):
    reads = 0

    def read(self, *args):
        self.reads += 1
        return super().read(*args)


def test_an_mp3_is_decoded_in_as_many_calls_as_it_has_blocks(monkeypatch):
    calls, decode, file = [], soundfile.SoundFile.buffer_read_into, File()
    monkeypatch.setattr(soundfile.SoundFile, "buffer_read_into", lambda *args: calls.append(1) or decode(*args))
    soundfile.write(file, np.random.default_rng(0).normal(scale=0.1, size=35 * RATE), RATE, format="MP3")
    file.seek(0)
    load(file, sample_rate=RATE)
    assert len(calls) == 4
    assert file.reads < 35 * RATE / 1152  # the decoder itself asks four times for each frame


@pytest.mark.slow
@pytest.mark.parametrize("command", ["library", "command line"])
def test_predicting_loads_no_more_than_it_needs(tmp_path, command):
    soundfile.write(tmp_path / "song.wav", np.random.default_rng(0).normal(scale=0.1, size=RATE * 4), RATE)
    song = str(tmp_path / "song.wav")
    codes = {
        "library": f"import musgenre; musgenre.GenreClassifier.from_pretrained().predict({song!r})",
        "command line": f"import sys; sys.argv = ['musgenre', 'predict', {song!r}]\n"
        "from musgenre.cli.main import app\ntry: app()\nexcept SystemExit: pass",
    }
    needless = "librosa scipy numba sklearn matplotlib lightning torchvision huggingface_hub rich onnx onnxruntime timm"
    needless += " torch._dynamo torch._inductor sympy"
    check = f"\nimport sys; print(*[name for name in {needless!r}.split() if name in sys.modules], file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", codes[command] + check], capture_output=True, text=True, check=True)
    assert done.stderr.split() == []
