from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from musgenre.core.errors import ParameterError
from musgenre.transforms import (
    FrequencyMask,
    MelSpectrogram,
    RandomCrop,
    RandomEqualiser,
    RandomGain,
    RandomSpeed,
    TimeMask,
)

SETTINGS = settings(max_examples=50, deadline=None)
MAKERS = [
    lambda generator=None: TimeMask(5, count=2, generator=generator),
    lambda generator=None: FrequencyMask(5, count=2, generator=generator),
    lambda generator=None: RandomCrop(30, generator=generator),
    lambda generator=None: RandomEqualiser(0.5, generator=generator),
    lambda generator=None: RandomGain(generator=generator),
    lambda generator=None: RandomSpeed(generator=generator),
]


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("make", MAKERS)
class TestAllTransforms:
    def test_identity_in_eval_mode(self, make):
        batch = torch.rand(4, 2, 20, 50)
        assert make().eval()(batch) is batch

    def test_the_seed_determines_the_result(self, make):
        batch = torch.rand(4, 2, 20, 50)
        first, again, other = (make(seeded(seed))(batch) for seed in (1, 1, 2))
        assert torch.equal(first, again)
        assert not torch.equal(first, other)

    def test_default_generator_of_torch(self, make):
        batch = torch.rand(4, 2, 20, 50)
        with torch.random.fork_rng():
            torch.manual_seed(3)
            first = make()(batch)
            torch.manual_seed(3)
            assert torch.equal(first, make()(batch))

    def test_examples_differ_and_channels_agree(self, make):
        batch = torch.rand(1, 1, 20, 50).expand(8, 2, 20, 50)
        changed = make(seeded(0))(batch)
        assert torch.equal(changed[:, 0], changed[:, 1])
        assert not torch.equal(changed[0], changed[1])

    def test_dtype_and_input_are_preserved(self, make):
        batch = torch.rand(3, 20, 50, dtype=torch.float64)
        before = batch.clone()
        assert make()(batch).dtype == torch.float64
        assert torch.equal(batch, before)

    def test_empty_batch(self, make):
        assert make()(torch.zeros(0, 20, 50)).shape[0] == 0

    def test_gradients_are_finite(self, make):
        batch = torch.rand(3, 20, 50, requires_grad=True)
        make()(batch).sum().backward()
        assert batch.grad.isfinite().all()

    def test_devices(self, make):
        if torch.cuda.is_available():
            batch = torch.rand(3, 20, 50, device="cuda")
            assert make(seeded(0))(batch).device.type == make()(batch).device.type == "cuda"
        assert make()(torch.empty(3, 20, 50, device="meta")).device.type == "meta"

    def test_copies(self, make):
        batch = torch.rand(3, 20, 50)
        original = make(seeded(5))
        assert torch.equal(copy.deepcopy(original)(batch), original(batch))

    def test_too_few_dimensions(self, make):
        with pytest.raises(ParameterError, match="needs at least"):
            make()(torch.tensor(1.0))


