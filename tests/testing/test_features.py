"""Each check of a feature sees what it is there for: a feature that breaks it, and nothing else, is told so."""

from __future__ import annotations

import pytest
import torch

from musgenre.core.config import Component
from musgenre.core.errors import (
    ConfigError,
    ContractError,
    MusgenreError,
    ParameterError,
    PluginError,
    UnknownNameError,
)
from musgenre.features.base import FEATURES, FeatureExtractor
from musgenre.testing.features import CHECKS, check_feature

HOP = 256


class Energy(FeatureExtractor):
    """The energy of the even and of the odd samples of each short piece, weighted: it keeps the contract."""

    def __init__(self, *, sample_rate: int, power: float = 2.0) -> None:
        super().__init__(sample_rate=sample_rate)
        self.power = power
        self.register_buffer("weights", torch.linspace(0.5, 1.5, HOP), persistent=False)

    def out_shape(self, samples):
        return 1, 2, samples // HOP

    def forward(self, waveform):
        pieces = waveform.unfold(-1, HOP, HOP)
        steps = torch.nn.functional.pad(pieces.diff(dim=-1), (0, 1))
        both = [(part.square() * self.weights).mean(dim=-1) for part in (pieces, steps)]
        return torch.stack(both, dim=1)[:, None]


class NoDefault(Energy):
    def __init__(self, *, sample_rate: int, bands: int, floor: object = torch.float32) -> None:
        super().__init__(sample_rate=sample_rate)


class AnyRate(Energy):
    def __init__(self, *, sample_rate: int) -> None:
        super().__init__(sample_rate=8_000)
        self.sample_rate = 8_000


class WrongShape(Energy):
    def out_shape(self, samples):
        return 1, 2, samples // HOP + 1


