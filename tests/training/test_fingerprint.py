"""Fingerprints of modules: equal for equal code, options and weights, in any process, and different otherwise."""

from __future__ import annotations

import collections
import dataclasses
import enum
import functools
import importlib.util
import itertools
import logging
import os
import re
import subprocess
import sys
import threading
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from musgenre.backbones.base import BACKBONES
from musgenre.features.base import FEATURES
from musgenre.training.fingerprint import fingerprint

TWO_FEATURES = """
from torch import nn

class {name}(nn.Module):
    def __init__(self, gain=1.0):
        super().__init__()
        self.gain = gain

    def forward(self, waveform):
        return {body}
"""


class Holder(nn.Module):
    """A module with one option."""

    def __init__(self, option: Any = None) -> None:
        super().__init__()
        self.option = option


@dataclasses.dataclass(frozen=True)
class Options:
    bins: int
    window: tuple[float, ...] = ()


class Slots:
    __slots__ = ("value",)

    def __init__(self, value: int) -> None:
        self.value = value


class Mode(enum.Enum):
    FAST = 1
    EXACT = 2


def module_of(path: Path, source: str) -> types.ModuleType:
    """Import a file under its own name."""
    path.write_text(source)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


def scaled(factor: float) -> nn.Module:
    class Scaled(nn.Module):
        def forward(self, waveform):
            return factor * waveform

    return Scaled()


def either(first: bool) -> nn.Module:
    if first:

        class Same(nn.Module):
            def forward(self, waveform):
                return waveform

    else:

        class Same(nn.Module):
            def forward(self, waveform):
                return -waveform

    return Same()


def long_array(changed: int | None = None, kind: Callable[..., Any] = np.array) -> Any:
    values = [0.0] * 5_000
    if changed is not None:
        values[changed] = 1.0
    return kind(values)


def adds(number: float) -> Callable[[float], float]:
    return lambda value: value + number


def cyclic(depth: int) -> dict[str, Any]:
    options: dict[str, Any] = {"depth": depth}
    options["self"] = options
    return options


@pytest.mark.parametrize(
    "options",
    [
        (long_array, lambda: long_array(2_500)),
        (lambda: long_array(kind=torch.tensor), lambda: long_array(2_500, kind=torch.tensor)),
        (lambda: {"a": [long_array()]}, lambda: {"a": [long_array(4_999)]}),
        (lambda: np.zeros(4), lambda: np.zeros((2, 2)), lambda: np.zeros(4, np.float32), lambda: np.zeros(4, np.int64)),
        (lambda: torch.zeros(2), lambda: np.zeros(2, np.float32), lambda: torch.zeros(2, dtype=torch.int32)),
        (lambda: np.array([1, "a"], object), lambda: np.array([1, "b"], object)),
        (lambda: 1, lambda: 1.0, lambda: True, lambda: "1", lambda: b"1", lambda: None, lambda: Path("1")),
        (lambda: 0.1, lambda: 0.1 + 1e-17 + 1e-16),
        (lambda: ["ab", "c"], lambda: ["a", "bc"], lambda: ("ab", "c"), lambda: [["ab"], "c"], lambda: {"ab": "c"}),
        (lambda: {"a", "b"}, lambda: {"a", "c"}, lambda: frozenset({"a", "b"})),
        (lambda: {"a": 1, "b": 2}, lambda: {"b": 2, "a": 1}),  # a feature may depend on the order
        (lambda: Mode.FAST, lambda: Mode.EXACT),
        (lambda: Options(8), lambda: Options(9), lambda: Options(8, (0.5,))),
        (lambda: Slots(1), lambda: Slots(2), lambda: collections.deque([1]), lambda: collections.deque([2])),
        (lambda: re.compile("a"), lambda: re.compile("b"), lambda: collections.OrderedDict(a=1), lambda: {"a": 1}),
        (lambda: torch.float32, lambda: torch.float16, lambda: np.dtype("f4")),
        (lambda: np.hanning, lambda: np.hamming, lambda: np.sin, lambda: torch.relu, lambda: torch.sin),
        (lambda: adds(1), lambda: adds(2), lambda: adds),
        (lambda: functools.partial(pow, 2), lambda: functools.partial(pow, 3)),
        (lambda: Slots(1).__init__, lambda: Slots(2).__init__),
        (lambda: Options, lambda: Slots, lambda: Mode),
        (lambda: [nn.Linear(2, 2, bias=False).requires_grad_(False)], lambda: [nn.ReLU()], lambda: [nn.ELU()]),
        (lambda: cyclic(1), lambda: cyclic(2)),
    ],
)
def test_options_are_distinguished_by_their_content(options, caplog):
    digests = []
    for make in options:
        torch.manual_seed(0)
        digests.append(fingerprint(Holder(make())))
        torch.manual_seed(0)
        assert fingerprint(Holder(make())) == digests[-1]
    for one, other in itertools.combinations(digests, 2):
        assert one != other
    assert caplog.records == []


