"""Each check of a backbone sees what it is there for: one that breaks it, and nothing else, is told so."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from musgenre.backbones.base import BACKBONES, Backbone, InputSpec
from musgenre.core.errors import ContractError, UnknownNameError
from musgenre.testing.backbones import CHECKS, check_backbone


class Two(Backbone):
    """Two convolutions: it keeps the contract."""

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


class NoDefault(Two):
    def __init__(self, *, in_channels: int, widths: int = 4, floor: object = torch.float32) -> None:
        super().__init__(in_channels=in_channels)


class WrongLength(Two):
    def __init__(self, *, in_channels: int) -> None:
        super().__init__(in_channels=in_channels)
        self.out_features = 5


class SmallerThanItCan(Two):
    def __init__(self, *, in_channels: int) -> None:
        super().__init__(in_channels=in_channels)
        self.expects = InputSpec(channels=in_channels, min_size=(1, 1))


class NotItsFeature(Two):
    def __init__(self, *, in_channels: int) -> None:
        super().__init__(in_channels=in_channels)
        self.expects = InputSpec(channels=in_channels, min_size=(500, 8))


class MeanOfTheBatch(Two):
    def forward(self, feature):
        return super().forward(feature - feature.mean())


class Overwrites(Two):
    def forward(self, feature):
        if not feature.requires_grad:
            feature.relu_()
        return super().forward(feature)


class Random(Two):
    def forward(self, feature):
        return super().forward(feature) + torch.rand(1, device=feature.device)


class NeverLearns(Two):
    def __init__(self, *, in_channels: int) -> None:
        super().__init__(in_channels=in_channels)
        self.first.register_parameter("spare", nn.Parameter(torch.zeros(3)))


class Cut(Two):
    def forward(self, feature):
        return self.second(self.first(feature).relu().detach()).mean(dim=(-2, -1))


class ForgetsAStage(Two):
    def stages(self):
        return [self.first]


class Twice(Two):
    def stages(self):
        return [self.first, nn.Sequential(self.first, self.second)]


class Backwards(Two):
    def stages(self):
        return [self.second, self.first]


class Stranger(Two):
    def stages(self):
        return [self.first, self.second, nn.Conv2d(4, 4, 1)]


class StaysBehind(Two):
    def __init__(self, *, in_channels: int) -> None:
        super().__init__(in_channels=in_channels)
        self.scale = torch.linspace(0.5, 1.0, 4)

    def forward(self, feature):
        return super().forward(feature) * self.scale


class NoGraph(Two):
    def forward(self, feature):
        loud = float(feature.abs().max().detach()) if feature.device.type != "meta" else 1.0
        return super().forward(feature) * (2.0 if loud > 100 else 1.0)


class DrawnAnew(Two):
    def __init__(self, *, in_channels: int) -> None:
        super().__init__(in_channels=in_channels)
        self.register_buffer("drawn", torch.rand(4), persistent=False)

    def forward(self, feature):
        return super().forward(feature) * self.drawn


BROKEN = {
    NoDefault: ("options", r"default of the option 'floor' is torch\.float32, which JSON cannot hold"),
    WrongLength: ("shapes", r"out_features is 5, and two pictures give \(2, 4\)"),
    SmallerThanItCan: ("shapes", "It raises RuntimeError"),
    NotItsFeature: ("shapes", "expects 1 channel.* of at least 500 × 8"),
    MeanOfTheBatch: ("batching", "differ by up to"),
    Overwrites: ("determinism", "changes the picture"),
    Random: ("determinism", "what is random must be off"),
    NeverLearns: ("gradients", r"No gradient reaches first\.spare: these parameters never learn"),
    Cut: ("gradients", "No gradient reaches the picture"),
    ForgetsAStage: ("stages", r"No stage holds second\.weight, second\.bias"),
    Twice: ("stages", r"More than one stage holds first\.bias, first\.weight"),
    Backwards: ("stages", "in the order 1, 0: stages.* must go from input to output"),
    Stranger: ("stages", "modules that are no part of the backbone: Conv2d"),
    StaysBehind: ("device", "It moves to another device with all that it needs. It raises"),
    NoGraph: ("export", "torch.export makes a graph of it that gives the same values. It raises"),
    DrawnAnew: ("saving", "saved and loaded gives other values"),
}
# What cannot be broken alone.
ALSO = {
    WrongLength: ("saving",),
    NotItsFeature: ("saving",),
    Random: ("batching", "saving"),
    Overwrites: ("batching",),
    Cut: ("stages",),
    Twice: ("gradients",),
    Stranger: ("gradients",),
}


def _check(kind: type[Backbone], **options):
    with BACKBONES.temporary("tested", kind):
        return check_backbone("tested", window_seconds=1.0, **options)


def test_one_that_keeps_it():
    report = _check(Two)
    assert report.passed == tuple(check.__name__ for check in CHECKS)
    assert report.sheet["parameters"] == 4 * 9 + 4 + 4 * 4 + 4
    assert report.sheet["stages"] == 2


@pytest.mark.parametrize("kind", BROKEN, ids=lambda kind: kind.__name__)
def test_one_that_breaks_it(kind):
    check, words = BROKEN[kind]
    # To write a graph takes longer than all the rest.
    skip = [] if check == "export" else ["export"]
    with pytest.raises(ContractError, match=words) as caught:
        _check(kind, skip=skip)
    assert check in caught.value.report.broken
    assert set(caught.value.report.broken) <= {check, *ALSO.get(kind, ())}


def test_every_check_can_fail():
    assert {check for check, _ in BROKEN.values()} == {check.__name__ for check in CHECKS}


@pytest.mark.parametrize(
    ("missing", "words"),
    [("expects", "It does not say what it expects"), ("out_features", "does not say how long its vector is")],
)
def test_what_its_constructor_forgets(missing, words):
    class Forgets(Two):
        def __init__(self, *, in_channels: int) -> None:
            super().__init__(in_channels=in_channels)
            delattr(self, missing)

    with pytest.raises(ContractError, match=words):
        _check(Forgets)


def test_what_is_no_backbone():
    with (
        BACKBONES.temporary("tested", lambda *, in_channels: nn.Conv2d(in_channels, 4, 1)),
        pytest.raises(ContractError, match="gives a Conv2d and no Backbone"),
    ):
        check_backbone("tested")


def test_an_unknown_name():
    with pytest.raises(UnknownNameError, match="vgg16"):
        check_backbone("vgg61")
