"""Constant tensors of transforms."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn


class Constant(nn.Module):
    """A tensor that follows its module between devices and dtypes without accumulating rounding errors.

    A buffer that was rounded to float32 or float16 remains rounded after the module returns to float64. This constant
    is rounded from its float64 value at each conversion, so that results in float64 are exact. It is not part of the
    state dict.

    Args:
        value: The constant, in float64.

    Example:
        >>> third = Constant(torch.tensor([1 / 3], dtype=torch.float64)).half().double()
        >>> third(torch.zeros(1, dtype=torch.float64)).item() == 1 / 3
        True
    """

    value: Tensor

    def __init__(self, value: Tensor) -> None:
        super().__init__()
        self._exact = value
        self.register_buffer("value", value.to(torch.get_default_dtype()), persistent=False)

    def forward(self, like: Tensor) -> Tensor:
        """Return the constant in the dtype and on the device of ``like``."""
        return self.value if self.value.dtype == like.dtype else self._exact.to(like)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Constant:
        # .to(), .half(), .cuda() and all other conversions call this method.
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self.value = self._exact.to(self.value)
        return self
