"""What the contracts of features and backbones have in common."""

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

_POOL = "musgenre.testing.pool"


@contextlib.contextmanager
def seeded() -> Iterator[None]:
    """Draws the same numbers inside, and leaves PyTorch's generator as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def without_default(factory: Callable[..., object], given: str) -> Iterator[str]:
    """Yields which options but the given one cannot be left out, and which defaults a saved model cannot hold."""
    for parameter in inspect.signature(factory).parameters.values():
        if parameter.name == given:
            continue
        if parameter.default is parameter.empty:
            yield f"The option {parameter.name!r} has no default, so that its name alone is not enough to use it."
            continue
        try:
            json.dumps(parameter.default, allow_nan=False)
        except (TypeError, ValueError):
            yield (
                f"The default of the option {parameter.name!r} is {parameter.default!r}, which JSON cannot hold: a "
                "saved model could not name it."
            )


def difference(found: Tensor, expected: Tensor, *, rtol: float, atol: float) -> str | None:
    """Returns by how much two tensors differ, in words, or ``None`` where they agree within the tolerances."""
    if found.shape != expected.shape:
        return f"the shape {tuple(found.shape)} in place of {tuple(expected.shape)}"
    if torch.allclose(found, expected, rtol=rtol, atol=atol):
        return None
    return f"values that differ by up to {(found - expected).abs().max().item():.2g}"


def elsewhere(module: nn.Module, example: Tensor, *, expected: Tensor) -> Iterator[str]:
    """Yields what is wrong on another device: a GPU where there is one, else ``meta``, which computes shapes alone."""
    device = "cuda" if torch.cuda.is_available() else "meta"
    moved = copy.deepcopy(module).to(device)
    with torch.no_grad():
        found = moved(example.to(device))
    if found.device.type != device:
        yield f"Moved to {device!r}, it gives a tensor on {found.device.type!r}."
    elif device == "cuda":
        # TensorFloat-32 is allowed there.
        told = difference(found.cpu(), expected, rtol=1e-2, atol=1e-2)
        if told:
            yield f"A GPU gives {told}."
    elif found.shape != expected.shape:
        yield f"Moved to {device!r}, it gives the shape {tuple(found.shape)} in place of {tuple(expected.shape)}."


def exported(module: nn.Module, example: Tensor, *, expected: Tensor) -> Iterator[str]:
    """Yields what is wrong with the module as a graph."""
    with torch.no_grad():
        graph = torch.export.export(module, (example,)).module()
        told = difference(graph(example), expected, rtol=1e-3, atol=1e-4)
    if told:
        yield f"torch.export gives a graph with {told}."


def reloaded(config: ModelConfig) -> Iterator[str]:
    """Yields what a saved model and the one that is loaded from it do not have in common."""
    classifier = GenreClassifier(GenreNetwork.from_config(config), config, device="cpu")
    song = torch.randn(config.audio.window_samples).mul(0.1)
    with tempfile.TemporaryDirectory() as directory:
        classifier.save_pretrained(directory)
        loaded = GenreClassifier.from_pretrained(directory, device="cpu")
    if replace(loaded.config, library_version="") != replace(config, library_version=""):
        yield f"Saved with the options {config}, it is loaded with {loaded.config}: options are of JSON's types."
    with torch.inference_mode():
        same = torch.equal(classifier.network(song[None]), loaded.network(song[None]))
    before, after = (one.predict((song.numpy(), config.audio.sample_rate)) for one in (classifier, loaded))
    if not same or before.probabilities != after.probabilities:
        yield (
            "A model that was saved and loaded gives other values: what is learned or drawn at random must be an "
            "nn.Parameter, or a buffer that is persistent."
        )


def milliseconds(module: nn.Module, example: Tensor, *, runs: int = 5) -> float:
    """Returns the median time of one pass, in milliseconds."""
    with torch.inference_mode():
        module(example)
        times = []
        for _ in range(runs):
            start = time.perf_counter()
            module(example)
            times.append(time.perf_counter() - start)
    return 1000 * statistics.median(times)


class _Pool(Backbone):
    """The mean over bins and frames, for a feature of any size."""

    def __init__(self, *, in_channels: int) -> None:
        super().__init__()
        self.out_features = in_channels
        self.expects = InputSpec(channels=in_channels)

    def stages(self) -> list[nn.Module]:
        return []

    def forward(self, feature: Tensor) -> Tensor:
        return feature.mean(dim=(-2, -1))


@contextlib.contextmanager
def pool() -> Iterator[str]:
    """Registers a backbone that takes any feature, and gives its name; it is gone afterwards."""
    with BACKBONES.temporary(_POOL, _Pool):
        yield _POOL
