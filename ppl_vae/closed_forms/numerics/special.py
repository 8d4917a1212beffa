"""Special functions of the Normal tail, accurate and differentiable to any order.

With phi and Phi the standard Normal density and distribution function, and y ~ Normal(t, 1)
truncated to y > 0, its normaliser g(t) = t^2/2 + log Phi(t) has the cumulants of y as
derivatives: g' is the mean, g'' the variance. For t << 0 each textbook formula is a difference of
nearly equal numbers; a continued fraction replaces it there.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

Context = Any  # autograd's context, for which torch declares no attributes

HALF_LOG_TWO_PI = 0.5 * math.log(2 * math.pi)
# B_2j / (2j (2j - 1)), j from 1: Stirling's series of log-factorials.
STIRLING = [
    1 / 12,
    -1 / 360,
    1 / 1260,
    -1 / 1680,
    1 / 1188,
    -691 / 360360,
    1 / 156,
    -3617 / 122400,
    43867 / 244188,
    -174611 / 125400,
]
TAIL = 2.5  # the continued fraction is used for t < -TAIL, where _TERMS levels give 16 digits
_TERMS = 60
_ATANH_TAIL = [1 / k for k in range(3, 30, 2)]


def upper_tail_ratios(u: Tensor, count: int) -> list[Tensor]:
    """Return ``I_k / I_(k-1)``, k = 1..count, ``I_k = integral of y^k exp(-u y - y^2/2), y > 0``.

    By parts, I_(k+1) = k I_(k-1) - u I_k, so that r_k = k / (u + r_(k+1)): Laplace's continued
    fraction for Mills' ratio. All terms are positive. For u >= TAIL.
    """
    last = _TERMS + count
    ratio = ((u.square() + 4 * (last + 1)).sqrt() - u) / 2
    ratios = []
    for k in range(last, 0, -1):
        ratio = k / (u + ratio)
        if k <= count:
            ratios.append(ratio)
    return ratios[::-1]


def _tail_cumulant(u: Tensor, order: int) -> Tensor:
    moments = [torch.ones_like(u)]
    for ratio in upper_tail_ratios(u, order):
        moments.append(moments[-1] * ratio)
    cumulants = [torch.zeros_like(u)]
    for n in range(1, order + 1):
        lower = [math.comb(n - 1, k - 1) * cumulants[k] * moments[n - k] for k in range(1, n)]
        cumulants.append(moments[n] - sum(lower, torch.zeros_like(u)))
    return cumulants[order]


def _body_cumulant(t: Tensor, order: int) -> Tensor:
    # h = phi / Phi obeys h' = -h M with M = t + h the mean: Leibniz' rule gives every derivative.
    hazards = [_hazard(t)]
    means = [t + hazards[0]]
    for n in range(order - 1):
        terms = [math.comb(n, j) * hazards[j] * means[n - j] for j in range(n + 1)]
        hazards.append(-sum(terms, torch.zeros_like(t)))
        means.append(hazards[-1] + 1 if n == 0 else hazards[-1])
    return means[order - 1]


def _hazard(t: Tensor) -> Tensor:
    return math.sqrt(2 / math.pi) / torch.special.erfcx(-t / math.sqrt(2))


class _Cumulant(torch.autograd.Function):
    """A derivative of g, of order 1 or more; its own derivative is of the next order."""

    generate_vmap_rule = True

    @staticmethod
    def forward(t: Tensor, order: int) -> Tensor:
        tail = _tail_cumulant((-t).clamp(min=TAIL), order)
        return torch.where(t < -TAIL, tail, _body_cumulant(t.clamp(min=-TAIL), order))

    @staticmethod
    def setup_context(ctx: Context, inputs: tuple[Tensor, int], output: Tensor) -> None:
        ctx.save_for_backward(inputs[0])
        ctx.order = inputs[1]

    @staticmethod
    def backward(ctx: Context, *grads: Tensor) -> tuple[Tensor, None]:
        (t,) = ctx.saved_tensors
        return grads[0] * cumulant(t, ctx.order + 1), None


class _OfOneTensor(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def setup_context(ctx: Context, inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.save_for_backward(inputs[0])


class _LogNormalizer(_OfOneTensor):
    @staticmethod
    def forward(t: Tensor) -> Tensor:
        low = torch.special.erfcx(-t.clamp(max=0) / math.sqrt(2)).log() - math.log(2)
        return torch.where(t < 0, low, t.square() / 2 + _log_ndtr_above_0(t))

    @staticmethod
    def backward(ctx: Context, *grads: Tensor) -> Tensor:
        return grads[0] * cumulant(ctx.saved_tensors[0], 1)


class _Hazard(_OfOneTensor):
    @staticmethod
    def forward(t: Tensor) -> Tensor:
        return _hazard(t)

    @staticmethod
    def backward(ctx: Context, *grads: Tensor) -> Tensor:
        (t,) = ctx.saved_tensors
        return -grads[0] * hazard(t) * cumulant(t, 1)


def cumulant(t: Tensor, order: int) -> Tensor:
    """Return the cumulant (order 1 mean, 2 variance, ...) of a Normal(t, 1) truncated to y > 0."""
    return _Cumulant.apply(t, order)  # pyright: ignore[reportReturnType]


def log_normalizer(t: Tensor) -> Tensor:
    """Return ``g(t) = t^2/2 + log Phi(t)``, for t < 0 as ``log(erfcx(-t / sqrt 2) / 2)``."""
    return _LogNormalizer.apply(t)  # pyright: ignore[reportReturnType]


def hazard(t: Tensor) -> Tensor:
    """Return ``phi(t) / Phi(t)``, the hazard rate of a standard Normal at -t."""
    return _Hazard.apply(t)  # pyright: ignore[reportReturnType]


def log_ndtr(t: Tensor) -> Tensor:
    """Return ``log Phi(t)``, with a derivative that is right for t << 0 too (torch's is not)."""
    low = torch.where(t < 0, t, 0.0)
    return torch.where(t < 0, log_normalizer(low) - low.square() / 2, _log_ndtr_above_0(t))


def split_log_ndtr(t: Tensor) -> Tensor:
    """Return ``log Phi(t)`` for t >= 0 and ``t^2/2 + log Phi(t)`` for t < 0.

    For t < 0 the rest of a log density contains t^2/2 too; here the two have been cancelled.
    """
    low = torch.where(t < 0, t, 0.0)
    return torch.where(t < 0, log_normalizer(low), _log_ndtr_above_0(t))


def _log_ndtr_above_0(t: Tensor) -> Tensor:
    # where, not clamp, whose derivative is 0 at the bound itself
    return torch.log1p(-ndtr(-torch.where(t < 0, 0.0, t)))


def ndtr(t: Tensor) -> Tensor:
    """Return ``Phi(t)``, accurate for t << 0 (torch.special.ndtr has no right digit below -9)."""
    return torch.special.erfc(-t / math.sqrt(2)) / 2


def polynomial(x: Tensor, coefficients: Sequence[float]) -> Tensor:
    """Return the sum of `coefficients[k] * x**k`."""
    total = torch.full_like(x, coefficients[-1])
    for coefficient in reversed(coefficients[:-1]):
        total = total * x + coefficient
    return total


def atanh_tail(squared: Tensor) -> Tensor:
    """Return ``(atanh(w)/w - 1) / w^2 = 1/3 + w^2/5 + ...`` from w^2 <= 0.05."""
    return polynomial(squared, _ATANH_TAIL)


def excess_over_log(ratio: Tensor, excess: Tensor) -> Tensor:
    """Return ``excess - log(ratio)``, at least 0, for ``ratio = 1 + excess`` given in both forms.

    Near 1, log(1 + y) = 2 atanh(w) with w = y/(2 + y) makes it y w - 2 w^3 (1/3 + w^2/5 + ...).
    The derivative goes through `excess` alone near 1 and through both elsewhere.
    """
    near = excess.abs() < 0.3
    y = torch.where(near, excess, 0.0)
    w = y / (2 + y)
    series = y * w - 2 * w * w.square() * atanh_tail(w.square())
    return torch.where(near, series, excess - torch.where(near, 1.0, ratio).log())
