from __future__ import annotations

import librosa
import numpy as np
import torch

from musgenre import functional

RATE = 22_050


def assert_close_to_librosa(found: torch.Tensor, expected: np.ndarray) -> None:
    """Within 3 % of the largest value, and 6 % where filters extend beyond the ends of the signal."""
    largest = expected.max(initial=1e-12)
    np.testing.assert_allclose(found, expected, rtol=0, atol=0.06 * largest)
    np.testing.assert_allclose(found[..., 20:-20], expected[..., 20:-20], rtol=0, atol=0.03 * largest)


def test_equals_librosa(signal):
    expected = np.abs(librosa.cqt(signal, sr=RATE))
    kernels = functional.constant_q_kernels(sample_rate=RATE)
    magnitude = functional.constant_q_power(torch.from_numpy(signal), kernels=kernels).sqrt()
    assert_close_to_librosa(magnitude, expected)
    # librosa computes the highest octave at the full sample rate, as all octaves are computed here.
    exact = np.abs(librosa.cqt(signal, sr=RATE, sparsity=0.0))[-12:]
    np.testing.assert_allclose(magnitude[-12:], exact, rtol=0, atol=max(1e-5 * expected.max(), 1e-12))


def test_other_bins(signal):
    options = {"n_bins": 40, "bins_per_octave": 18}
    expected = np.abs(librosa.cqt(signal, sr=RATE, fmin=100.0, **options))
    kernels = functional.constant_q_kernels(sample_rate=RATE, f_min_hz=100.0, **options)
    power = functional.constant_q_power(torch.from_numpy(signal), kernels=kernels)
    assert_close_to_librosa(power.sqrt(), expected)
