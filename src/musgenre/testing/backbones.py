"""The contract of a backbone."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Collection, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from musgenre.backbones.base import BACKBONES, Backbone, InputSpec
from musgenre.core.config import AudioSpec, Component, ModelConfig
from musgenre.core.errors import ContractError, MusgenreError
from musgenre.features.base import FEATURES
from musgenre.testing import common
from musgenre.testing.reports import Check, ContractReport, run_checks


@dataclass(frozen=True)
class BackboneCase:
    """A backbone under test.

    Attributes:
        component: Name and options.
        backbone: The backbone in evaluation mode.
        feature: The feature that provides its input.
        audio: Sample rate and window length of the feature.
    """

    component: Component
    backbone: Backbone
    feature: Component
    audio: AudioSpec

    def inputs(self, batch: int = 2) -> Tensor:
        """Return reproducible noise of a shape that the backbone expects, ``(batch, channels, bins, frames)``."""
        expects = self.backbone.expects
        size = expects.size or (max(expects.min_size[0], 48), max(expects.min_size[1], 56))
        return torch.randn(batch, expects.channels, *size, generator=torch.Generator().manual_seed(0))

    def outputs(self) -> Tensor:
        """Return the output of the backbone for two inputs."""
        with torch.no_grad():
            outputs: Tensor = self.backbone(self.inputs())
        return outputs


def check_backbone(
    backbone: str | Component,
    *,
    feature: str | Component | None = None,
    sample_rate: int = 22_050,
    window_seconds: float = 3.0,
    skip: Collection[str] = (),
) -> ContractReport:
    """Check that a registered backbone fulfils the contract of :class:`~musgenre.backbones.Backbone`.

    The backbone is built with random weights, so that nothing is downloaded.

    Args:
        backbone: Name in the registry, or a component with options.
        feature: The feature that provides its input; the default feature of the backbone by default.
        sample_rate: Rate of the audio, in hertz.
        window_seconds: Length of a window, in seconds.
        skip: Names of checks to skip, as in the report.

    Returns:
        The report; ``print`` it for the number of checks, sizes and speed.

    Raises:
        ContractError: At least one check fails; the message lists all violations.
        UnknownNameError, PluginError, ConfigError: Backbone or feature cannot be loaded by its name, or an option is
            unknown.
        ParameterError: ``skip`` contains an unknown name.

    Example:
        >>> report = check_backbone(Component("vgg16-slim", {"width": 0.03}), window_seconds=1.0, skip=["export"])
        >>> print(str(report).splitlines()[0])
        The backbone 'vgg16-slim' passes 8 checks.

    See Also:
        :func:`~musgenre.testing.check_feature`
    """
    component = Component.of(backbone)
    feature = Component.of(feature or BACKBONES.entry(component.name).default_feature)
    audio = AudioSpec(sample_rate, window_seconds=window_seconds, hop_seconds=window_seconds)
    with common.fixed_seed():
        extractor = FEATURES.build(feature.name, {**feature.options, "sample_rate": sample_rate})
        channels = extractor.out_shape(audio.window_samples)[0]
        built = _build(component, in_channels=channels)
        if message := _wrong_kind(built):
            report = ContractReport("backbone", component.name, {"kind": (message,)})
            raise ContractError(str(report), report)
        case = BackboneCase(component, built.eval(), feature, audio)
        report = ContractReport("backbone", component.name)
        return run_checks(CHECKS, case, report=report, skip=skip, measure=_measurements)


def options(case: BackboneCase) -> Iterator[str]:
    """All options except in_channels have a default value."""
    yield from common.check_defaults(BACKBONES.get(case.component.name), required="in_channels")


def shapes(case: BackboneCase) -> Iterator[str]:
    """The output has out_features values, for inputs from its feature and for inputs of min_size."""
    outputs, expects = case.outputs(), case.backbone.expects
    if outputs.shape != (2, case.backbone.out_features):
        yield f"out_features is {case.backbone.out_features}, but the output for two inputs is {tuple(outputs.shape)}."
    if not outputs.isfinite().all():
        yield "The output has values that are not finite."
    if torch.equal(outputs[0], outputs[1]):
        yield "Two different inputs give the same output."
    if expects.size is None:
        smallest = torch.randn(2, expects.channels, *expects.min_size)
        with torch.no_grad():
            found = tuple(case.backbone(smallest).shape)
        if found != (2, case.backbone.out_features):
            yield f"min_size is {expects.min_size}, but the output for two inputs of that size is {found}."
    feature = FEATURES.build(case.feature.name, {**case.feature.options, "sample_rate": case.audio.sample_rate})
    try:
        shape = feature.out_shape(case.audio.window_samples)
        expects.check(shape, feature=case.feature.name, backbone=case.component.name)
    except MusgenreError as error:
        yield str(error)


def batching(case: BackboneCase) -> Iterator[str]:
    """The output for a batch equals the outputs for its inputs one by one."""
    with torch.no_grad():
        single = torch.cat([case.backbone(example[None]) for example in case.inputs()])
    difference = common.describe_difference(case.outputs(), single, rtol=1e-3, atol=1e-4)
    if difference:
        yield f"Compared with its inputs one by one, a batch of two has {difference}."


def determinism(case: BackboneCase) -> Iterator[str]:
    """In evaluation mode, the output is reproducible and the input is not modified."""
    inputs = case.inputs()
    with torch.no_grad():
        first = case.backbone(inputs)
    if not torch.equal(inputs, case.inputs()):
        yield "The backbone modifies its input: use a copy (inplace=False in the first layer)."
    with torch.inference_mode():
        if not torch.equal(first, case.backbone(case.inputs())):
            yield "Two passes over the same input give different values: disable random operations in evaluation mode."


def gradients(case: BackboneCase) -> Iterator[str]:
    """Gradients reach the input and every parameter, and freezing stops them."""
    backbone = copy.deepcopy(case.backbone)
    inputs = case.inputs().requires_grad_()
    backbone(inputs).square().sum().backward()
    if inputs.grad is None or not (inputs.grad.abs().sum(dim=(1, 2, 3)) > 0).all():
        yield "No gradient reaches the input."
    found = {name: parameter.grad for name, parameter in backbone.named_parameters()}
    without = [name for name, gradient in found.items() if gradient is None]
    if without:
        yield f"No gradient reaches {', '.join(without)}: these parameters are never trained."
    infinite = [name for name, gradient in found.items() if gradient is not None and not gradient.isfinite().all()]
    if infinite:
        yield f"The gradients of {', '.join(infinite)} are not finite."
    stages = backbone.stages()
    if len(stages) < 2:
        return
    frozen = copy.deepcopy(case.backbone).requires_grad_(False)
    last = frozen.stages()[-1].requires_grad_(True)
    frozen(case.inputs(1)).sum().backward()
    trainable = {id(parameter) for parameter in last.parameters()}
    if any((p.grad is not None) != (id(p) in trainable) for p in frozen.parameters()):
        yield "With all stages but the last frozen, the parameters with a gradient are not those of the last stage."


def stages(case: BackboneCase) -> Iterator[str]:
    """The stages contain every parameter exactly once, consist of modules of the backbone, and are in order."""
    listed = case.backbone.stages()
    names = {id(parameter): name for name, parameter in case.backbone.named_parameters()}
    listed_ids = [id(parameter) for stage in listed for parameter in stage.parameters()]
    missing = [name for key, name in names.items() if key not in listed_ids]
    if missing:
        yield f"No stage contains {', '.join(missing)}: fine-tuning would never unfreeze them."
    repeated = sorted(
        {names.get(key, "a parameter of another module") for key in listed_ids if listed_ids.count(key) > 1}
    )
    if repeated:
        yield f"More than one stage contains {', '.join(repeated)}."
    modules = {id(module) for module in case.backbone.modules()}
    foreign = {type(leaf).__name__ for stage in listed for leaf in _leaves(stage) if id(leaf) not in modules}
    if foreign:
        yield f"stages() returns modules that are not part of the backbone: {', '.join(sorted(foreign))}."
    order = _execution_order(case)
    if order != sorted(order):
        runs = ", ".join(str(stage) for stage, _ in itertools.groupby(order))
        yield f"The stages are executed in the order {runs}: stages() must be ordered from input to output."
    unused = sorted(set(range(len(listed))) - set(order))
    if unused:
        yield f"These stages are never executed: {', '.join(map(str, unused))} (counted from 0)."


def device(case: BackboneCase) -> Iterator[str]:
    """The backbone can be moved to another device with all of its tensors."""
    yield from common.check_device(case.backbone, case.inputs(), expected=case.outputs())


def export(case: BackboneCase) -> Iterator[str]:
    """The graph from torch.export computes the same values."""
    yield from common.check_export(case.backbone, case.inputs(), expected=case.outputs())


def saving(case: BackboneCase) -> Iterator[str]:
    """A classifier with the backbone predicts the same after saving and loading."""
    yield from common.check_saving(
        ModelConfig("checked", ("a", "b"), case.audio, case.feature, case.component, dropout=0.0)
    )


CHECKS: tuple[Check[BackboneCase], ...] = (
    options,
    shapes,
    batching,
    determinism,
    gradients,
    stages,
    device,
    export,
    saving,
)
"""The checks of the contract of a backbone, in the order of the report."""


def _build(component: Component, *, in_channels: int) -> Backbone:
    random_weights = {"weights": None} if BACKBONES.accepts(component.name, "weights") else {}
    return BACKBONES.build(component.name, {**component.options, "in_channels": in_channels, **random_weights})


def _wrong_kind(built: object) -> str | None:
    if not isinstance(built, Backbone):
        return f"The factory returns an object of type {type(built).__name__}, not a Backbone."
    if not isinstance(getattr(built, "expects", None), InputSpec):
        return "The attribute expects is missing: set self.expects = InputSpec(...) in the constructor."
    if not isinstance(getattr(built, "out_features", None), int):
        return "The attribute out_features is missing: set self.out_features to an integer in the constructor."
    return None


def _leaves(module: nn.Module) -> list[nn.Module]:
    return [part for part in module.modules() if not list(part.children())]


def _execution_order(case: BackboneCase) -> list[int]:
    """Return the number of the stage of each executed layer, in the order of execution."""
    order: list[int] = []
    hooks = [
        leaf.register_forward_hook(lambda *_, stage=number: order.append(stage))
        for number, stage in enumerate(case.backbone.stages())
        for leaf in _leaves(stage)
    ]
    try:
        case.outputs()
    finally:
        for hook in hooks:
            hook.remove()
    return order


def _measurements(case: BackboneCase) -> dict[str, float]:
    return {
        "out_features": case.backbone.out_features,
        "stages": len(case.backbone.stages()),
        "parameters": sum(parameter.numel() for parameter in case.backbone.parameters()),
        "ms per window": common.milliseconds(case.backbone, case.inputs(1)),
    }
