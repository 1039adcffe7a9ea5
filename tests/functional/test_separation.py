from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from musgenre import functional


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 16).map(lambda half: 2 * half + 1), st.integers(1, 40), st.integers(0, 2**31))
def test_median_filter_equals_numpy(size, length, seed):
    values = np.random.default_rng(seed).integers(0, 9, size=(3, length)).astype(np.float64)
    reflected = np.pad(values, ((0, 0), (size // 2, size // 2)), mode="symmetric")
    expected = np.median(np.lib.stride_tricks.sliding_window_view(reflected, size, axis=1), axis=-1)
    found = functional.median_filter(torch.from_numpy(values), size=size, dim=1)
    np.testing.assert_array_equal(found.numpy(), expected)
    transposed = functional.median_filter(torch.from_numpy(values.T.copy()), size=size, dim=0)
    np.testing.assert_array_equal(transposed.numpy(), expected.T)
