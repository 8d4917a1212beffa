"""Sums and products with their rounding errors, for differences that would lose their digits."""

from __future__ import annotations

import torch
from torch import Tensor


def two_sum(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Return ``a + b`` rounded, and the rounding error, exactly (Knuth 1969)."""
    total = a + b
    part = total - a
    return total, (a - (total - part)) + (b - part)


def two_product(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Return ``a * b`` rounded, and the rounding error, exactly (Dekker 1971); for float64."""
    product = a * b
    (a_high, a_low), (b_high, b_low) = _halves(a), _halves(b)
    error = ((a_high * b_high - product) + a_high * b_low + a_low * b_high) + a_low * b_low
    return product, error


def _halves(a: Tensor) -> tuple[Tensor, Tensor]:
    shifted = a * 134217729.0  # 2**27 + 1: 26 bits go to each half
    high = shifted - (shifted - a)
    return high, a - high


def sum_with_error(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return the sum over the last dimension and what rounding left out of it.

    The sum goes pairwise, so it takes log2(n) steps; the errors of all its additions are added up
    beside it.
    """
    total, error = x, torch.zeros_like(x)
    while total.shape[-1] > 1:
        if total.shape[-1] % 2:
            total = torch.nn.functional.pad(total, (0, 1))
            error = torch.nn.functional.pad(error, (0, 1))
        total, lost = two_sum(total[..., 0::2], total[..., 1::2])
        error = error[..., 0::2] + error[..., 1::2] + lost
    return total.squeeze(-1), error.squeeze(-1)
