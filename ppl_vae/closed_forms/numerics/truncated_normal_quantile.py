"""Distribution function and quantile of y ~ Normal(t, 1) truncated to y > 0, for any t."""

from __future__ import annotations

import torch
from torch import Tensor

from ppl_vae.closed_forms.numerics.special import (
    Context,
    cumulant,
    hazard,
    log_ndtr,
    log_normalizer,
    ndtr,
)

INFINITE = 1e100  # stands for infinity; its square is finite
_NEWTON_STEPS = 3


def distribution(y: Tensor, t: Tensor, below: Tensor) -> tuple[Tensor, Tensor]:
    """Return P(Y < y) and log P(Y > y), both with full relative precision, for y >= 0.

    `below` is t - y: the caller may know it better than the difference of the two.
    """
    small = (y < 0.5) & (t.abs() * y < 0.5)
    near_zero = hazard(t) * _integral(torch.where(small, y, 0.0), t)
    # t^2/2 cancels by hand for t < 0.
    low = log_normalizer(below) - log_normalizer(t) + y * (t - y / 2)
    log_upper = torch.where(t < 0, low, log_ndtr(below) - log_ndtr(t))
    lower = torch.where(t < 0, -torch.expm1(low), (ndtr(-below) - ndtr(-t)) / ndtr(t))
    lower = torch.where(small, near_zero, lower)
    half = lower < 0.5
    return lower, torch.where(half, torch.log1p(-torch.where(half, lower, 0.0)), log_upper)


def _integral(y: Tensor, t: Tensor) -> Tensor:
    # of exp(t x - x^2/2) over 0 < x < y, from Taylor terms He_k(t) x^k / k! and the recursion of
    # the Hermite polynomials He_k; 17 of them are enough for y and |t| y below 1/2.
    before, term = torch.zeros_like(y), torch.ones_like(y)
    total = term
    for k in range(1, 17):
        before, term = term, (t * y * term - y.square() * before) / k
        total = total + term / (k + 1)
    return total * y


class _Quantile(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(exponential: Tensor, t: Tensor) -> Tensor:
        target = exponential.clamp(max=INFINITE)
        y = _start(target, t)
        # -log P(Y > y) is convex and increasing in y, so Newton's method cannot fail.
        for _ in range(_NEWTON_STEPS):
            slope = hazard(t - y)
            gap = distribution(y, t, t - y)[1] + target
            y = (y + torch.where(slope > 0, gap / slope, 0.0)).clamp(min=0)
        return torch.where(exponential.isinf(), exponential, y)

    @staticmethod
    def setup_context(ctx: Context, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(inputs[1], output)

    @staticmethod
    def backward(ctx: Context, *grads: Tensor) -> tuple[Tensor, Tensor]:
        t, y = ctx.saved_tensors
        slope = hazard(t - y)
        # 1 - h(t)/h(t-y), for t < 0 by the means M = t + h, which are small there.
        low = (y + cumulant(t - y, 1) - cumulant(t, 1)) / slope
        along = torch.where(t < 0, low, 1 - hazard(t) / slope)
        return grads[0] / slope, grads[0] * along


def _start(target: Tensor, t: Tensor) -> Tensor:
    # max(h(t), y - t) <= hazard <= h(t) + y bounds the root. For t > -3 the Normal's own quantile
    # is right except for rounding; below, the lower bound is right to 1%, so three steps suffice.
    slope = hazard(t)
    low = 2 * target / (slope + (slope.square() + 2 * target).sqrt()).clamp(min=1e-300)
    high = t + (t.clamp(max=0).square() + 2 * target).sqrt()
    high = torch.where(slope > 1e-290, torch.minimum(target / slope, high), high)
    lower = ndtr(-t) - ndtr(t) * torch.expm1(-target)
    upper = ndtr(t) * (-target).exp()
    normal = t + torch.where(lower < 0.5, torch.special.ndtri(lower), -torch.special.ndtri(upper))
    return torch.where(t > -3, torch.minimum(torch.maximum(normal, low), high), low)


def quantile(exponential: Tensor, t: Tensor) -> Tensor:
    """Return the y with ``-log P(Y > y) = exponential >= 0``: a draw of Y from an Exponential(1).

    Differentiating ``Phi(t - y) = exp(-e) Phi(t)`` gives ``dy/de = 1 / h(t - y)`` and
    ``dy/dt = 1 - h(t) / h(t - y)``, with h = phi/Phi.
    """
    return _Quantile.apply(exponential, t)  # pyright: ignore[reportReturnType]
