"""The contract of a feature."""

from __future__ import annotations

import copy
import math
from collections.abc import Collection, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from musgenre.core.config import AudioSpec, Component, ModelConfig
from musgenre.core.errors import ContractError, MusgenreError, ParameterError
from musgenre.features.base import FEATURES, FeatureExtractor
from musgenre.testing import common
from musgenre.testing.reports import Check, ContractReport, raised, run


@dataclass(frozen=True)
class FeatureCase:
    """A feature that is checked.

    Attributes:
        component: Its name and options.
        feature: What is registered under it, built, in evaluation mode.
        audio: The rate and the windows that it is given.
    """

    component: Component
    feature: FeatureExtractor
    audio: AudioSpec

    def noise(self, batch: int, *, samples: int | None = None) -> Tensor:
        """Returns ``(batch, samples)`` of noise, a window long unless told otherwise."""
        length = self.audio.window_samples if samples is None else samples
        return torch.randn(batch, length, generator=torch.Generator().manual_seed(length)).mul(0.3)


def check_feature(
    feature: str | Component,
    *,
    sample_rate: int = 22_050,
    window_seconds: float = 3.0,
    skip: Collection[str] = (),
) -> ContractReport:
    """Holds a registered feature to the whole contract.

    Args:
        feature: Its name in the registry, or a component with options.
        sample_rate: The rate of the audio that it is given, in hertz.
        window_seconds: The length of a window.
        skip: Names of checks that are left out, as the report names them.

    Returns:
        The report; ``print`` shows what was checked, and figures of size and speed.

    Raises:
        ContractError: The feature breaks the contract; the message tells all that is wrong.
        UnknownNameError, PluginError, ConfigError: It cannot be had by that name, or has no such option.
        ParameterError: ``skip`` names a check that there is not.

    Example:
        >>> report = check_feature("logmel", window_seconds=1.0, skip=["export"])
        >>> print(str(report).splitlines()[0])
        The feature 'logmel' keeps the contract: 10 checks.
    """
    component = Component.of(feature)
    audio = AudioSpec(sample_rate, window_seconds=window_seconds, hop_seconds=window_seconds)
    with common.seeded():
        built: object = FEATURES.build(component.name, {**component.options, "sample_rate": sample_rate})
        if not isinstance(built, FeatureExtractor):
            told = f"Its factory gives a {type(built).__name__} and no FeatureExtractor."
            report = ContractReport("feature", component.name, {"kind": (told,)})
            raise ContractError(str(report), report)
        case = FeatureCase(component, built.eval(), audio)
        return run(CHECKS, case, report=ContractReport("feature", component.name), skip=skip, sheet=_sheet)


def options(case: FeatureCase) -> Iterator[str]:
    """Every option has a default, and a sample rate that cannot be is refused."""
    factory = FEATURES.get(case.component.name)
    yield from common.without_default(factory, "sample_rate")
    if case.feature.sample_rate != case.audio.sample_rate:
        yield f"Built for {case.audio.sample_rate} Hz, its sample_rate is {case.feature.sample_rate!r}."
    for rate in (0, -1, 22_050.5, None):
        try:
            factory(**{**case.component.options, "sample_rate": rate})
        except ParameterError:
            continue
        except Exception as error:  # noqa: BLE001 - whatever somebody else's code raises is what is told
            told = raised(error)
        else:
            told = "is taken"
        yield f"sample_rate={rate!r} {told}: call super().__init__(sample_rate=sample_rate) first, which checks it."


