"""Functions whose digits survive where the textbook formula cancels. Elementwise, plain torch.

Autograd through them is right to the same digits, as every branch is a formula of its own.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

LOG_TWO_PI = math.log(2 * math.pi)
# From here on Stirling's series with these terms is right to the last digit of float64.
LARGE = 12.0
_STIRLING = (
    1 / 12,
    -1 / 360,
    1 / 1260,
    -1 / 1680,
    1 / 1188,
    -691 / 360360,
    1 / 156,
    -3617 / 122400,
)
# digamma(z) - log(z) + 1/(2z) = sum_k of these over z^(2k).
_DIGAMMA = (
    -1 / 12,
    1 / 120,
    -1 / 252,
    1 / 240,
    -1 / 132,
    691 / 32760,
    -1 / 12,
    3617 / 8160,
)
_ATANH = tuple(1 / (2 * k + 3) for k in range(11))
# B_2n, for the cumulants of the continuous Bernoulli.
BERNOULLI = (
    1 / 6,
    -1 / 30,
    1 / 42,
    -1 / 30,
    5 / 66,
    -691 / 2730,
    7 / 6,
    -3617 / 510,
    43867 / 798,
    -174611 / 330,
)


def polynomial(coefficients: tuple[float, ...], x: Tensor) -> Tensor:
    """Return ``sum_k coefficients[k] x^k``, by Horner's rule."""
    total = torch.full_like(x, coefficients[-1])
    for coefficient in coefficients[-2::-1]:
        total = total * x + coefficient
    return total


def excess(t: Tensor, one_plus_t: Tensor | None = None) -> Tensor:
    """Return ``t - log(1 + t)``, never negative, to the last digits at both ends of t > -1.

    Args:
        t: above -1.
        one_plus_t: 1 + t where it is known better than that sum, as near t = -1.
    """
    whole = 1 + t if one_plus_t is None else one_plus_t
    near = t.abs() < 0.3
    u = torch.where(near, t, 0.0)
    s = u / (2 + u)  # log(1 + u) = 2 atanh(s), and u - 2 s = u s
    square = s.square()
    series = u * s - 2 * s * square * polynomial(_ATANH, square)
    far = torch.where(near, 0.0, t) - torch.where(near, 1.0, whole).log()
    return torch.where(near, series, far)


def stirling_error(z: Tensor) -> Tensor:
    """Return ``lgamma(z) - (z - 1/2) log z + z - (1/2) log(2 pi)`` for z > 0."""
    large = z >= LARGE
    big = torch.where(large, z, LARGE)
    series = polynomial(_STIRLING, big.square().reciprocal()) / big
    small = torch.where(large, 1.0, z)
    direct = torch.lgamma(small) - (small - 0.5) * small.log() + small - 0.5 * LOG_TWO_PI
    return torch.where(large, series, direct)


def digamma_gain(z: Tensor, step: Tensor) -> Tensor:
    """Return ``(digamma(z + step) - log(z + step)) - (digamma(z) - log z)`` for step >= 0."""
    large = z >= LARGE
    a = torch.where(large, z, LARGE)
    b = a + step
    tail = polynomial(_DIGAMMA, b.square().reciprocal()) / b.square()
    tail = tail - polynomial(_DIGAMMA, a.square().reciprocal()) / a.square()
    small = torch.where(large, 1.0, z)
    direct = torch.digamma(small + step) - torch.digamma(small) - (step / small).log1p()
    return torch.where(large, step / (2 * a * b) + tail, direct)
