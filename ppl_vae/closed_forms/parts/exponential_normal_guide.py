"""The toy's Exponential guide: its ELBO, the best rate, and the KL to the posterior.

Symbols and the public names are in `exponential_normal`.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ppl_vae.checks import Real
from ppl_vae.closed_forms.numerics.special import (
    HALF_LOG_TWO_PI,
    TAIL,
    excess_over_log,
    split_log_ndtr,
    upper_tail_ratios,
)
from ppl_vae.closed_forms.parts.exponential_normal_data import promoted, shifted_mean


def elbo(
    x: Tensor, guide_rate: Real, *, prior_rate: Real = 1.0, noise_scale: Real = 1.0
) -> Tensor:
    """Return the ELBO of the guide Exponential(r), in nats.

    ``-(sum((x_i - 1/r)^2) + n/r^2) / (2 s^2) - (n/2) log(2 pi s^2) + log lam - lam/r - log r + 1``

    Args:
        x: data sets, (*batch, n), n at least 1.
        guide_rate: r > 0, broadcasts against (*batch).
        prior_rate: lam > 0, broadcasts against (*batch).
        noise_scale: s > 0, in the units of x, broadcasts against (*batch).

    Returns:
        (*batch), nats, summed over the n observations of a data set.

    Raises:
        TypeError: `x` is no floating-point tensor, or another argument neither one nor a number.
        ValueError: empty data, NaN or infinity, a rate or scale not above 0, shapes that do not
            broadcast.

    Source:
        E_q[z] = 1/r and Var_q[z] = 1/r^2 in E_q[log p(x | z)] + E_q[log p(z)], and the entropy of
        q is 1 - log r.

    Example:
        >>> elbo(torch.tensor([0.3, 1.2]), 1.5).item()  # doctest: +ELLIPSIS
        -2.5...
    """
    dtype, (x, rate, prior, scale) = promoted(
        x, guide_rate=guide_rate, prior_rate=prior_rate, noise_scale=noise_scale
    )
    n = x.shape[-1]
    guide_mean = rate.reciprocal()
    mean = x.mean(-1)
    squares = (x - mean.unsqueeze(-1)).square().sum(-1)
    squares = squares + n * ((mean - guide_mean).square() + guide_mean.square())
    log_likelihood = -squares / (2 * scale.square()) - n * (scale.log() + HALF_LOG_TWO_PI)
    return (log_likelihood + prior.log() - prior * guide_mean - rate.log() + 1).to(dtype)


def optimal_guide_rate(x: Tensor, *, prior_rate: Real = 1.0, noise_scale: Real = 1.0) -> Tensor:
    """Return the rate r* of the guide with the largest ELBO.

    ``r* = (-B + sqrt(B^2 + 8m)) / 2 = 4m / (B + sqrt(B^2 + 8m))``, the first form for B < 0.

    Args:
        x: data sets, (*batch, n), n at least 1.
        prior_rate: lam > 0, broadcasts against (*batch).
        noise_scale: s > 0, in the units of x, broadcasts against (*batch).

    Returns:
        (*batch), one rate per data set, in the inverse units of x.

    Raises:
        TypeError: as `elbo`.
        ValueError: as `elbo`.

    Source:
        elbo'(r) = -(r^2 + B r - 2m) / r^3 has one positive root.

    Example:
        >>> optimal_guide_rate(torch.tensor([0.3, 1.2])).item()  # doctest: +ELLIPSIS
        1.765...
    """
    dtype, (x, prior, scale) = promoted(x, prior_rate=prior_rate, noise_scale=noise_scale)
    spread = scale / math.sqrt(x.shape[-1])
    t = shifted_mean(x, scale, prior) / spread
    root = (t.square() + 8).sqrt() + t.abs()
    return (torch.where(t < 0, root / 2, 4 / root) / spread).to(dtype)


def kl_to_posterior(
    x: Tensor, guide_rate: Real, *, prior_rate: Real = 1.0, noise_scale: Real = 1.0
) -> Tensor:
    """Return KL(q || p(z | x)), the evidence less the ELBO, at least 0.

    ``t^2/2 + log Phi(t) + (1/2) log(2 pi) - t k + k^2 - log k - 1``, with ``t = B / sqrt(m)`` and
    ``k = sqrt(m) / r``.

    Args:
        x: data sets, (*batch, n), n at least 1.
        guide_rate: r > 0, broadcasts against (*batch).
        prior_rate: lam > 0, broadcasts against (*batch).
        noise_scale: s > 0, in the units of x, broadcasts against (*batch).

    Returns:
        (*batch), nats.

    Raises:
        TypeError: as `elbo`.
        ValueError: as `elbo`.

    Source:
        log p(x) - elbo(r): the terms in x alone drop out. For t << 0 the posterior is nearly
        Exponential(-B), the KL at r = r* is about 1/(2 t^4), and the form above cancels. There it
        is ``a b + f(a) + f(y) + v y (2 + y)`` with f(y) = y - log(1 + y), v = 1/t^2,
        1 + y = -B/r, and a = v/(1 + b) from the continued fraction of Mills' ratio R,
        -t R(-t) = 1/(1 + a); B + r, the numerator of -y, is computed with twice the digits.

    Example:
        >>> kl_to_posterior(torch.tensor([0.3, 1.2]), 1.5).item()  # doctest: +ELLIPSIS
        0.1...
    """
    dtype, (x, rate, prior, scale) = promoted(
        x, guide_rate=guide_rate, prior_rate=prior_rate, noise_scale=noise_scale
    )
    n = x.shape[-1]
    spread = scale / math.sqrt(n)
    loc = shifted_mean(x, scale, prior)
    guide_mean = rate.reciprocal()
    t, k = loc / spread, guide_mean / spread
    distance = (loc - guide_mean) / spread

    tail = t < -TAIL
    quadratic = torch.where(t < 0, k * (k - t), (distance.square() + k.square()) / 2)
    body = quadratic + split_log_ndtr(torch.where(tail, -TAIL, t)) + HALF_LOG_TWO_PI - k.log() - 1

    u = torch.where(tail, -t, TAIL)
    v = u.square().reciprocal()
    b = upper_tail_ratios(u, 2)[1] / u
    a = v / (1 + b)
    y = -shifted_mean(x, scale, prior, less=rate) / (rate * spread.square())
    w = -loc / (rate * spread.square())
    y, w = torch.where(tail, y, 0.0), torch.where(tail, w, 1.0)
    far = a * b + excess_over_log(1 + a, a) + excess_over_log(w, y) + v * y * (1 + w)
    return torch.where(tail, far, body).to(dtype)
