from __future__ import annotations

import math

import hypothesis.extra.numpy as hnp
import librosa
import numpy as np
import pytest
import scipy.fft
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from musgenre import functional
from musgenre.core.errors import ParameterError

SETTINGS = settings(max_examples=40, deadline=None)


class TestToDecibel:
    @SETTINGS
    @given(
        power=hnp.arrays(np.float64, (5, 7), elements=st.floats(0, 1e8)),
        reference=st.sampled_from(["max"]) | st.floats(1e-12, 1e6),
        amin=st.floats(1e-15, 1e-3),
        floor_db=st.none() | st.floats(0, 200),
    )
    def test_equals_librosa(self, power, reference, amin, floor_db):
        decibel = functional.to_decibel(torch.from_numpy(power), reference=reference, amin=amin, floor_db=floor_db)
        ref = np.max if reference == "max" else reference
        expected = librosa.power_to_db(power, ref=ref, amin=amin, top_db=floor_db)
        assert np.abs(decibel.numpy() - expected).max() <= 1e-6

    def test_maxima_are_taken_for_each_example(self):
        power = torch.tensor([[[1.0, 0.1]], [[1e6, 1e-9]]])
        decibel = functional.to_decibel(power, reference="max", floor_db=60.0)
        torch.testing.assert_close(decibel, torch.tensor([[[0.0, -10.0]], [[0.0, -60.0]]]))

    @pytest.mark.parametrize(
        "invalid",
        [
            {"reference": "maximum"},
            {"reference": 0.0},
            {"reference": math.inf},
            {"reference": None},
            {"amin": 0.0},
            {"amin": math.nan},
            {"floor_db": -1.0},
            {"floor_db": math.nan},
        ],
    )
    def test_invalid_parameters(self, invalid):
        with pytest.raises(ParameterError, match=next(iter(invalid))):
            functional.to_decibel(torch.ones(2, 2), **invalid)

    def test_too_few_dimensions(self):
        with pytest.raises(ParameterError, match=r"\(\.\.\., bins, frames\), not \(3,\)"):
            functional.to_decibel(torch.ones(3))

    @pytest.mark.parametrize("reference", ["max", 2.0])
    @pytest.mark.parametrize("floor_db", [30.0, None])
    @pytest.mark.parametrize("shape", [(300, 2000), (2, 3, 200, 700), (3, 5, 7)])
    def test_blocks_equal_one_pass(self, shape, reference, floor_db):
        power = torch.rand(shape) ** 8
        original = power.clone()
        one_pass = functional.to_decibel(power.clone().requires_grad_(), reference=reference, floor_db=floor_db)
        found = functional.to_decibel(power, reference=reference, floor_db=floor_db)
        assert torch.equal(power, original)
        assert torch.equal(found, one_pass)
        overwritten = functional.to_decibel(power, reference=reference, floor_db=floor_db, inplace=True)
        assert overwritten.data_ptr() == power.data_ptr()
        assert torch.equal(overwritten, found)

    def test_non_contiguous_tensor(self):
        power = torch.rand(600, 900, 2)[..., 0]
        assert torch.equal(functional.to_decibel(power), functional.to_decibel(power.contiguous()))


class TestMfcc:
    @SETTINGS
    @given(n_mels=st.integers(1, 90), data=st.data())
    def test_equals_scipy(self, n_mels, data):
        n_mfcc = data.draw(st.integers(1, n_mels))
        decibel = np.random.default_rng(n_mels).uniform(-80, 40, (2, n_mels, 3))
        expected = scipy.fft.dct(decibel, axis=-2, type=2, norm="ortho")[:, :n_mfcc]
        np.testing.assert_allclose(functional.mfcc(torch.from_numpy(decibel), n_mfcc=n_mfcc), expected, atol=1e-9)

    def test_precomputed_matrix(self):
        decibel = torch.randn(16, 3)
        matrix = functional.dct_matrix(n_mfcc=8, n_mels=16)
        coefficients = functional.mfcc(decibel, n_mfcc=5, dct=matrix)
        torch.testing.assert_close(coefficients, functional.mfcc(decibel, n_mfcc=5))

    def test_more_coefficients_than_bands(self):
        with pytest.raises(ParameterError, match=r"n_mfcc \(20\) must not exceed n_mels \(16\)"):
            functional.mfcc(torch.zeros(16, 3))