class FloatShape(Energy):
    def out_shape(self, samples):
        return 1, 2, float(samples // HOP)


class Refuses(Energy):
    def out_shape(self, samples):
        if samples < 9_000:
            raise ParameterError("too short")
        return super().out_shape(samples)


class MeanOfTheBatch(Energy):
    def forward(self, waveform):
        return super().forward(waveform) - waveform.square().mean()


class Random(Energy):
    def forward(self, waveform):
        return super().forward(waveform) + torch.rand_like(waveform[:1, :1])


class Overwrites(Energy):
    def forward(self, waveform):
        with torch.no_grad():
            waveform /= 2
        return super().forward(waveform)


class Deaf(Energy):
    def forward(self, waveform):
        return super().forward(waveform) * 1e-9


class LogOfZero(Energy):
    def forward(self, waveform):
        return super().forward(waveform).log()


class Detached(Energy):
    def forward(self, waveform):
        half = waveform.shape[-1] // 2
        return super().forward(torch.cat((waveform[:, :half].detach(), waveform[:, half:]), dim=-1))


class Unused(Energy):
    def __init__(self, *, sample_rate: int) -> None:
        super().__init__(sample_rate=sample_rate)
        self.gain = torch.nn.Parameter(torch.ones(1))


class KeepsConstants(Energy):
    def __init__(self, *, sample_rate: int) -> None:
        super().__init__(sample_rate=sample_rate)
        self.register_buffer("window", torch.hann_window(8))


class SinglePrecision(Energy):
    def forward(self, waveform):
        return super().forward(waveform).float()


class StaysBehind(Energy):
    def __init__(self, *, sample_rate: int) -> None:
        super().__init__(sample_rate=sample_rate)
        self.scale = torch.linspace(0.5, 1.0, 2)[:, None]

    def forward(self, waveform):
        return super().forward(waveform) * self.scale.to(waveform.dtype)


class NoGraph(Energy):
    def forward(self, waveform):
        loud = float(waveform.abs().max().detach()) if waveform.device.type != "meta" else 1.0
        return super().forward(waveform) * (2.0 if loud > 100 else 1.0)


class DrawnAnew(Energy):
    def __init__(self, *, sample_rate: int) -> None:
        super().__init__(sample_rate=sample_rate)
        self.register_buffer("drawn", torch.rand(2, 1), persistent=False)

    def forward(self, waveform):
        return super().forward(waveform) * self.drawn


BROKEN = {
    NoDefault: ("options", "The option 'bands' has no default"),
    AnyRate: ("options", "sample_rate=None is taken"),
    WrongShape: ("shapes", r"out_shape says \(1, 2, 87\) and forward gives \(2, 1, 2, 86\)"),
    FloatShape: ("shapes", "expected three whole numbers"),
    MeanOfTheBatch: ("batching", "differ by up to"),
    Random: ("determinism", "different values: what is random must be off"),
    Overwrites: ("determinism", "changes the waveform"),
    Deaf: ("hearing", "200 and of 3000 Hz give the same values"),
    LogOfZero: ("hearing", "For silence it gives values that are not finite"),
    Detached: ("gradients", r"parts of the waveform: 1/9, 2/9, 3/9, 4/9\."),
    Unused: ("gradients", "No gradient reaches the parameters gain"),
    KeepsConstants: ("constants", "a saved model holds window: use persistent=False"),
    SinglePrecision: ("precision", r"gives torch\.float32"),
    StaysBehind: ("device", "It moves to another device with all that it needs. It raises"),
    NoGraph: ("export", "torch.export makes a graph of it that gives the same values. It raises"),
    DrawnAnew: ("saving", "saved and loaded gives other values"),
}


def _check(kind: type[FeatureExtractor], **options):
    needed = {"bands": 3} if kind is NoDefault else {}
    with FEATURES.temporary("tested", kind):
        return check_feature(Component("tested", needed), window_seconds=1.0, **options)


def test_one_that_keeps_it():
    report = _check(Energy)
    assert report.passed == tuple(check.__name__ for check in CHECKS)
    assert report.sheet["bins"] == 2
    assert report.sheet["frames"] == 86
    assert "The feature 'tested' keeps the contract: 11 checks." in str(report)
    assert "ms for a window" in str(report)


def test_windows_that_it_refuses_itself_are_no_fault():
    assert not _check(Refuses).broken


@pytest.mark.parametrize("kind", BROKEN, ids=lambda kind: kind.__name__)
def test_one_that_breaks_it(kind):
    check, words = BROKEN[kind]
    # To write a graph takes longer than all the rest.
    skip = [] if check == "export" else ["export"]
    with pytest.raises(ContractError, match=words) as caught:
        _check(kind, skip=skip)
    assert check in caught.value.report.broken
    assert f"  {check}: " in str(caught.value)
    allowed = {check, *ALSO.get(kind, ())}
    assert set(caught.value.report.broken) <= allowed


# What cannot be broken alone.
ALSO = {
    Random: ("batching", "precision", "saving"),
    Overwrites: ("batching", "precision", "gradients", "saving"),
    StaysBehind: ("precision",),
    LogOfZero: ("gradients",),
}


def test_every_check_can_fail():
    assert {check for check, _ in BROKEN.values()} == {check.__name__ for check in CHECKS}


def test_all_that_is_wrong_is_told_at_once():
    class Both(LogOfZero):
        def out_shape(self, samples):
            return 1, 3, samples // HOP

    with pytest.raises(ContractError, match=r"breaks 2 of 11 checks") as caught:
        _check(Both)
    assert set(caught.value.report.broken) == {"shapes", "hearing"}
    assert isinstance(caught.value, (AssertionError, PluginError))


def _identity(*, sample_rate):
    return torch.nn.Identity()


def test_what_is_no_feature():
    with (
        FEATURES.temporary("tested", _identity),
        pytest.raises(ContractError, match="gives a Identity and no FeatureExtractor"),
    ):
        check_feature("tested")


def test_skipping():
    report = _check(Random, skip=["determinism", "batching", "precision", "export", "saving"])
    assert report.skipped == ("determinism", "batching", "precision", "export", "saving")
    with pytest.raises(ParameterError, match=r"no check 'exprot' to skip\. Did you mean 'export"):
        _check(Energy, skip=["exprot"])


def test_what_cannot_be_had():
    with pytest.raises(UnknownNameError, match="logmel"):
        check_feature("logmell")
    with pytest.raises(ConfigError, match="unexpected option 'mels'"):
        check_feature(Component("logmel", {"mels": 3}))


def test_the_generator_stays_as_it_was():
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    _check(Energy, skip=["export"])
    assert torch.equal(torch.rand(3), expected)
    assert issubclass(ContractError, MusgenreError)
