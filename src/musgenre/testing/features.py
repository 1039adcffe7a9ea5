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
from musgenre.testing.reports import Check, ContractReport, describe_error, run_checks


@dataclass(frozen=True)
class FeatureCase:
    """A feature under test.

    Attributes:
        component: Name and options.
        feature: The feature in evaluation mode.
        audio: Sample rate and window length.
    """

    component: Component
    feature: FeatureExtractor
    audio: AudioSpec

    def noise(self, batch: int, *, samples: int | None = None) -> Tensor:
        """Return reproducible noise of shape ``(batch, samples)``; by default, of the length of a window."""
        length = self.audio.window_samples if samples is None else samples
        return torch.randn(batch, length, generator=torch.Generator().manual_seed(length)).mul(0.3)


def check_feature(
    feature: str | Component,
    *,
    sample_rate: int = 22_050,
    window_seconds: float = 3.0,
    skip: Collection[str] = (),
) -> ContractReport:
    """Check that a registered feature fulfils the contract of :class:`~musgenre.features.FeatureExtractor`.

    Args:
        feature: Name in the registry, or a component with options.
        sample_rate: Rate of the audio, in hertz.
        window_seconds: Length of a window, in seconds.
        skip: Names of checks to skip, as in the report.

    Returns:
        The report; ``print`` it for the number of checks, sizes and speed.

    Raises:
        ContractError: At least one check fails; the message lists all violations.
        UnknownNameError, PluginError, ConfigError: The feature cannot be loaded by its name, or an option is unknown.
        ParameterError: ``skip`` contains an unknown name.

    Example:
        >>> report = check_feature("logmel", window_seconds=1.0, skip=["export"])
        >>> print(str(report).splitlines()[0])
        The feature 'logmel' passes 10 checks.

    See Also:
        :func:`~musgenre.testing.check_backbone`
    """
    component = Component.of(feature)
    audio = AudioSpec(sample_rate, window_seconds=window_seconds, hop_seconds=window_seconds)
    with common.fixed_seed():
        built: object = FEATURES.build(component.name, {**component.options, "sample_rate": sample_rate})
        if not isinstance(built, FeatureExtractor):
            message = f"The factory returns an object of type {type(built).__name__}, not a FeatureExtractor."
            report = ContractReport("feature", component.name, {"kind": (message,)})
            raise ContractError(str(report), report)
        case = FeatureCase(component, built.eval(), audio)
        report = ContractReport("feature", component.name)
        return run_checks(CHECKS, case, report=report, skip=skip, measure=_measurements)


def options(case: FeatureCase) -> Iterator[str]:
    """All options except sample_rate have a default value, and invalid sample rates are rejected."""
    factory = FEATURES.get(case.component.name)
    yield from common.check_defaults(factory, required="sample_rate")
    if case.feature.sample_rate != case.audio.sample_rate:
        yield f"Built for {case.audio.sample_rate} Hz, its sample_rate is {case.feature.sample_rate!r}."
    for rate in (0, -1, 22_050.5, None):
        try:
            factory(**{**case.component.options, "sample_rate": rate})
        except ParameterError:
            continue
        except Exception as error:  # noqa: BLE001 - a custom feature may raise anything, and the report lists it
            outcome = f"raises {describe_error(error)}"
        else:
            outcome = "is accepted"
        yield (
            f"The invalid sample_rate={rate!r} {outcome}: call super().__init__(sample_rate=sample_rate) first, which "
            "validates it."
        )


