"""The contract of a backbone."""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from musgenre.backbones.base import BACKBONES, Backbone, InputSpec
from musgenre.core.config import AudioSpec, Component, ModelConfig
from musgenre.core.errors import ContractError, MusgenreError
from musgenre.features.base import FEATURES
from musgenre.testing import common
from musgenre.testing.reports import Check, ContractReport, run


@dataclass(frozen=True)
class BackboneCase:
    """A backbone that is checked.

    Attributes:
        component: Its name and options.
        backbone: What is registered under it, built, in evaluation mode.
        feature: The feature that it is used with.
        audio: The rate and the windows that the feature is given.
    """

    component: Component
    backbone: Backbone
    feature: Component
    audio: AudioSpec

    def pictures(self, batch: int = 2) -> Tensor:
        """Returns ``(batch, channels, bins, frames)`` of noise, the same at each call, as the backbone expects it."""
        expects = self.backbone.expects
        size = expects.size or (max(expects.min_size[0], 48), max(expects.min_size[1], 56))
        return torch.randn(batch, expects.channels, *size, generator=torch.Generator().manual_seed(0))

    def vectors(self) -> Tensor:
        """Returns what the backbone makes of two pictures."""
        with torch.no_grad():
            vectors: Tensor = self.backbone(self.pictures())
        return vectors


def check_backbone(
    backbone: str | Component,
    *,
    feature: str | Component | None = None,
    sample_rate: int = 22_050,
    window_seconds: float = 3.0,
    skip: Collection[str] = (),
) -> ContractReport:
    """Holds a registered backbone to the whole contract, with random weights, so that nothing is downloaded.

    Args:
        backbone: Its name in the registry, or a component with options.
        feature: The feature that it is used with; by default the one that it names itself.
        sample_rate: The rate of the audio, in hertz.
        window_seconds: The length of a window.
        skip: Names of checks that are left out, as the report names them.

    Returns:
        The report; ``print`` shows what was checked, and figures of size and speed.

    Raises:
        ContractError: The backbone breaks the contract; the message tells all that is wrong.
        UnknownNameError, PluginError, ConfigError: Backbone or feature cannot be had by that name, or has no such
            option.
        ParameterError: ``skip`` names a check that there is not.

    Example:
        >>> report = check_backbone(Component("vgg16-slim", {"width": 0.03}), window_seconds=1.0, skip=["export"])
        >>> print(str(report).splitlines()[0])
        The backbone 'vgg16-slim' keeps the contract: 8 checks.
    """
    component = Component.of(backbone)
    default = BACKBONES.entry(component.name).default_feature
    used = Component.of(feature or default)
    audio = AudioSpec(sample_rate, window_seconds=window_seconds, hop_seconds=window_seconds)
    with common.seeded():
        extractor = FEATURES.build(used.name, {**used.options, "sample_rate": sample_rate})
        channels = extractor.out_shape(audio.window_samples)[0]
        built = _build(component, channels)
        if wrong := _no_backbone(built):
            report = ContractReport("backbone", component.name, {"kind": (wrong,)})
            raise ContractError(str(report), report)
        case = BackboneCase(component, built.eval(), used, audio)
        return run(CHECKS, case, report=ContractReport("backbone", component.name), skip=skip, sheet=_sheet)


def options(case: BackboneCase) -> Iterator[str]:
    """Every option but in_channels has a default."""
    yield from common.without_default(BACKBONES.get(case.component.name), "in_channels")


def shapes(case: BackboneCase) -> Iterator[str]:
    """It takes what its feature gives, down to the smallest picture that it declares, and gives out_features values."""
    vectors, expects = case.vectors(), case.backbone.expects
    if vectors.shape != (2, case.backbone.out_features):
        yield f"out_features is {case.backbone.out_features}, and two pictures give {tuple(vectors.shape)}."
    if not vectors.isfinite().all():
        yield "It gives values that are not finite."
    if torch.equal(vectors[0], vectors[1]):
        yield "Two different pictures give the same vector."
    if expects.size is None:
        smallest = torch.randn(2, expects.channels, *expects.min_size)
        with torch.no_grad():
            found = tuple(case.backbone(smallest).shape)
        if found != (2, case.backbone.out_features):
            yield f"min_size is {expects.min_size}, and two pictures of that size give {found}."
    feature = FEATURES.build(case.feature.name, {**case.feature.options, "sample_rate": case.audio.sample_rate})
    try:
        given = feature.out_shape(case.audio.window_samples)
        expects.check(given, feature=case.feature.name, backbone=case.component.name)
    except MusgenreError as error:
        yield str(error)


def batching(case: BackboneCase) -> Iterator[str]:
    """A batch gives what its pictures give one by one."""
    with torch.no_grad():
        alone = torch.cat([case.backbone(picture[None]) for picture in case.pictures()])
    told = common.difference(case.vectors(), alone, rtol=1e-3, atol=1e-4)
    if told:
        yield f"A batch of two gives {told} from its pictures one by one."


def determinism(case: BackboneCase) -> Iterator[str]:
    """In evaluation mode the same picture gives the same vector, and stays as it was."""
    pictures = case.pictures()
    with torch.no_grad():
        first = case.backbone(pictures)
    if not torch.equal(pictures, case.pictures()):
        yield "It changes the picture that it is given: work on a copy (inplace=False at its first layer)."
    with torch.inference_mode():
        if not torch.equal(first, case.backbone(case.pictures())):
            yield "The same picture twice gives different vectors: what is random must be off in evaluation mode."


