"""The temperature that fits best, against scipy's optimiser on torch's likelihood, and known truths."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.optimize
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from musgenre.core.errors import ParameterError
from musgenre.metrics import expected_calibration_error, fit_temperature, track_probabilities


def drawn(seed, *, tracks=120, classes=5, windows=(1, 6), factor=1.0):
    """Logits of tracks, and truths drawn from the mean of their windows' softmax; the logits then times a factor."""
    random = np.random.default_rng(seed)
    logits = [random.normal(scale=2, size=(random.integers(*windows), classes)) for _ in range(tracks)]
    truth = [random.choice(classes, p=torch.tensor(track).softmax(1).mean(0).numpy().astype(float)) for track in logits]
    return [factor * track for track in logits], truth


def loss(logits, truth, temperature):
    rows = [(torch.tensor(track) / temperature).softmax(1).mean(0) for track in logits]
    return torch.nn.functional.nll_loss(torch.stack(rows).log(), torch.tensor(truth)).item()


@pytest.mark.parametrize("windows", [(1, 2), (1, 8)])
@pytest.mark.parametrize("seed", range(3))
def test_it_is_what_scipy_finds(seed, windows):
    logits, truth = drawn(seed, windows=windows, factor=[0.3, 1.0, 4.0][seed])
    found = scipy.optimize.minimize_scalar(
        lambda t: loss(logits, truth, t), bounds=(0.05, 20), method="bounded", options={"xatol": 1e-7}
    )
    assert fit_temperature(logits, truth) == pytest.approx(found.x, rel=1e-4)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 999), factor=st.floats(0.2, 5))
def test_logits_that_are_scaled_are_scaled_back(seed, factor):
    logits, truth = drawn(seed, tracks=60)
    fitted = fit_temperature(logits, truth)
    assert fit_temperature([factor * track for track in logits], truth) == pytest.approx(factor * fitted, rel=1e-6)
    assert loss(logits, truth, fitted) <= loss(logits, truth, fitted * 1.01)
    assert loss(logits, truth, fitted) <= loss(logits, truth, fitted / 1.01)


def test_the_truth_is_found_and_calibrates():
    logits, truth = drawn(0, tracks=1_500, factor=3.0)
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
def test_logarithms_of_probabilities_do_as_well(seed):
    logits, truth = drawn(seed, tracks=60)
    logarithms = [(torch.tensor(track) / 2).log_softmax(1).numpy() for track in logits]
    assert 2 * fit_temperature(logarithms, truth) == pytest.approx(fit_temperature(logits, truth), rel=1e-6)


def test_a_track_of_one_window_may_be_a_row():
    logits, truth = drawn(0, windows=(1, 2))
    assert fit_temperature(np.concatenate(logits), truth) == fit_temperature(logits, truth)


def test_the_mean_is_calibrated_and_not_each_window():
    logits, truth = drawn(1, windows=(5, 6))
    windows = np.repeat(truth, 5)
    assert fit_temperature(logits, truth) != pytest.approx(fit_temperature(np.concatenate(logits), windows), rel=0.05)


def test_large_logits_do_not_overflow():
    logits, truth = drawn(0)
    shifted = [track + 5_000 for track in logits]
    assert fit_temperature(shifted, truth) == pytest.approx(fit_temperature(logits, truth), rel=1e-5)


@pytest.mark.parametrize(
    ("logits", "truth", "told"),
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
        ([[3.0, 0.0], [0.0, 3.0]], [0, 1], "every track is right"),
        ([[3.0, 0.0], [0.0, 3.0]], [1, 0], "tell nothing"),
    ],
)
def test_what_cannot_be_fitted(logits, truth, told):
    with pytest.raises(ParameterError, match=told):
        fit_temperature(logits, truth)