def shapes(case: FeatureCase) -> Iterator[str]:
    """The shape of the output equals out_shape, for windows of any length that out_shape does not reject."""
    window = case.audio.window_samples
    for samples in (window, 2 * window, window + 137, window // 2 + 137, 500):
        try:
            declared = case.feature.out_shape(samples)
        except MusgenreError as error:
            if samples == window:
                yield f"out_shape rejects a window of {case.audio.window_seconds} s: {error}"
            continue
        found = tuple(case.feature(case.noise(2, samples=samples)).shape)
        if found != (2, *declared):
            yield f"For two windows of {samples} samples, out_shape returns {declared}, but forward returns {found}."
        if not all(type(size) is int and size > 0 for size in declared):
            yield f"For {samples} samples, out_shape returns {declared}; expected three positive integers."


def batching(case: FeatureCase) -> Iterator[str]:
    """The output for a batch equals the outputs for its windows one by one."""
    waveforms = case.noise(3) * torch.tensor([[1.0], [0.01], [0.5]])
    single = torch.cat([case.feature(waveform[None]) for waveform in waveforms])
    difference = common.describe_difference(case.feature(waveforms), single, rtol=1e-4, atol=1e-4)
    if difference:
        yield f"Compared with its windows one by one, a batch of three has {difference}."


def determinism(case: FeatureCase) -> Iterator[str]:
    """In evaluation mode, the output is reproducible and the input is not modified."""
    waveforms = case.noise(2)
    original = waveforms.clone()
    first = case.feature(waveforms)
    if not torch.equal(waveforms, original):
        yield "The feature modifies its input: use a copy."
    if not torch.equal(first, case.feature(original.clone())):
        yield "Two passes over the same window give different values: disable random operations in evaluation mode."
    with torch.inference_mode():
        if not torch.equal(first, case.feature(original.clone())):
            yield "The values are different in torch.inference_mode."


def sensitivity(case: FeatureCase) -> Iterator[str]:
    """The output depends on the waveform, and is finite."""
    seconds = torch.arange(case.audio.window_samples) / case.audio.sample_rate
    low, high = (torch.sin(2 * math.pi * frequency * seconds)[None] for frequency in (200, 3000))
    if (case.feature(low) - case.feature(high)).abs().max() <= 1e-3:
        yield "Tones of 200 Hz and 3000 Hz give the same values."
    levels = {"silence": 0.0, "a constant of 1": 1.0, "a constant of 1e-20": 1e-20}
    for description, level in levels.items():
        if not case.feature(torch.full_like(low, level)).isfinite().all():
            yield f"The values for {description} are not finite."


def gradients(case: FeatureCase) -> Iterator[str]:
    """Gradients reach every part of the waveform and every parameter."""
    feature = copy.deepcopy(case.feature)
    waveforms = case.noise(2).requires_grad_()
    feature(waveforms).square().sum().backward()
    if waveforms.grad is None or not waveforms.grad.isfinite().all():
        yield "The gradient with respect to the waveform is missing or not finite."
        return
    parts = torch.stack([part.abs().sum(dim=-1) for part in waveforms.grad.tensor_split(9, dim=-1)])
    reached = (parts > 0).all(dim=-1).tolist()
    if not all(reached):
        missed = [f"{number}/9" for number, has_gradient in enumerate(reached, start=1) if not has_gradient]
        yield f"No gradient reaches these parts of the waveform: {', '.join(missed)}."
    without = [name for name, parameter in feature.named_parameters() if parameter.grad is None]
    if without:
        yield f"No gradient reaches the parameters {', '.join(without)}."


def constants(case: FeatureCase) -> Iterator[str]:
    """A feature without trainable parameters adds nothing to a saved model."""
    state = case.feature.state_dict()
    if state and not list(case.feature.parameters()):
        yield (
            f"The feature has no trainable parameters, but a saved model contains {', '.join(state)}: use "
            "persistent=False for constants."
        )


def precision(case: FeatureCase) -> Iterator[str]:
    """In double precision, the output is in double precision and has the same values."""
    waveforms = case.noise(2)
    found = copy.deepcopy(case.feature).double()(waveforms.double())
    if found.dtype != torch.float64:
        yield f"In double precision, the output is in {found.dtype}."
    difference = common.describe_difference(found.float(), case.feature(waveforms), rtol=1e-3, atol=1e-2)
    if difference:
        yield f"In double precision, the output has {difference}."


def device(case: FeatureCase) -> Iterator[str]:
    """The feature can be moved to another device with all of its tensors."""
    waveforms = case.noise(2)
    yield from common.check_device(case.feature, waveforms, expected=case.feature(waveforms).detach())


def export(case: FeatureCase) -> Iterator[str]:
    """The graph from torch.export computes the same values."""
    waveforms = case.noise(2)
    yield from common.check_export(case.feature, waveforms, expected=case.feature(waveforms).detach())


def saving(case: FeatureCase) -> Iterator[str]:
    """A classifier with the feature predicts the same after saving and loading."""
    with common.mean_pool() as backbone:
        yield from common.check_saving(
            ModelConfig("checked", ("a", "b"), case.audio, case.component, Component(backbone), dropout=0.0)
        )


CHECKS: tuple[Check[FeatureCase], ...] = (
    options,
    shapes,
    batching,
    determinism,
    sensitivity,
    gradients,
    constants,
    precision,
    device,
    export,
    saving,
)
"""The checks of the contract of a feature, in the order of the report."""


def _measurements(case: FeatureCase) -> dict[str, float]:
    channels, bins, frames = case.feature.out_shape(case.audio.window_samples)
    return {
        "channels": channels,
        "bins": bins,
        "frames": frames,
        "parameters": sum(parameter.numel() for parameter in case.feature.parameters()),
        "ms per window": common.milliseconds(case.feature, case.noise(1)),
    }