class TestMasks:
    @SETTINGS
    @given(
        bins=st.integers(1, 30),
        frames=st.integers(1, 30),
        max_width=st.integers(1, 40),
        count=st.integers(1, 3),
        seed=st.integers(0, 999),
    )
    def test_mask_complete_frames_or_bins(self, bins, frames, max_width, count, seed):
        for mask, length in ((TimeMask, frames), (FrequencyMask, bins)):
            changed = mask(max_width, count=count, fill=0.0, generator=seeded(seed))(torch.ones(3, 1, bins, frames))
            masked = changed == 0
            across = masked.any(dim=-2) if mask is TimeMask else masked.any(dim=-1)
            assert masked.sum() == across.sum() * (bins * frames // length)
            assert across.sum(dim=-1).max() <= min(count * max_width, length)
            starts = across.int().diff(dim=-1, prepend=torch.zeros(3, 1, 1, dtype=torch.int32)) == 1
            assert starts.sum(dim=-1).max() <= count

    def test_widths_are_uniformly_distributed(self):
        changed = TimeMask(4, fill=0.0, generator=seeded(0))(torch.ones(5000, 1, 20))
        widths = (changed == 0).sum(dim=(1, 2)).bincount()
        assert len(widths) == 5
        assert (widths / 5000 - 0.2).abs().max() < 0.03

    def test_every_position_is_reached(self):
        changed = FrequencyMask(1, fill=0.0, generator=seeded(0))(torch.ones(2000, 10, 1))
        assert ((changed == 0).sum(dim=0) > 50).all()

    def test_default_fill_is_the_mean(self):
        spectrogram = torch.rand(1, 10, 10)
        changed = TimeMask(9, generator=seeded(4))(spectrogram)
        masked = changed != spectrogram
        assert masked.any()
        torch.testing.assert_close(changed[masked], spectrogram.mean().expand(int(masked.sum())))

    def test_single_spectrogram(self):
        assert TimeMask(3)(torch.rand(10, 20)).shape == (10, 20)

    @pytest.mark.parametrize("wrong", [{"max_width": 0}, {"max_width": 3, "count": -1}, {"max_width": 1.5}])
    def test_invalid_parameters(self, wrong):
        for mask in (TimeMask, FrequencyMask):
            with pytest.raises(ParameterError, match="must be a positive integer"):
                mask(**wrong)


class TestRandomCrop:
    @SETTINGS
    @given(length=st.integers(1, 50), data=st.data())
    def test_contiguous_span(self, length, data):
        size = data.draw(st.integers(1, length))
        cropped = RandomCrop(size, generator=seeded(length))(torch.arange(length).expand(5, length))
        assert cropped.shape == (5, size)
        assert (cropped.diff(dim=-1) == 1).all()
        assert ((cropped[:, 0] >= 0) & (cropped[:, -1] < length)).all()

    def test_every_position_is_reached(self):
        cropped = RandomCrop(7, generator=seeded(0))(torch.arange(10).expand(400, 10))
        assert set(cropped[:, 0].tolist()) == {0, 1, 2, 3}

    def test_too_short(self):
        with pytest.raises(ParameterError, match=r"Cannot crop 11 from the shape \(2, 10\)"):
            RandomCrop(11)(torch.zeros(2, 10))

    def test_invalid_size(self):
        with pytest.raises(ParameterError, match="size must be"):
            RandomCrop(0)


class TestRandomEqualiser:
    def test_curve_is_linear_between_knots_and_constant_over_time(self):
        curve = RandomEqualiser(2.0, knots=3, generator=seeded(0))(torch.zeros(5000, 1, 9, 2))
        assert torch.equal(curve[..., 0], curve[..., 1])
        curve = curve[:, 0, :, 0]
        knots = np.interp(np.arange(9), [0, 4, 8], np.arange(3))
        expected = [np.interp(knots, np.arange(3), row[[0, 4, 8]].numpy()) for row in curve[:20]]
        np.testing.assert_allclose(curve[:20], expected, atol=1e-5)
        np.testing.assert_allclose(curve[:, [0, 4, 8]].std(dim=0), 2.0, rtol=0.05)
        np.testing.assert_allclose(curve[:, [0, 4, 8]].mean(dim=0), 0.0, atol=0.1)

    @pytest.mark.parametrize("wrong", [{"std": 0.0}, {"std": float("nan")}, {"std": 1.0, "knots": 1}])
    def test_invalid_parameters(self, wrong):
        with pytest.raises(ParameterError, match="std"):
            RandomEqualiser(**wrong)


class TestRandomGain:
    def test_range(self):
        gains_db = 20 * RandomGain(min_db=-12.0, max_db=3.0, generator=seeded(0))(torch.ones(3000, 2)).log10()
        assert torch.equal(gains_db[:, 0], gains_db[:, 1])
        assert gains_db.min().item() == pytest.approx(-12, abs=0.1)
        assert gains_db.max().item() == pytest.approx(3, abs=0.1)
        assert gains_db.mean().item() == pytest.approx(-4.5, abs=0.3)

    @pytest.mark.parametrize("wrong", [{"min_db": 7.0}, {"max_db": float("inf")}, {"min_db": float("nan")}])
    def test_invalid_range(self, wrong):
        with pytest.raises(ParameterError, match="min_db <= max_db"):
            RandomGain(**wrong)


class TestRandomSpeed:
    def test_factor_one_is_the_identity(self):
        waveform = torch.rand(3, 100)
        assert torch.equal(RandomSpeed(min_factor=1.0, max_factor=1.0)(waveform), waveform)

    @SETTINGS
    @given(samples=st.integers(1, 400), factor=st.integers(1, 64).map(lambda k: k / 16))
    def test_equals_numpy_interpolation(self, samples, factor):
        waveform = np.random.default_rng(samples).standard_normal(samples)
        changed = RandomSpeed(min_factor=factor, max_factor=factor)(torch.from_numpy(waveform))
        positions = np.arange(samples) * factor
        np.testing.assert_allclose(
            changed.numpy(), np.interp(positions, np.arange(samples), waveform, period=samples), atol=1e-12
        )

    @pytest.mark.parametrize("factor", [0.8, 1.25])
    def test_pitch_changes_with_the_factor(self, factor):
        # Measured late in a long waveform, where positions in float32 would be inaccurate.
        rate, samples = 22_050, 22_050 * 60
        tone = torch.sin(2 * torch.pi * 500 * torch.arange(samples, dtype=torch.float64) / rate).float()
        changed = RandomSpeed(min_factor=factor, max_factor=factor)(tone)[-2 * rate : -rate]
        peak = np.abs(np.fft.rfft(changed.numpy() * np.hanning(rate))).argmax()
        assert peak == pytest.approx(500 * factor, abs=1)

    @pytest.mark.parametrize("wrong", [{"min_factor": 0.0}, {"min_factor": 1.2}, {"max_factor": float("nan")}])
    def test_invalid_range(self, wrong):
        with pytest.raises(ParameterError, match="min_factor <= max_factor"):
            RandomSpeed(**wrong)


def test_composes_and_exports_in_eval_mode():
    chain = nn.Sequential(
        RandomGain(),
        RandomSpeed(),
        MelSpectrogram(sample_rate=8000, n_fft=128, hop_length=64, n_mels=12),
        TimeMask(3),
        FrequencyMask(3),
    )
    waveform = torch.randn(2, 1000)
    assert chain(waveform).shape == (2, 12, 16)
    exported = torch.export.export(chain.eval(), (waveform,)).module()
    torch.testing.assert_close(exported(waveform), chain(waveform))
