"""YAMNet and its feature against the TFLite interpreter, on the file that MUSGENRE_TEST_YAMNET names."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import musgenre
from musgenre.audio import load
from musgenre.backbones.yamnet import AudioSetScores, YAMNet
from musgenre.features.yamnet import YAMNetLogMel

DEMO = "assets/demo.ogg"


class Interpreter:
    """The TFLite interpreter of YAMNet."""

    def __init__(self, path: str) -> None:
        litert = pytest.importorskip("ai_edge_litert.interpreter", reason="ai-edge-litert is not installed")
        pytest.importorskip("tflite", reason="the extra musgenre[yamnet] is not installed")
        self.path = path
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about the memory for preserving all tensors
            self.model = litert.Interpreter(path, num_threads=1, experimental_preserve_all_tensors=True)
        self.model.allocate_tensors()
        tensors = {tensor["name"]: tensor["index"] for tensor in self.model.get_tensor_details()}
        pooled = next(index for name, index in tensors.items() if name.endswith("global_average_pooling2d/Mean"))
        scores, mel = (output["index"] for output in self.model.get_output_details())
        self.outputs = (mel, pooled, scores)

    def __call__(self, waveform: np.ndarray) -> list[np.ndarray]:
        """Returns log-mel ``(96, 64)``, embedding ``(1024,)`` and scores ``(521,)`` of 15,600 samples."""
        self.model.set_tensor(self.model.get_input_details()[0]["index"], waveform[None])
        self.model.invoke()
        return [self.model.get_tensor(index).squeeze().copy() for index in self.outputs]


@pytest.fixture(scope="module")
def interpreter() -> Interpreter:
    path = os.environ.get("MUSGENRE_TEST_YAMNET")
    if not path:
        pytest.skip("MUSGENRE_TEST_YAMNET is not set to a TFLite file of YAMNet")
    return Interpreter(path)


@pytest.fixture(scope="module")
def excerpts() -> list[np.ndarray]:
    """Excerpts of 0.975 s, of real music if available and otherwise of the demo recording."""
    folder = os.environ.get("MUSGENRE_TEST_GTZAN")
    paths = sorted(Path(folder).glob("*/*.flac"))[::29] if folder else [Path(musgenre.__file__).parent / DEMO]
    tracks = [load(path, sample_rate=16_000) for path in paths]
    return [
        track[start : start + 15_600]
        for track in tracks
        for start in range(0, min(len(track) - 15_600, 60_000) + 1, 30_000)
    ]


def _quantise(values: torch.Tensor) -> torch.Tensor:
    """Quantises each row to 8 bits over its range, as the interpreter does before multiplications by 8-bit numbers."""
    low, high = values.amin(dim=-1, keepdim=True).clamp(max=0), values.amax(dim=-1, keepdim=True).clamp(min=0)
    step = ((high - low) / 255).clamp(min=1e-30)
    zero = torch.round(-128 - low / step)
    return (torch.round(values / step + zero).clamp(-128, 127) - zero) * step


def _quantise_matrix(matrix: torch.Tensor) -> torch.Tensor:
    step = matrix.abs().max() / 127
    return torch.round(matrix / step) * step


def _log_mel_in_8_bits(waveform: np.ndarray) -> torch.Tensor:
    """Computes the feature with its constants and the interpreter's quantisation; ``(64, 96)``."""
    feature, samples = YAMNetLogMel(sample_rate=16_000), torch.from_numpy(waveform).double()
    frames = nn.functional.pad(samples.unfold(0, 400, 160) * feature.window(samples), (56, 56))
    angle = 2 * torch.pi / 512 * torch.outer(torch.arange(257.0).double(), torch.arange(512.0).double())
    real, imaginary = (_quantise(frames) @ _quantise_matrix(wave).T for wave in (angle.cos(), angle.sin()))
    magnitude = _quantise((real.square() + imaginary.square()).sqrt())
    return (magnitude @ _quantise_matrix(feature.filterbank(samples)).T + 0.001).log().T.float()


class TestAgainstTheInterpreter:
    """The interpreter computes in 8 bits, the spectrogram too, where quiet bands next to loud ones are rounded away."""

    def test_embeddings_and_scores(self, interpreter, excerpts):
        backbone, head = YAMNet(weights=interpreter.path), AudioSetScores(weights=interpreter.path)
        for excerpt in excerpts:
            mel, expected, scores = interpreter(excerpt)
            with torch.inference_mode():
                embedding = backbone(torch.from_numpy(mel.T)[None, None])
                difference = np.abs(head(embedding)[0].numpy() - scores).max()
            assert torch.cosine_similarity(embedding[0], torch.from_numpy(expected), dim=0) >= 0.99
            assert difference <= 0.03

    def test_feature_with_the_same_quantisation(self, interpreter, excerpts):
        backbone = YAMNet(weights=interpreter.path)
        for excerpt in excerpts:
            mel, expected, _ = interpreter(excerpt)
            ours = _log_mel_in_8_bits(excerpt)
            assert np.abs(ours.numpy() - mel.T).mean() < 1e-3
            with torch.inference_mode():
                embedding = backbone(ours[None, None])
            assert torch.cosine_similarity(embedding[0], torch.from_numpy(expected), dim=0) >= 0.99
