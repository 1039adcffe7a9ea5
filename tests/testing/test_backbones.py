"""Each contract check of a backbone fails for a backbone that violates it, and for no other reason."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from musgenre.backbones.base import BACKBONES, Backbone, InputSpec
from musgenre.core.errors import ContractError, UnknownNameError
from musgenre.testing.backbones import CHECKS, check_backbone


class TwoStages(Backbone):
    """Two convolutions; fulfils the contract."""

    def __init__(self, *, in_channels: int, width: int = 4) -> None:
        super().__init__()
        self.out_features = width
        self.expects = InputSpec(channels=in_channels, min_size=(4, 8))
        self.first = nn.Conv2d(in_channels, width, 3, stride=2)
        self.second = nn.Conv2d(width, width, 1)

    def stages(self):
        return [self.first, self.second]

    def forward(self, feature):
        return self.second(self.first(feature).relu()).mean(dim=(-2, -1))


class NoDefault(TwoStages):
    def __init__(self, *, in_channels: int, widths: int = 4, floor: object = torch.float32) -> None:
        super().__init__(in_channels=in_channels)


class WrongLength(TwoStages):
    def __init__(self, *, in_channels: int) -> None:
        super().__init__(in_channels=in_channels)
        self.out_features = 5


class MinSizeTooSmall(TwoStages):
    def __init__(self, *, in_channels: int) -> None:
        super().__init__(in_channels=in_channels)
        self.expects = InputSpec(channels=in_channels, min_size=(1, 1))


class MismatchedFeature(TwoStages):
    def __init__(self, *, in_channels: int) -> None:
        super().__init__(in_channels=in_channels)
        self.expects = InputSpec(channels=in_channels, min_size=(500, 8))


class DependsOnBatch(TwoStages):
    def forward(self, feature):
        return super().forward(feature - feature.mean())


class ModifiesInput(TwoStages):
    def forward(self, feature):
        if not feature.requires_grad:
            feature.relu_()
        return super().forward(feature)


class Random(TwoStages):
    def forward(self, feature):
        return super().forward(feature) + torch.rand(1, device=feature.device)


class UnusedParameter(TwoStages):
    def __init__(self, *, in_channels: int) -> None:
        super().__init__(in_channels=in_channels)
        self.first.register_parameter("spare", nn.Parameter(torch.zeros(3)))


class NoGradient(TwoStages):
    def forward(self, feature):
        return self.second(self.first(feature).relu().detach()).mean(dim=(-2, -1))


class MissingStage(TwoStages):
    def stages(self):
        return [self.first]


class RepeatedStage(TwoStages):
    def stages(self):
        return [self.first, nn.Sequential(self.first, self.second)]


class ReversedStages(TwoStages):
    def stages(self):
        return [self.second, self.first]


class ForeignModule(TwoStages):
    def stages(self):
        return [self.first, self.second, nn.Conv2d(4, 4, 1)]


class TensorNotMoved(TwoStages):
    def __init__(self, *, in_channels: int) -> None:
        super().__init__(in_channels=in_channels)
        self.scale = torch.linspace(0.5, 1.0, 4)

    def forward(self, feature):
        return super().forward(feature) * self.scale


class NotExportable(TwoStages):
    def forward(self, feature):
        peak = float(feature.abs().max().detach()) if feature.device.type != "meta" else 1.0
        return super().forward(feature) * (2.0 if peak > 100 else 1.0)


class RandomBuffer(TwoStages):
    def __init__(self, *, in_channels: int) -> None:
        super().__init__(in_channels=in_channels)
        self.register_buffer("noise", torch.rand(4), persistent=False)

    def forward(self, feature):
        return super().forward(feature) * self.noise


VIOLATIONS = {
    NoDefault: ("options", r"default value torch\.float32 of the option 'floor' cannot be serialised to JSON"),
    WrongLength: ("shapes", r"out_features is 5, but the output for two inputs is \(2, 4\)"),
    MinSizeTooSmall: ("shapes", "But the check raised RuntimeError"),
    MismatchedFeature: ("shapes", "expects 1 channel.* of at least 500 × 8"),
    DependsOnBatch: ("batching", "differ by up to"),
    ModifiesInput: ("determinism", "modifies its input"),
    Random: ("determinism", "disable random operations"),
    UnusedParameter: ("gradients", r"No gradient reaches first\.spare: these parameters are never trained"),
    NoGradient: ("gradients", "No gradient reaches the input"),
    MissingStage: ("stages", r"No stage contains second\.weight, second\.bias"),
    RepeatedStage: ("stages", r"More than one stage contains first\.bias, first\.weight"),
    ReversedStages: ("stages", "in the order 1, 0: stages.* must be ordered from input to output"),
    ForeignModule: ("stages", "modules that are not part of the backbone: Conv2d"),
    TensorNotMoved: ("device", "moved to another device with all of its tensors. But the check raised"),
    NotExportable: ("export", "torch.export computes the same values. But the check raised"),
    RandomBuffer: ("saving", "saved and loaded computes other values"),
}
# Further checks that each violation makes fail.
SIDE_EFFECTS = {
    WrongLength: ("saving",),
    MismatchedFeature: ("saving",),
    Random: ("batching", "saving"),
    ModifiesInput: ("batching",),
    NoGradient: ("stages",),
    RepeatedStage: ("gradients",),
    ForeignModule: ("gradients",),
}


def _check(factory: type[Backbone], **options):
    with BACKBONES.temporary("tested", factory):
        return check_backbone("tested", window_seconds=1.0, **options)


def test_a_valid_backbone_passes_all_checks():
    report = _check(TwoStages)
    assert report.passed == tuple(check.__name__ for check in CHECKS)
    assert report.measurements["parameters"] == 4 * 9 + 4 + 4 * 4 + 4
    assert report.measurements["stages"] == 2


@pytest.mark.parametrize("factory", VIOLATIONS, ids=lambda factory: factory.__name__)
def test_a_violation_fails_its_check(factory):
    check, message = VIOLATIONS[factory]
    # Exporting takes longer than all other checks together.
    skip = [] if check == "export" else ["export"]
    with pytest.raises(ContractError, match=message) as caught:
        _check(factory, skip=skip)
    assert check in caught.value.report.failed
    assert set(caught.value.report.failed) <= {check, *SIDE_EFFECTS.get(factory, ())}


def test_every_check_can_fail():
    assert {check for check, _ in VIOLATIONS.values()} == {check.__name__ for check in CHECKS}


@pytest.mark.parametrize("attribute", ["expects", "out_features"])
def test_missing_attribute(attribute):
    class Incomplete(TwoStages):
        def __init__(self, *, in_channels: int) -> None:
            super().__init__(in_channels=in_channels)
            delattr(self, attribute)

    with pytest.raises(ContractError, match=f"The attribute {attribute} is missing"):
        _check(Incomplete)


def test_factory_of_another_type():
    with (
        BACKBONES.temporary("tested", lambda *, in_channels: nn.Conv2d(in_channels, 4, 1)),
        pytest.raises(ContractError, match="returns an object of type Conv2d, not a Backbone"),
    ):
        check_backbone("tested")


def test_unknown_name():
    with pytest.raises(UnknownNameError, match="vgg16"):
        check_backbone("vgg61")
