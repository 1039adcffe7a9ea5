from __future__ import annotations

import pytest
import torch

from musgenre.core.errors import ParameterError
from musgenre.transforms import Channels, Normalise, Resize


@pytest.mark.parametrize(("size", "expected"), [(6, (6, 6)), ((4, 9), (4, 9))])
def test_resize(size, expected):
    assert Resize(size)(torch.rand(2, 3, 5, 7)).shape == (2, 3, *expected)


@pytest.mark.parametrize("size", [0, (3, -1), 2.0])
def test_resize_invalid_size(size):
    with pytest.raises(ParameterError, match="must be a positive integer"):
        Resize(size)


def test_channels_are_equal():
    spectrum = torch.rand(2, 5, 7)
    channels = Channels(3)(spectrum)
    assert channels.shape == (2, 3, 5, 7)
    for channel in channels.unbind(1):
        torch.testing.assert_close(channel, spectrum)


def test_channels_invalid_count():
    with pytest.raises(ParameterError, match="count"):
        Channels(0)


def test_normalise_each_channel():
    image = torch.rand(4, 3, 5, 7, dtype=torch.float64)
    mean, std = image.mean(dim=(0, 2, 3)), image.std(dim=(0, 2, 3))
    scaled = Normalise(mean.tolist(), std.tolist())(image)
    torch.testing.assert_close(scaled.mean(dim=(0, 2, 3)), torch.zeros(3, dtype=torch.float64))
    torch.testing.assert_close(scaled.std(dim=(0, 2, 3)), torch.ones(3, dtype=torch.float64))


@pytest.mark.parametrize(
    ("mean", "std"), [((), ()), ((0.0,), (1.0, 1.0)), ((0.0,), (0.0,)), ((0.0,), (-1.0,)), ((float("nan"),), (1.0,))]
)
def test_normalise_invalid(mean, std):
    with pytest.raises(ParameterError, match="deviation"):
        Normalise(mean, std)
