"""Computation of registered features for comparisons with librosa."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from musgenre.features import FEATURES


@pytest.fixture
def compute() -> Callable[..., np.ndarray]:
    """``compute(name, signal, **options)`` returns a feature of a signal at 22,050 Hz, in float64."""

    def compute(name: str, signal: np.ndarray, **options: object) -> np.ndarray:
        feature = FEATURES.build(name, {"sample_rate": 22_050, **options}).double()
        return feature(torch.from_numpy(signal)[None])[0].numpy()

    return compute
