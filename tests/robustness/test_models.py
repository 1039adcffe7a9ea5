"""Untrusted models: every known attack is refused with a clear message."""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.utils._python_dispatch import TorchDispatchMode

from musgenre.backbones.base import BACKBONES
from musgenre.core.config import AudioSpec, Component, ModelConfig
from musgenre.core.errors import ConfigError, MusgenreError, ParameterError, WeightsError
from musgenre.functional import dct_matrix, mel_filterbank
from musgenre.models import serialization as weights
from musgenre.models import validation
from musgenre.models.classifier import GenreClassifier
from musgenre.models.network import GenreNetwork

CONFIG = ModelConfig(
    "tiny",
    ("a", "b"),
    AudioSpec(8_000, window_seconds=1.0, hop_seconds=1.0),
    Component("logmel", {"n_fft": 512, "hop_length": 200, "n_mels": 40}),
    Component("vgg16-slim", {"width": 0.02, "dense_units": 8}),
    hidden=(4,),
)
NOISE = np.random.default_rng(0).normal(scale=0.1, size=8_000), 8_000


@pytest.fixture
def model(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    weights.save(tmp_path / "model", config=CONFIG, network=GenreNetwork.from_config(CONFIG))
    return tmp_path / "model"


def edit(model: Path, change: Callable[[dict[str, Any]], object]) -> None:
    pairs = json.loads((model / "config.json").read_text())
    change(pairs)
    (model / "config.json").write_text(json.dumps(pairs))


# Memory


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda p: p.update(hidden=[10**9]),
            r"tensors of more than .* the tensor of shape \(1000000000, 8\) is not allocated",
        ),
        (lambda p: p.update(hidden=[10**5, 10**5]), "tensors of more than"),
        (lambda p: p.update(hidden=[10**18]), "tensors of more than"),
        (lambda p: p["backbone"]["options"].update(width=400), "tensors of more than"),
        (lambda p: p["backbone"]["options"].update(width=1e300), "No network can be built"),
        (lambda p: p["backbone"]["options"].update(dense_units=10**8), "tensors of more than"),
        (lambda p: p["feature"]["options"].update(n_mels=10**9), r"mel filterbank would have 1000000000 x 257 entries"),
        (
            lambda p: p["feature"]["options"].update(n_fft=10**9),
            r"the tensor of shape \(1000000000,\) is not allocated",
        ),
        (lambda p: p["feature"]["options"].update(n_fft=10**8, n_mels=1), "Mel filters|is not allocated"),
        (lambda p: p.update(feature={"name": "logmel-image", "options": {"size": 10**6}}), "has the shape"),
        (lambda p: p["audio"].update(window_seconds=1e9), "a window at most 16,777,216"),
        (lambda p: p["audio"].update(sample_rate=10**9), "sample_rate must be between 100 and 1,000,000"),
    ],
)
def test_excessive_memory_is_refused_before_allocation(model: Path, change: Callable[[Any], Any], message: str) -> None:
    edit(model, change)
    with pytest.raises(MusgenreError, match=message):
        weights.load(model)


@pytest.mark.parametrize(
    "make", [lambda: dct_matrix(n_mfcc=10**5, n_mels=10**5), lambda: mel_filterbank(sample_rate=8_000, n_mels=10**8)]
)
def test_filter_matrices_are_bounded(make: Callable[[], object]) -> None:
    with pytest.raises(ParameterError, match="more than the limit of 16,777,216"):
        make()


def test_the_memory_budget_depends_on_the_size_of_the_weights(model: Path) -> None:
    shapes = {"all": (10**8,)}
    with pytest.raises(ConfigError, match="far beyond its weights"):
        validation.build_network(
            ModelConfig(**{**vars(CONFIG), "hidden": (12_000, 12_000)}), shapes={}, pretrained=False
        )
    built = validation.build_network(
        ModelConfig(**{**vars(CONFIG), "hidden": (2_000, 2_000)}), shapes=shapes, pretrained=False
    )
    assert sum(parameter.numel() for parameter in built.parameters()) > 4_000_000