def gradients(case: BackboneCase) -> Iterator[str]:
    """Gradients reach the picture and every parameter, and freezing stops them."""
    backbone = copy.deepcopy(case.backbone)
    pictures = case.pictures().requires_grad_()
    backbone(pictures).square().sum().backward()
    if pictures.grad is None or not (pictures.grad.abs().sum(dim=(1, 2, 3)) > 0).all():
        yield "No gradient reaches the picture."
    without = [name for name, parameter in backbone.named_parameters() if parameter.grad is None]
    if without:
        yield f"No gradient reaches {', '.join(without)}: these parameters never learn."
    wild = [n for n, parameter in backbone.named_parameters() if parameter.grad is not None and _wild(parameter.grad)]
    if wild:
        yield f"The gradients of {', '.join(wild)} are not finite."
    stages = backbone.stages()
    if len(stages) < 2:
        return
    frozen = copy.deepcopy(case.backbone).requires_grad_(False)
    last = frozen.stages()[-1].requires_grad_(True)
    frozen(case.pictures(1)).sum().backward()
    learning = {id(parameter) for parameter in last.parameters()}
    if any((p.grad is not None) != (id(p) in learning) for p in frozen.parameters()):
        yield "With all stages but the last frozen, other parameters than those of the last have a gradient."


def stages(case: BackboneCase) -> Iterator[str]:
    """The stages hold every parameter once, in modules of its own, in the order in which they compute."""
    listed = case.backbone.stages()
    names = {id(parameter): name for name, parameter in case.backbone.named_parameters()}
    held = [id(parameter) for stage in listed for parameter in stage.parameters()]
    missing = [name for key, name in names.items() if key not in held]
    if missing:
        yield f"No stage holds {', '.join(missing)}: fine-tuning would never unfreeze them."
    twice = sorted({names.get(key, "a parameter of another module") for key in held if held.count(key) > 1})
    if twice:
        yield f"More than one stage holds {', '.join(twice)}."
    own = {id(module) for module in case.backbone.modules()}
    strangers = [type(leaf).__name__ for stage in listed for leaf in _leaves(stage) if id(leaf) not in own]
    if strangers:
        yield f"stages() gives modules that are no part of the backbone: {', '.join(sorted(set(strangers)))}."
    ran = _order(case)
    if ran != sorted(ran):
        yield f"They compute in the order {_shortened(ran)}: stages() must go from input to output."
    idle = sorted(set(range(len(listed))) - set(ran))
    if idle:
        yield f"These stages compute nothing: {', '.join(map(str, idle))} (counted from 0)."


def device(case: BackboneCase) -> Iterator[str]:
    """It moves to another device with all that it needs."""
    yield from common.elsewhere(case.backbone, case.pictures(), expected=case.vectors())


def export(case: BackboneCase) -> Iterator[str]:
    """torch.export makes a graph of it that gives the same values."""
    yield from common.exported(case.backbone, case.pictures(), expected=case.vectors())


def saving(case: BackboneCase) -> Iterator[str]:
    """A classifier with it, saved and loaded, gives the same predictions."""
    yield from common.reloaded(
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
"""What a backbone is held to, in the order of the report."""


def _build(component: Component, in_channels: int) -> Backbone:
    options = {**component.options, "in_channels": in_channels}
    return BACKBONES.build(
        component.name, {**options, "weights": None} if BACKBONES.accepts(component.name, "weights") else options
    )


def _no_backbone(built: object) -> str | None:
    if not isinstance(built, Backbone):
        return f"Its factory gives a {type(built).__name__} and no Backbone."
    if not isinstance(getattr(built, "expects", None), InputSpec):
        return "It does not say what it expects: set self.expects = InputSpec(...) in its constructor."
    if not isinstance(getattr(built, "out_features", None), int):
        return "It does not say how long its vector is: set self.out_features in its constructor."
    return None


def _leaves(module: nn.Module) -> list[nn.Module]:
    return [part for part in module.modules() if not list(part.children())]


def _order(case: BackboneCase) -> list[int]:
    """Returns the number of the stage of each layer that runs, as they run."""
    ran: list[int] = []
    hooks = [
        leaf.register_forward_hook(lambda *_, stage=number: ran.append(stage))
        for number, stage in enumerate(case.backbone.stages())
        for leaf in _leaves(stage)
    ]
    try:
        case.vectors()
    finally:
        for hook in hooks:
            hook.remove()
    return ran


def _shortened(ran: list[int]) -> str:
    changes = [str(stage) for place, stage in enumerate(ran) if place == 0 or ran[place - 1] != stage]
    return ", ".join(changes)


def _wild(tensor: Tensor) -> bool:
    return not bool(tensor.isfinite().all())


def _sheet(case: BackboneCase) -> dict[str, float]:
    return {
        "out_features": case.backbone.out_features,
        "stages": len(case.backbone.stages()),
        "parameters": sum(parameter.numel() for parameter in case.backbone.parameters()),
        "ms for a window": common.milliseconds(case.backbone, case.pictures(1)),
    }
