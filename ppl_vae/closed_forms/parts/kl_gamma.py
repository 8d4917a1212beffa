"""The divergence of two Gamma distributions, as a sum of non-negative terms."""

from __future__ import annotations

import torch
from torch import Tensor

from ppl_vae.checks import Real
from ppl_vae.closed_forms.numerics.kl_terms import (
    log1p_gap,
    log1p_series,
    power_above,
    prepare,
    product_difference,
    tame_log,
)
from ppl_vae.closed_forms.numerics.special import STIRLING

# The argument is stepped up before Stirling's series, sum_j B_2j / (2j (2j - 1)) x^(1 - 2j).
_STEPS = 8


def kl_gamma_gamma(
    q_concentration: Real, q_rate: Real, p_concentration: Real, p_rate: Real
) -> Tensor:
    """Return KL(q || p) of two Gamma distributions, elementwise.

    With a, b the concentrations and r, l the rates of q and p:

        KL = lgamma(b) - lgamma(a) - (b - a) digamma(a) + b log(r / l) + a (l / r - 1)

    Args:
        q_concentration: a, shape (*batch), above 0. Full accuracy is tested from 1e-30 to 1e30.
        q_rate: r, shape (*batch), above 0, per unit of the variable. Tested from 1e-30 to 1e30.
        p_concentration: b, as `q_concentration`.
        p_rate: l, as `q_rate`.

    Returns:
        The divergence in nats, shape (*batch) after broadcasting; nothing is summed.

    Raises:
        TypeError: an argument is neither a number nor a floating-point tensor.
        ValueError: a concentration or rate is not finite and above 0, or shapes do not broadcast.

    Source:
        The expectation of log q - log p, with E_q[log z] = digamma(a) - log r. It is computed as

            b g(a l / (b r) - 1) + D(b, a)      with g(u) = u - log(1 + u)

        where D is the gap between w(x) = lgamma(x) - x log x + x at b and its tangent at a. From
        w(x) - w(x + 1) = (x + 1) log(1 + 1/x) - 1 follows

            D(b, a) = (b + 1) g((b - a) / (a (b + 1))) + D(b + 1, a + 1)

        and far out Stirling's series gives D: -log(x) / 2 has the gap g((b - a) / a) / 2, and
        x^-m the gap (b - a)^2 / (a b) * sum_(l < m) (m - l) a^(l - m) b^-l.

    Example:
        >>> kl_gamma_gamma(1.0, 2.0, 1.0, 1.0)
        tensor(0.1931)
    """
    (a, r, b, rate), dtype = prepare(
        {},
        q_concentration=q_concentration,
        q_rate=q_rate,
        p_concentration=p_concentration,
        p_rate=p_rate,
    )
    a, r, b, rate = torch.broadcast_tensors(a, r, b, rate)
    return (_mean_gap(a, r, b, rate) + _shape_gap(b, a)).to(dtype)


def _mean_gap(a: Tensor, q_rate: Tensor, b: Tensor, p_rate: Tensor) -> Tensor:
    """Return b g(s - 1) for s = a p_rate / (b q_rate), the ratio of the means."""
    quotient = p_rate / q_rate
    ratio = (a / b) * quotient
    near = (ratio > 0.75) & (ratio < 1.25)
    log_ratio = (a.log() - b.log()) + (p_rate.log() - q_rate.log())
    far = a * quotient - b - b * tame_log(ratio, log_ratio)
    a, q_rate, c, p_rate = (torch.where(near, x, 1.0) for x in (a, q_rate, b, p_rate))
    unit, rate_unit = power_above(c), power_above(q_rate)
    a, c, q_rate, p_rate = a / unit, c / unit, q_rate / rate_unit, p_rate / rate_unit
    below = c * q_rate
    # The plain form gives the gradient; the exact one, digits where the products cancel.
    plain = (a * p_rate - c * q_rate) / below
    exact = product_difference(a, p_rate, c, q_rate) / below.detach()
    close = b * log1p_series(exact + (plain - plain.detach()))
    return torch.where(near, close, far)


def _shape_gap(b: Tensor, a: Tensor) -> Tensor:
    """Return D(b, a), the gap between w(x) = lgamma(x) - x log x + x at b and its tangent at a."""
    difference = b - a
    steps = torch.arange(_STEPS, dtype=a.dtype, device=a.device)
    low, high = a.unsqueeze(-1) + steps, b.unsqueeze(-1) + steps
    u = difference.unsqueeze(-1) / low / (high + 1)
    ratio = (high / low) * ((low + 1) / (high + 1))
    log_ratio = (high.log() - low.log()) + ((low + 1).log() - (high + 1).log())
    stepped = ((high + 1) * log1p_gap(u, ratio, log_ratio)).sum(-1)
    a, b = a + _STEPS, b + _STEPS
    half = log1p_gap(difference / a, b / a, b.log() - a.log()) / 2
    return stepped + half + (difference / a) * (difference / b) * _stirling(b, a)


def _stirling(b: Tensor, a: Tensor) -> Tensor:
    inverse_a, inverse_b = 1 / a, 1 / b
    power, inner, total = torch.ones_like(a), torch.zeros_like(a), torch.zeros_like(a)
    for m in range(1, 2 * len(STIRLING)):
        power = power * inverse_a
        inner = m * power + inverse_b * inner
        if m % 2:
            total = total + STIRLING[m // 2] * inner
    return total
