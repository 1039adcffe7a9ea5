"""Temperature scaling, compared with SciPy's optimiser, PyTorch's likelihood and known temperatures."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.optimize
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from musgenre.core.errors import ParameterError
from musgenre.metrics import expected_calibration_error, fit_temperature, track_probabilities


def draw_tracks(seed, *, tracks=120, classes=5, windows=(1, 6), factor=1.0):
    """Logits of tracks, scaled by a factor, and labels drawn from the mean softmax of the unscaled windows."""
    random = np.random.default_rng(seed)
    logits = [random.normal(scale=2, size=(random.integers(*windows), classes)) for _ in range(tracks)]
    truth = [random.choice(classes, p=torch.tensor(track).softmax(1).mean(0).numpy().astype(float)) for track in logits]
    return [factor * track for track in logits], truth


def loss(logits, truth, temperature):
    rows = [(torch.tensor(track) / temperature).softmax(1).mean(0) for track in logits]
    return torch.nn.functional.nll_loss(torch.stack(rows).log(), torch.tensor(truth)).item()


@pytest.mark.parametrize("windows", [(1, 2), (1, 8)])
@pytest.mark.parametrize("seed", range(3))
def test_equals_scipys_minimum(seed, windows):
    logits, truth = draw_tracks(seed, windows=windows, factor=[0.3, 1.0, 4.0][seed])
    found = scipy.optimize.minimize_scalar(
        lambda t: loss(logits, truth, t), bounds=(0.05, 20), method="bounded", options={"xatol": 1e-7}
    )
    assert fit_temperature(logits, truth) == pytest.approx(found.x, rel=1e-4)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 999), factor=st.floats(0.2, 5))
def test_temperature_is_proportional_to_the_scale_of_the_logits(seed, factor):
    logits, truth = draw_tracks(seed, tracks=60)
    fitted = fit_temperature(logits, truth)
    assert fit_temperature([factor * track for track in logits], truth) == pytest.approx(factor * fitted, rel=1e-6)
    assert loss(logits, truth, fitted) <= loss(logits, truth, fitted * 1.01)
    assert loss(logits, truth, fitted) <= loss(logits, truth, fitted / 1.01)


def test_known_temperature_is_recovered_and_calibrates():
    logits, truth = draw_tracks(0, tracks=1_500, factor=3.0)
    temperature = fit_temperature(logits, truth)
    assert temperature == pytest.approx(3.0, rel=0.15)
    errors = [
        expected_calibration_error(truth, [track_probabilities((torch.tensor(x) / t).softmax(1)) for x in logits])
        for t in (1.0, temperature)
    ]
    assert errors[0] > 0.1
    assert errors[1] < 0.04


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 999))
def test_log_probabilities_are_equivalent(seed):
    logits, truth = draw_tracks(seed, tracks=60)
    logarithms = [(torch.tensor(track) / 2).log_softmax(1).numpy() for track in logits]
    assert 2 * fit_temperature(logarithms, truth) == pytest.approx(fit_temperature(logits, truth), rel=1e-6)


def test_track_of_one_window_may_be_one_dimensional():
    logits, truth = draw_tracks(0, windows=(1, 2))
    assert fit_temperature(np.concatenate(logits), truth) == fit_temperature(logits, truth)


def test_mean_is_calibrated_not_the_windows():
    logits, truth = draw_tracks(1, windows=(5, 6))
    windows = np.repeat(truth, 5)
    assert fit_temperature(logits, truth) != pytest.approx(fit_temperature(np.concatenate(logits), windows), rel=0.05)


def test_large_logits_do_not_overflow():
    logits, truth = draw_tracks(0)
    shifted = [track + 5_000 for track in logits]
    assert fit_temperature(shifted, truth) == pytest.approx(fit_temperature(logits, truth), rel=1e-5)


@pytest.mark.parametrize(
    ("logits", "truth", "message"),
    [
        ([], [], "at least one"),
        ([[1.0, 2.0]], [0, 1], "each of 2"),
        ([[1.0, 2.0], [1.0, 2.0, 3.0]], [0, 1], r"\(1, 3\)"),
        ([np.zeros((0, 2))], [0], "at least one window"),
        ([np.zeros((1, 1, 2))], [0], "windows"),
        ([[1.0, np.nan]], [0], "finite"),
        ([[0.0, -np.inf]], [0], "finite"),
        ([[1.0, 2.0]], [2], r"\[2\]"),
        ([[1.0, 2.0]], [-1], r"\[-1\]"),
        ([[3.0, 0.0], [0.0, 3.0]], [0, 1], "tracks are predicted correctly"),
        ([[3.0, 0.0], [0.0, 3.0]], [1, 0], "do not predict the labels"),
    ],
)
def test_invalid_arguments(logits, truth, message):
    with pytest.raises(ParameterError, match=message):
        fit_temperature(logits, truth)