def test_forward_is_part_of_the_fingerprint(tmp_path):
    source = "{}\n{}".format(
        TWO_FEATURES.format(name="Plain", body="self.gain * waveform"),
        TWO_FEATURES.format(name="Other", body="self.gain * waveform.abs()"),
    )
    module = module_of(tmp_path / "my_features.py", source)
    assert fingerprint(module.Plain()) == fingerprint(module.Plain()) != fingerprint(module.Plain(2.0))
    assert fingerprint(module.Plain()) != fingerprint(module.Other())
    before = fingerprint(module.Plain())
    edited = module_of(tmp_path / "my_features.py", source.replace("self.gain * waveform\n", "self.gain + waveform\n"))
    assert fingerprint(edited.Plain()) != before
    assert fingerprint(edited.Other()) == fingerprint(module.Other())


def test_the_code_of_base_classes_is_part_of_the_fingerprint(tmp_path):
    source = TWO_FEATURES.format(name="Base", body="self.gain * waveform") + "\nclass Child(Base):\n    pass\n"
    before = fingerprint(module_of(tmp_path / "my_bases.py", source).Child())
    after = fingerprint(module_of(tmp_path / "my_bases.py", source.replace("self.gain *", "self.gain +")).Child())
    assert before != after


def test_closures_are_part_of_the_fingerprint():
    assert fingerprint(scaled(1.0)) == fingerprint(scaled(1.0)) != fingerprint(scaled(2.0))


def test_classes_of_equal_names_in_one_function_are_distinguished():
    assert fingerprint(either(True)) != fingerprint(either(False))


def test_weights_buffers_and_the_number_of_uses_of_a_layer_count():
    layer = nn.BatchNorm1d(3)
    before = fingerprint(layer)
    layer.running_mean[1] += 1e-6
    assert fingerprint(layer) != before
    activation = nn.ReLU()
    assert fingerprint(nn.Sequential(activation)) != fingerprint(nn.Sequential(activation, activation))
    assert fingerprint(layer.train()) == fingerprint(layer.eval())


@pytest.mark.parametrize("name", FEATURES.names())
def test_every_feature_has_a_fingerprint_that_computing_does_not_change(name, caplog):
    feature = FEATURES.build(name, {"sample_rate": 16_000})
    before = fingerprint(feature)
    feature(torch.zeros(1, 48_000) + 0.1)
    assert fingerprint(feature) == before == fingerprint(FEATURES.build(name, {"sample_rate": 16_000}))
    assert caplog.records == []


PROGRAM = """
import sys
import torch
from musgenre.backbones.base import BACKBONES
from musgenre.features.base import FEATURES
from musgenre.training.fingerprint import fingerprint

torch.manual_seed(0)
backbone = BACKBONES.build("vgg16-slim", {"in_channels": 1, "width": 0.05, "dense_units": 8})
feature = FEATURES.build("logmel-image", {"sample_rate": 16_000})
feature.option = {"a", "b", "c", "d"}, torch.relu, print
print(fingerprint(backbone), fingerprint(feature))
"""

NOTEBOOK = f"""
import logging, sys
from musgenre.training.fingerprint import fingerprint

logging.basicConfig(stream=sys.stdout, format="%(name)s %(message)s")
exec('''{TWO_FEATURES.format(name="Mine", body="waveform")}''')
print(fingerprint(Mine()), fingerprint(Mine()))
"""


def output(program: str, **environment: str) -> list[str]:
    run = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
        env={**os.environ, **environment},
    )
    return run.stdout.splitlines()


def test_equal_modules_have_one_fingerprint_in_two_processes():
    first, second = output(PROGRAM, PYTHONHASHSEED="1"), output(PROGRAM, PYTHONHASHSEED="2")
    assert first == second
    torch.manual_seed(0)
    backbone = BACKBONES.build("vgg16-slim", {"in_channels": 1, "width": 0.05, "dense_units": 8})
    assert first[0].split()[0] == fingerprint(backbone)


def test_a_class_without_source_has_another_fingerprint_in_each_process():
    (log, first), (_, second) = output(NOTEBOOK), output(NOTEBOOK)
    assert log.startswith("musgenre.training.fingerprint The source of 'Mine' is not available")
    for digests in (first.split(), second.split()):
        assert digests[0] == digests[1]
    assert first != second


def test_a_class_that_is_redefined_without_source_is_another_one(caplog):
    def define(body: str) -> nn.Module:
        names: dict[str, Any] = {"__name__": __name__}
        exec(TWO_FEATURES.format(name="Mine", body=body), names)
        return names["Mine"]()

    with caplog.at_level(logging.WARNING):
        first, second = define("waveform"), define("-waveform")
        assert fingerprint(first) == fingerprint(first) != fingerprint(second)
    assert "Mine" in caplog.text


def test_an_option_whose_content_is_unknown_is_never_taken_for_another(caplog):
    first, second = Holder(threading.Lock()), Holder(threading.Lock())
    assert fingerprint(first) != fingerprint(second)
    assert "lock" in caplog.text
