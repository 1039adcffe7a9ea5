"""Each contract check of a feature fails for a feature that violates it, and for no other reason."""

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
    """Weighted energy of the samples and of their differences in each block; fulfils the contract."""

    def __init__(self, *, sample_rate: int, power: float = 2.0) -> None:
        super().__init__(sample_rate=sample_rate)
        self.power = power
        self.register_buffer("weights", torch.linspace(0.5, 1.5, HOP), persistent=False)

    def out_shape(self, samples):
        return 1, 2, samples // HOP

    def forward(self, waveform):
        blocks = waveform.unfold(-1, HOP, HOP)
        differences = torch.nn.functional.pad(blocks.diff(dim=-1), (0, 1))
        energies = [(part.square() * self.weights).mean(dim=-1) for part in (blocks, differences)]
        return torch.stack(energies, dim=1)[:, None]


class NoDefault(Energy):
    def __init__(self, *, sample_rate: int, bands: int, floor: object = torch.float32) -> None:
        super().__init__(sample_rate=sample_rate)


class IgnoresRate(Energy):
    def __init__(self, *, sample_rate: int) -> None:
        super().__init__(sample_rate=8_000)
        self.sample_rate = 8_000


class WrongShape(Energy):
    def out_shape(self, samples):
        return 1, 2, samples // HOP + 1


