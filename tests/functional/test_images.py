from __future__ import annotations

import pytest
import torch

from musgenre import functional
from musgenre.core.errors import ParameterError


class TestResize:
    def test_a_ramp_remains_linear(self):
        ramp = torch.linspace(0, 1, 8, dtype=torch.float64).expand(2, 3, 4, 8)
        wide = functional.resize(ramp, size=(4, 16))
        assert wide.shape == (2, 3, 4, 16)
        assert wide.dtype == torch.float64
        steps = wide[0, 0, 0].diff()
        torch.testing.assert_close(steps[1:-1], torch.full_like(steps[1:-1], 1 / 14))

    def test_shrinking_uses_every_frame(self):
        image = torch.rand(3, 90, requires_grad=True)
        functional.resize(image, size=(3, 10)).sum().backward()
        assert (image.grad > 0).all()

    def test_same_size_is_the_identity(self):
        image = torch.rand(5, 7)
        torch.testing.assert_close(functional.resize(image, size=(5, 7)), image)

    def test_invalid_size(self):
        with pytest.raises(ParameterError, match="width must be"):
            functional.resize(torch.zeros(2, 2), size=(1, 0))

    def test_too_few_dimensions(self):
        with pytest.raises(ParameterError, match=r"height, width\), not \(2,\)"):
            functional.resize(torch.zeros(2), size=(1, 1))


class TestNormalise:
    def test_each_channel(self):
        image = torch.tensor([[[1.0, 2.0]], [[3.0, 4.0]]])
        scaled = functional.normalise(image, mean=torch.tensor([1.0, 2.0]), std=torch.tensor([1.0, 0.5]))
        torch.testing.assert_close(scaled, torch.tensor([[[0.0, 1.0]], [[2.0, 4.0]]]))

    @pytest.mark.parametrize("channels", [1, 3])
    def test_inplace(self, channels):
        image, mean, std = torch.rand(2, channels, 300, 400), torch.rand(channels), 1 + torch.rand(channels)
        expected = functional.normalise(image, mean=mean, std=std)
        assert not torch.equal(image, expected)
        assert torch.equal(functional.normalise(image, mean=mean, std=std, inplace=True), expected)