def test_large_backbone_with_small_weights(model: Path) -> None:
    pytest.importorskip("torchvision")
    edit(
        model,
        lambda p: p.update(
            backbone={"name": "torchvision/vgg19", "options": {}}, feature={"name": "logmel-image", "options": {}}
        ),
    )
    with pytest.raises(ConfigError, match="far beyond its weights"):
        weights.load(model)


def test_large_files_are_not_read(model: Path) -> None:
    for name, size, message in (
        ("config.json", 2**40, "has more than 4,194,304 bytes"),
        ("model.safetensors", 2**40, "is damaged or not a safetensors file"),
    ):
        original = (model / name).read_bytes()
        with (model / name).open("wb") as file:
            file.truncate(size)  # sparse: uses no disk space
        with pytest.raises(MusgenreError, match=message):
            weights.load(model)
        (model / name).write_bytes(original)
    weights.load(model)


def test_large_header_is_not_read(model: Path) -> None:
    header = b'{"__metadata__": {"a": "' + b"x" * validation.MAX_HEADER_BYTES + b'"}}'
    (model / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    with pytest.raises(WeightsError, match=r"has a header of 4,194,\d+ bytes; the maximum"):
        weights.load(model)


def test_the_private_method_that_the_memory_budget_overrides_exists() -> None:
    """tests/integration/test_operations.py checks that overriding it avoids loading the compiler."""
    assert TorchDispatchMode._should_skip_dynamo() is True


def test_messages_are_short(model: Path) -> None:
    tensors = {f"{number}{'x' * 1000}": torch.zeros(1) for number in range(500)}
    save_file(tensors, model / "model.safetensors")
    with pytest.raises(WeightsError, match=r"and 480 more") as caught:
        weights.load(model)
    assert len(str(caught.value)) < 10_000


# Paths


@pytest.mark.skipif(os.name != "posix", reason="links need privileges on other systems")
@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_links_out_of_the_directory_are_refused(model: Path, name: str) -> None:
    outside = model.parent / "outside"
    outside.mkdir()
    (model / name).rename(outside / name)
    for target in (outside / name, Path("../outside") / name, "/dev/zero", "/nowhere"):
        (model / name).symlink_to(target)
        with pytest.raises(WeightsError, match="links out of the model's directory"):
            weights.load(model)
        (model / name).unlink()
    (outside / name).rename(model / "other")
    (model / name).symlink_to("other")
    assert weights.load(model)[0] == CONFIG
    (model / name).unlink()
    for target in ("nothing", name):  # the last is a link to itself
        (model / name).symlink_to(target)
        with pytest.raises(WeightsError, match="is not a regular file"):
            weights.load(model)
        (model / name).unlink()


@pytest.mark.skipif(os.name != "posix", reason="links need privileges on other systems")
def test_links_inside_the_hubs_cache_are_allowed(model: Path, tmp_path: Path) -> None:
    cache = tmp_path / "models--org--name"
    snapshot = cache / "snapshots" / "0123"
    snapshot.mkdir(parents=True)
    (cache / "blobs").mkdir()
    for number, name in enumerate(("config.json", "model.safetensors")):
        (model / name).rename(cache / "blobs" / str(number))
        (snapshot / name).symlink_to(f"../../blobs/{number}")
    assert weights.load(snapshot)[0] == CONFIG
    (snapshot / "config.json").unlink()
    (snapshot / "config.json").symlink_to("../../secret")
    (cache / "secret").write_text("{}")
    with pytest.raises(WeightsError, match="links out"):
        weights.load(snapshot)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no named pipes")
@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_named_pipes_are_refused(model: Path, name: str) -> None:
    (model / name).unlink()
    os.mkfifo(model / name)
    with pytest.raises(WeightsError, match="is not a regular file"):
        weights.load(model)


@pytest.mark.parametrize("source", ["../secret.pth", "/etc/passwd", ["audioset"], {}, 3, True])
def test_a_configuration_cannot_name_a_file(model: Path, source: object) -> None:
    edit(model, lambda pairs: pairs["backbone"]["options"].update(weights=source))
    with pytest.raises(ConfigError, match="must name them"):
        weights.load(model)


# Pickles


class Code:
    """A pickle that creates a file when it is executed."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("suffix", sorted(validation.PICKLE_SUFFIXES))
def test_pickles_are_refused_by_suffix(tmp_path: Path, suffix: str) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    file = folder / f"pytorch_model{suffix.upper()}"
    file.write_bytes(pickle.dumps(Code(tmp_path / "executed")))
    for source in (file, str(file), f"nowhere/model{suffix}", f"org/model{suffix}"):
        with pytest.raises(WeightsError, match=r"is a pickle by its suffix, .* save_pretrained"):
            GenreClassifier.from_pretrained(source)
    with pytest.raises(
        WeightsError, match=r"contains no model: .* is a pickle, which can run any code and is not loaded"
    ):
        GenreClassifier.from_pretrained(folder)
    assert not (tmp_path / "executed").exists()


def test_pickle_beside_a_configuration(model: Path) -> None:
    (model / "model.safetensors").rename(model / "model.bin")
    with pytest.raises(WeightsError, match=r"contains no weights: .*'model.bin' is a pickle"):
        weights.load(model)


# Values


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
def test_non_finite_weights(model: Path, number: float) -> None:
    tensors = load_file(model / "model.safetensors")
    tensors["head.1.bias"][0] = number
    save_file(tensors, model / "model.safetensors")
    with pytest.raises(WeightsError, match=r"values in head.1.bias are not finite"):
        weights.load(model)


def test_overflowing_weights(model: Path) -> None:
    tensors = {
        name: torch.full_like(tensor, 3e38) if tensor.is_floating_point() else tensor
        for name, tensor in load_file(model / "model.safetensors").items()
    }
    save_file(tensors, model / "model.safetensors")
    classifier = GenreClassifier.from_pretrained(model, device="cpu")
    for method in (classifier.predict, classifier.embed):
        with pytest.raises(WeightsError, match="not finite"):
            method(NOISE)


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_are_converted(model: Path, kind: torch.dtype) -> None:
    expected = GenreClassifier.from_pretrained(model, device="cpu").predict(NOISE).probabilities
    tensors = load_file(model / "model.safetensors")
    save_file(
        {name: t.to(kind) if t.is_floating_point() else t for name, t in tensors.items()}, model / "model.safetensors"
    )
    converted = GenreClassifier.from_pretrained(model, device="cpu").predict(NOISE).probabilities
    assert converted == pytest.approx(expected, abs=0.02)


@pytest.mark.parametrize(
    "wrong",
    [
        [("width", "wide")],
        [("width", [])],
        [("dense_units", 1.5)],
        [("stem_stride", "2")],
        [("in_channels", -1), ("dropout", "x")],
    ],
)
def test_options_of_the_wrong_type(model: Path, wrong: list[tuple[str, object]]) -> None:
    edit(model, lambda pairs: pairs["backbone"]["options"].update(wrong))
    with pytest.raises(MusgenreError):
        weights.load(model)


def test_built_in_backbones_load_within_the_budget(tmp_path: Path) -> None:
    for name in ("vgg16-slim", "yamnet", "mobilenet_v3_small", "resnet18"):
        feature = (
            Component("yamnet-logmel")
            if name == "yamnet"
            else Component("logmel" if "slim" in name else "logmel-image")
        )
        config = ModelConfig(
            "m", ("a", "b"), AudioSpec(16_000), feature, Component(name, {} if "slim" in name else {"weights": None})
        )
        network = GenreNetwork.from_config(config)
        weights.save(tmp_path / name, config=config, network=network)
        _, loaded = weights.load(tmp_path / name)
        assert BACKBONES.names()
        assert all(
            torch.equal(a, b) for a, b in zip(network.state_dict().values(), loaded.state_dict().values(), strict=True)
        )