class FloatShape(Energy):
    def out_shape(self, samples):
        return 1, 2, float(samples // HOP)


class RejectsShortWindows(Energy):
    def out_shape(self, samples):
        if samples < 9_000:
            raise ParameterError("too short")
        return super().out_shape(samples)


class DependsOnBatch(Energy):
    def forward(self, waveform):
        return super().forward(waveform) - waveform.square().mean()


class Random(Energy):
    def forward(self, waveform):
        return super().forward(waveform) + torch.rand_like(waveform[:1, :1])


class ModifiesInput(Energy):
    def forward(self, waveform):
        with torch.no_grad():
            waveform /= 2
        return super().forward(waveform)


class Insensitive(Energy):
    def forward(self, waveform):
        return super().forward(waveform) * 1e-9


class LogOfZero(Energy):
    def forward(self, waveform):
        return super().forward(waveform).log()


class Detached(Energy):
    def forward(self, waveform):
        half = waveform.shape[-1] // 2
        return super().forward(torch.cat((waveform[:, :half].detach(), waveform[:, half:]), dim=-1))


class UnusedParameter(Energy):
    def __init__(self, *, sample_rate: int) -> None:
        super().__init__(sample_rate=sample_rate)
        self.gain = torch.nn.Parameter(torch.ones(1))


class PersistentConstant(Energy):
    def __init__(self, *, sample_rate: int) -> None:
        super().__init__(sample_rate=sample_rate)
        self.register_buffer("window", torch.hann_window(8))


class SinglePrecision(Energy):
    def forward(self, waveform):
        return super().forward(waveform).float()


class TensorNotMoved(Energy):
    def __init__(self, *, sample_rate: int) -> None:
        super().__init__(sample_rate=sample_rate)
        self.scale = torch.linspace(0.5, 1.0, 2)[:, None]

    def forward(self, waveform):
        return super().forward(waveform) * self.scale.to(waveform.dtype)


class NotExportable(Energy):
    def forward(self, waveform):
        peak = float(waveform.abs().max().detach()) if waveform.device.type != "meta" else 1.0
        return super().forward(waveform) * (2.0 if peak > 100 else 1.0)


class RandomBuffer(Energy):
    def __init__(self, *, sample_rate: int) -> None:
        super().__init__(sample_rate=sample_rate)
        self.register_buffer("noise", torch.rand(2, 1), persistent=False)

    def forward(self, waveform):
        return super().forward(waveform) * self.noise


VIOLATIONS = {
    NoDefault: ("options", "The option 'bands' has no default value, so the component cannot be built by name alone"),
    IgnoresRate: ("options", "The invalid sample_rate=None is accepted"),
    WrongShape: ("shapes", r"out_shape returns \(1, 2, 87\), but forward returns \(2, 1, 2, 86\)"),
    FloatShape: ("shapes", "expected three positive integers"),
    DependsOnBatch: ("batching", "differ by up to"),
    Random: ("determinism", "different values: disable random operations"),
    ModifiesInput: ("determinism", "modifies its input"),
    Insensitive: ("sensitivity", "200 Hz and 3000 Hz give the same values"),
    LogOfZero: ("sensitivity", "The values for silence are not finite"),
    Detached: ("gradients", r"parts of the waveform: 1/9, 2/9, 3/9, 4/9\."),
    UnusedParameter: ("gradients", "No gradient reaches the parameters gain"),
    PersistentConstant: ("constants", "a saved model contains window: use persistent=False"),
    SinglePrecision: ("precision", r"the output is in torch\.float32"),
    TensorNotMoved: ("device", "moved to another device with all of its tensors. But the check raised"),
    NotExportable: ("export", "torch.export computes the same values. But the check raised"),
    RandomBuffer: ("saving", "saved and loaded computes other values"),
}
# Further checks that each violation makes fail.
SIDE_EFFECTS = {
    Random: ("batching", "precision", "saving"),
    ModifiesInput: ("batching", "precision", "gradients", "saving"),
    TensorNotMoved: ("precision",),
    LogOfZero: ("gradients",),
}


def _check(factory: type[FeatureExtractor], **options):
    required = {"bands": 3} if factory is NoDefault else {}
    with FEATURES.temporary("tested", factory):
        return check_feature(Component("tested", required), window_seconds=1.0, **options)


def test_a_valid_feature_passes_all_checks():
    report = _check(Energy)
    assert report.passed == tuple(check.__name__ for check in CHECKS)
    assert report.measurements["bins"] == 2
    assert report.measurements["frames"] == 86
    assert "The feature 'tested' passes 11 checks." in str(report)
    assert "ms per window" in str(report)


def test_windows_that_out_shape_rejects_are_not_checked():
    assert not _check(RejectsShortWindows).failed


@pytest.mark.parametrize("factory", VIOLATIONS, ids=lambda factory: factory.__name__)
def test_a_violation_fails_its_check(factory):
    check, message = VIOLATIONS[factory]
    # Exporting takes longer than all other checks together.
    skip = [] if check == "export" else ["export"]
    with pytest.raises(ContractError, match=message) as caught:
        _check(factory, skip=skip)
    assert check in caught.value.report.failed
    assert f"  {check}: " in str(caught.value)
    assert set(caught.value.report.failed) <= {check, *SIDE_EFFECTS.get(factory, ())}


def test_every_check_can_fail():
    assert {check for check, _ in VIOLATIONS.values()} == {check.__name__ for check in CHECKS}


def test_all_violations_are_reported_together():
    class TwoViolations(LogOfZero):
        def out_shape(self, samples):
            return 1, 3, samples // HOP

    with pytest.raises(ContractError, match=r"fails 2 of 11 checks") as caught:
        _check(TwoViolations)
    assert set(caught.value.report.failed) == {"shapes", "sensitivity"}
    assert isinstance(caught.value, (AssertionError, PluginError))


def _identity(*, sample_rate):
    return torch.nn.Identity()


def test_factory_of_another_type():
    with (
        FEATURES.temporary("tested", _identity),
        pytest.raises(ContractError, match="returns an object of type Identity, not a FeatureExtractor"),
    ):
        check_feature("tested")


def test_skipping():
    report = _check(Random, skip=["determinism", "batching", "precision", "export", "saving"])
    assert report.skipped == ("determinism", "batching", "precision", "export", "saving")
    with pytest.raises(ParameterError, match=r"no check 'exprot' to skip\. Did you mean 'export'"):
        _check(Energy, skip=["exprot"])


def test_unknown_name_or_option():
    with pytest.raises(UnknownNameError, match="logmel"):
        check_feature("logmell")
    with pytest.raises(ConfigError, match="unexpected option 'mels'"):
        check_feature(Component("logmel", {"mels": 3}))


def test_the_state_of_the_random_number_generator_is_restored():
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    _check(Energy, skip=["export"])
    assert torch.equal(torch.rand(3), expected)
    assert issubclass(ContractError, MusgenreError)
