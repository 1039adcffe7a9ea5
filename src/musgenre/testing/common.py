"""Checks and helpers that the contracts of features and backbones share."""

from __future__ import annotations

import contextlib
import copy
import inspect
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import torch
from torch import Tensor, nn

from musgenre.backbones.base import BACKBONES, Backbone, InputSpec
from musgenre.core.config import ModelConfig
from musgenre.models.classifier import GenreClassifier
from musgenre.models.network import GenreNetwork

_MEAN_POOL = "musgenre.testing.mean-pool"


@contextlib.contextmanager
def fixed_seed() -> Iterator[None]:
    """Seed PyTorch's random number generator inside the ``with`` block, and restore its state afterwards."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def check_defaults(factory: Callable[..., object], *, required: str) -> Iterator[str]:
    """Yield a message for each option without a default, except the required one, or with a default that JSON rejects.

    Args:
        factory: The registered factory.
        required: Name of the only option that may lack a default.
    """
    for parameter in inspect.signature(factory).parameters.values():
        if parameter.name == required:
            continue
        if parameter.default is parameter.empty:
            yield (
                f"The option {parameter.name!r} has no default value, so the component cannot be built by name alone."
            )
            continue
        try:
            json.dumps(parameter.default, allow_nan=False)
        except (TypeError, ValueError):
            yield (
                f"The default value {parameter.default!r} of the option {parameter.name!r} cannot be serialised to "
                "JSON, so a saved model could not store it."
            )


def describe_difference(found: Tensor, expected: Tensor, *, rtol: float, atol: float) -> str | None:
    """Describe how a tensor differs from the expected one, or return ``None`` if both agree within the tolerances."""
    if found.shape != expected.shape:
        return f"the shape {tuple(found.shape)} instead of {tuple(expected.shape)}"
    if torch.allclose(found, expected, rtol=rtol, atol=atol):
        return None
    return f"values that differ by up to {(found - expected).abs().max().item():.2g}"


def check_device(module: nn.Module, example: Tensor, *, expected: Tensor) -> Iterator[str]:
    """Yield a message for each difference on another device: a GPU if available, otherwise ``meta`` (shapes only)."""
    device = "cuda" if torch.cuda.is_available() else "meta"
    moved = copy.deepcopy(module).to(device)
    with torch.no_grad():
        found = moved(example.to(device))
    if found.device.type != device:
        yield f"On the device {device!r}, the output is on {found.device.type!r}."
    elif device == "cuda":
        difference = describe_difference(found.cpu(), expected, rtol=1e-2, atol=1e-2)
        if difference:
            yield f"On a GPU, the output has {difference}."
    elif found.shape != expected.shape:
        yield (
            f"On the device {device!r}, the output has the shape {tuple(found.shape)} instead of "
            f"{tuple(expected.shape)}."
        )


def check_export(module: nn.Module, example: Tensor, *, expected: Tensor) -> Iterator[str]:
    """Yield a message if the graph from ``torch.export`` computes other values."""
    with torch.no_grad():
        graph = torch.export.export(module, (example,)).module()
        difference = describe_difference(graph(example), expected, rtol=1e-3, atol=1e-4)
    if difference:
        yield f"The output of the exported graph has {difference}."


def check_saving(config: ModelConfig) -> Iterator[str]:
    """Yield a message for each difference between a model and its copy that was saved and loaded."""
    classifier = GenreClassifier(GenreNetwork.from_config(config), config, device="cpu")
    waveform = torch.randn(config.audio.window_samples).mul(0.1)
    with tempfile.TemporaryDirectory() as directory:
        classifier.save_pretrained(directory)
        loaded = GenreClassifier.from_pretrained(directory, device="cpu")
    if replace(loaded.config, library_version="") != replace(config, library_version=""):
        yield (
            f"The options change when they are saved and loaded, from {config} to {loaded.config}: use only the types "
            "of JSON."
        )
    with torch.inference_mode():
        equal = torch.equal(classifier.network(waveform[None]), loaded.network(waveform[None]))
    before, after = (model.predict((waveform.numpy(), config.audio.sample_rate)) for model in (classifier, loaded))
    if not equal or before.probabilities != after.probabilities:
        yield (
            "A model that was saved and loaded computes other values: trained or random state must be an nn.Parameter "
            "or a persistent buffer."
        )


def milliseconds(module: nn.Module, example: Tensor, *, runs: int = 5) -> float:
    """Return the median time of one forward pass, in milliseconds."""
    with torch.inference_mode():
        module(example)
        times = []
        for _ in range(runs):
            start = time.perf_counter()
            module(example)
            times.append(time.perf_counter() - start)
    return 1000 * statistics.median(times)


class _MeanPool(Backbone):
    """Mean over bins and frames, for features of any size."""

    def __init__(self, *, in_channels: int) -> None:
        super().__init__()
        self.out_features = in_channels
        self.expects = InputSpec(channels=in_channels)

    def stages(self) -> list[nn.Module]:
        return []

    def forward(self, feature: Tensor) -> Tensor:
        return feature.mean(dim=(-2, -1))


@contextlib.contextmanager
def mean_pool() -> Iterator[str]:
    """Register a backbone for features of any size inside the ``with`` block, and return its name."""
    with BACKBONES.temporary(_MEAN_POOL, _MeanPool):
        yield _MEAN_POOL