def shapes(case: FeatureCase) -> Iterator[str]:
    """The shape is what out_shape says, for windows of any length that it does not refuse."""
    window = case.audio.window_samples
    for samples in (window, 2 * window, window + 137, window // 2 + 137, 500):
        try:
            declared = case.feature.out_shape(samples)
        except MusgenreError as error:
            if samples == window:
                yield f"out_shape refuses a window of {case.audio.window_seconds} s: {error}"
            continue
        found = tuple(case.feature(case.noise(2, samples=samples)).shape)
        if found != (2, *declared):
            yield f"For two windows of {samples} samples, out_shape says {declared} and forward gives {found}."
        if not all(type(size) is int and size > 0 for size in declared):
            yield f"For {samples} samples, out_shape says {declared}: expected three whole numbers above 0."


def batching(case: FeatureCase) -> Iterator[str]:
    """A batch gives what its windows give one by one."""
    waveforms = case.noise(3) * torch.tensor([[1.0], [0.01], [0.5]])
    alone = torch.cat([case.feature(waveform[None]) for waveform in waveforms])
    told = common.difference(case.feature(waveforms), alone, rtol=1e-4, atol=1e-4)
    if told:
        yield f"A batch of three gives {told} from its windows one by one."


def determinism(case: FeatureCase) -> Iterator[str]:
    """In evaluation mode the same window gives the same values, and stays as it was."""
    waveforms = case.noise(2)
    kept = waveforms.clone()
    first = case.feature(waveforms)
    if not torch.equal(waveforms, kept):
        yield "It changes the waveform that it is given: work on a copy."
    if not torch.equal(first, case.feature(kept.clone())):
        yield "The same window twice gives different values: what is random must be off in evaluation mode."
    with torch.inference_mode():
        if not torch.equal(first, case.feature(kept.clone())):
            yield "Inside torch.inference_mode it gives different values."


def hearing(case: FeatureCase) -> Iterator[str]:
    """What it gives depends on the waveform, and is finite."""
    seconds = torch.arange(case.audio.window_samples) / case.audio.sample_rate
    low, high = (torch.sin(2 * math.pi * frequency * seconds)[None] for frequency in (200, 3000))
    if (case.feature(low) - case.feature(high)).abs().max() <= 1e-3:
        yield "Tones of 200 and of 3000 Hz give the same values."
    extremes = {"silence": 0.0, "a constant of 1": 1.0, "a constant of 1e-20": 1e-20}
    for words, level in extremes.items():
        if not case.feature(torch.full_like(low, level)).isfinite().all():
            yield f"For {words} it gives values that are not finite."


def gradients(case: FeatureCase) -> Iterator[str]:
    """Gradients reach every part of the waveform, and every parameter."""
    feature = copy.deepcopy(case.feature)
    waveforms = case.noise(2).requires_grad_()
    feature(waveforms).square().sum().backward()
    if waveforms.grad is None or not waveforms.grad.isfinite().all():
        yield "The gradient of the waveform is missing or not finite."
        return
    parts = torch.stack([part.abs().sum(dim=-1) for part in waveforms.grad.tensor_split(9, dim=-1)])
    reached = (parts > 0).all(dim=-1).tolist()
    if not all(reached):
        silent = [f"{place}/9" for place, learns in enumerate(reached, start=1) if not learns]
        yield f"No gradient reaches these parts of the waveform: {', '.join(silent)}."
    without = [name for name, parameter in feature.named_parameters() if parameter.grad is None]
    if without:
        yield f"No gradient reaches the parameters {', '.join(without)}."


def constants(case: FeatureCase) -> Iterator[str]:
    """A feature that learns nothing puts nothing into a saved model."""
    state = case.feature.state_dict()
    if state and not list(case.feature.parameters()):
        yield f"It learns nothing, and yet a saved model holds {', '.join(state)}: use persistent=False for constants."


def precision(case: FeatureCase) -> Iterator[str]:
    """In double precision it gives double precision, and the same values."""
    waveforms = case.noise(2)
    found = copy.deepcopy(case.feature).double()(waveforms.double())
    if found.dtype != torch.float64:
        yield f"In double precision it gives {found.dtype}."
    told = common.difference(found.float(), case.feature(waveforms), rtol=1e-3, atol=1e-2)
    if told:
        yield f"Double precision gives {told}."


def device(case: FeatureCase) -> Iterator[str]:
    """It moves to another device with all that it needs."""
    waveforms = case.noise(2)
    yield from common.elsewhere(case.feature, waveforms, expected=case.feature(waveforms).detach())


def export(case: FeatureCase) -> Iterator[str]:
    """torch.export makes a graph of it that gives the same values."""
    waveforms = case.noise(2)
    yield from common.exported(case.feature, waveforms, expected=case.feature(waveforms).detach())


def saving(case: FeatureCase) -> Iterator[str]:
    """A classifier with it, saved and loaded, gives the same predictions."""
    with common.pool() as backbone:
        yield from common.reloaded(
            ModelConfig("checked", ("a", "b"), case.audio, case.component, Component(backbone), dropout=0.0)
        )


CHECKS: tuple[Check[FeatureCase], ...] = (
    options,
    shapes,
    batching,
    determinism,
    hearing,
    gradients,
    constants,
    precision,
    device,
    export,
    saving,
)
"""What a feature is held to, in the order of the report."""


def _sheet(case: FeatureCase) -> dict[str, float]:
    channels, bins, frames = case.feature.out_shape(case.audio.window_samples)
    return {
        "channels": channels,
        "bins": bins,
        "frames": frames,
        "parameters": sum(parameter.numel() for parameter in case.feature.parameters()),
        "ms for a window": common.milliseconds(case.feature, case.noise(1)),
    }
