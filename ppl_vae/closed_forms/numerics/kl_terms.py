"""What the divergences share: arguments made ready, and convex gaps without cancellation.

A Kullback-Leibler divergence within an exponential family is made of gaps between a convex
function and its tangent. Each function here computes one such gap to the last digits, so that a
sum of them is never negative and keeps its digits where q and p nearly agree.
"""

from __future__ import annotations

from math import factorial

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx

from ppl_vae import checks
from ppl_vae.checks import Real
from ppl_vae.closed_forms.numerics.compensated import two_sum
from ppl_vae.closed_forms.numerics.special import polynomial

_NEAR_ONE = 0.25
_NEAR_ZERO = 0.5
_EXPONENT_BITS = 0x7FF0000000000000
_LOW_BITS = (1 << 27) - 1
_ATANH = [1 / (2 * k + 3) for k in range(9)]
_EXP = [1 / factorial(k + 2) for k in range(15)]


class _WidenContext(FunctionCtx):
    dtype: torch.dtype


class _Widen(torch.autograd.Function):
    """A narrower tensor in float64; a gradient beyond its range becomes its largest number."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return x.to(torch.float64)

    @staticmethod
    def setup_context(ctx: _WidenContext, inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.dtype = inputs[0].dtype

    @staticmethod
    def backward(ctx: _WidenContext, *grads: Tensor) -> Tensor:
        limit = torch.finfo(ctx.dtype).max
        return grads[0].clamp(-limit, limit).to(ctx.dtype)

    @staticmethod
    def jvp(ctx: _WidenContext, *tangents: Tensor) -> Tensor:
        return tangents[0].to(torch.float64)


def widen(x: Tensor) -> Tensor:
    """Return `x` in float64."""
    return x if x.dtype == torch.float64 else _Widen.apply(x)  # pyright: ignore[reportReturnType]


def prepare(real: dict[str, Real], **positive: Real) -> tuple[list[Tensor], torch.dtype]:
    """Return the arguments checked and in float64, `real` ones first, and the result's dtype."""
    named = real | positive
    tensors = dict(zip(named, checks.floats(**named), strict=True))
    checks.broadcastable(**tensors)
    for name, tensor in tensors.items():
        (checks.positive if name in positive else checks.finite)(name, tensor)
    wide = [widen(tensor) for tensor in tensors.values()]
    return wide, next(iter(tensors.values())).dtype


def exp_gap(x: Tensor) -> Tensor:
    """Return `exp(x) - 1 - x`, at least 0, with its digits also near 0."""
    near = x.abs() < _NEAR_ZERO
    small = torch.where(near, x, 0.0)
    large = torch.where(near, 1.0, x)
    return torch.where(near, small * small * polynomial(small, _EXP), large.expm1() - large)


def log1p_gap(u: Tensor, ratio: Tensor, log_ratio: Tensor) -> Tensor:
    """Return `u - log(1 + u)`, at least 0, from `u`, `ratio = 1 + u` and `log(1 + u)`."""
    near = u.abs() < _NEAR_ONE
    far = torch.where(near, 1.0, ratio)
    series = log1p_series(torch.where(near, u, 0.0))
    return torch.where(near, series, far - 1 - tame_log(far, log_ratio))


def log1p_series(u: Tensor) -> Tensor:
    """Return `u - log(1 + u)`, at least 0, for u from -1/4 to 1/3.

    With z = u / (2 + u) and log(1 + u) = 2 atanh(z) it is `z (u - 2 z^2 (1/3 + z^2/5 + ...))`,
    in which nothing cancels.
    """
    z = u / (2 + u)
    return z * (u - 2 * z * z * polynomial(z * z, _ATANH))


def quotient_gap(numerator: Tensor, denominator: Tensor) -> Tensor:
    """Return `r - 1 - log(r)`, at least 0, for r = numerator / denominator, both positive."""
    difference = numerator - denominator
    near = difference.abs() < _NEAR_ONE * denominator
    series = log1p_series(torch.where(near, difference, 0.0) / denominator)
    ratio = torch.where(near, 1.0, numerator) / torch.where(near, 1.0, denominator)
    logs = tame_log(ratio, numerator.log() - denominator.log())
    return torch.where(near, series, ratio - 1 - logs)


def tame_log(ratio: Tensor, log_ratio: Tensor) -> Tensor:
    """Return the logarithm of `ratio`, or `log_ratio` where the ratio left float64's range."""
    tame = (ratio > 1e-290) & (ratio < 1e290)
    return torch.where(tame, torch.where(tame, ratio, 1.0).log(), log_ratio)


def product_difference(a: Tensor, b: Tensor, c: Tensor, d: Tensor) -> Tensor:
    """Return `a * b - c * d` of float64 tensors, right where it cancels, without gradient."""
    first, first_rest = two_product(a.detach(), b.detach())
    second, second_rest = two_product(c.detach(), d.detach())
    high, low = two_difference(first, second)
    rest, lost = two_difference(first_rest, second_rest)
    return (high + rest) + (low + lost)


def two_difference(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Return `x - y` and what its rounding took off (Knuth 1969)."""
    return two_sum(x, -y)


def two_product(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Return `x * y` of float64 tensors and what its rounding took off (Dekker 1971)."""
    product = x * y
    (x_high, x_low), (y_high, y_low) = _halves(x), _halves(y)
    rest = ((x_high * y_high - product) + x_high * y_low + x_low * y_high) + x_low * y_low
    return product, rest


def power_above(x: Tensor) -> Tensor:
    """Return a power of two above each entry of `x`, at most twice a normal one; 1 for 0."""
    below = (x.detach().view(torch.int64) & _EXPONENT_BITS).view(torch.float64)
    above = (2 * below).clamp_min(torch.finfo(torch.float64).tiny)
    return torch.where(x == 0, 1.0, above)


def _halves(x: Tensor) -> tuple[Tensor, Tensor]:
    high = (x.view(torch.int64) & ~_LOW_BITS).view(torch.float64)
    return high, x - high
