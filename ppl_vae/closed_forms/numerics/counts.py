"""What Stirling's formula leaves out of log-factorials, and the deviance of a count."""

from __future__ import annotations

import torch
from torch import Tensor

from ppl_vae.closed_forms.numerics.special import HALF_LOG_TWO_PI, STIRLING, excess_over_log

_LARGE = 12.0  # from here on the series below is right to the last digit


def stirling_error(z: Tensor) -> Tensor:
    """Return ``lgamma(z) - (z - 1/2) log z + z - (1/2) log(2 pi)`` for z > 0."""
    is_large = z >= _LARGE
    large, small = torch.where(is_large, z, _LARGE), torch.where(is_large, 1.0, z)
    square, series = large.square().reciprocal(), torch.zeros_like(large)
    for coefficient in reversed(STIRLING[:8]):
        series = series * square + coefficient
    direct = torch.lgamma(small) - (small - 0.5) * small.log() + small - HALF_LOG_TWO_PI
    return torch.where(is_large, series / large, direct)


def deviance(x: Tensor, mean: Tensor, gap: Tensor) -> Tensor:
    """Return ``x log(x / mean) + mean - x``, never negative; `gap` is ``mean - x``, for x > 0."""
    return x * excess_over_log(mean / x, gap / x)


def minus_log_poisson(x: Tensor, mean: Tensor) -> Tensor:
    """Return ``mean - x log(mean) + lgamma(x + 1)`` for whole x >= 0, by Loader's form (2000)."""
    some = x > 0
    count = torch.where(some, x, 1.0)
    constant = HALF_LOG_TWO_PI + 0.5 * count.log() + stirling_error(count)
    return torch.where(some, deviance(count, mean, mean - count) + constant, mean)
