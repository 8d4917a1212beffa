"""Kullback-Leibler divergences in closed form, q first: KL(q || p) = E_q[log q - log p].

In nats, elementwise over batch dimensions; nothing is summed, except for the event dimension of
`kl_mvn_mvn`. Each is computed in float64 as a sum of terms that are not negative, and returned in
the dtype that came. Its digits are right where q and p nearly agree, it is 0 where they are equal,
and infinite only where it exceeds the dtype's range. Gradients are finite wherever the value is:
one that exceeds the range of a dtype narrower than float64 becomes that dtype's largest number.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from ppl_vae.checks import Real
from ppl_vae.closed_forms.numerics.kl_terms import (
    exp_gap,
    log1p_series,
    prepare,
    quotient_gap,
    tame_log,
)
from ppl_vae.closed_forms.parts.kl_gamma import kl_gamma_gamma
from ppl_vae.closed_forms.parts.kl_multivariate import kl_mvn_mvn

__all__ = [
    "kl_bernoulli_bernoulli",
    "kl_exponential_exponential",
    "kl_gamma_gamma",
    "kl_laplace_laplace",
    "kl_mvn_mvn",
    "kl_normal_normal",
    "kl_normal_standard",
    "kl_normal_standard_from_log_variance",
]


def kl_normal_normal(q_loc: Real, q_scale: Real, p_loc: Real, p_scale: Real) -> Tensor:
    """Return KL(q || p) of two Normal distributions, elementwise.

        KL = (t^2 - 1) / 2 - log t + ((q_loc - p_loc) / p_scale)^2 / 2,     t = q_scale / p_scale

    The KL of a product of independent distributions is the sum of their KLs, so summing over
    latent dimensions, and over examples, is right; it is left to the caller.

    Args:
        q_loc: mean of q, shape (*batch), any finite number, in the units of the variable.
        q_scale: standard deviation of q, shape (*batch), above 0, in the same units.
        p_loc: mean of p, as `q_loc`.
        p_scale: standard deviation of p, as `q_scale`.

    Returns:
        The divergence in nats, shape (*batch) after broadcasting; nothing is summed.

    Raises:
        TypeError: an argument is neither a number nor a floating-point tensor.
        ValueError: a loc is not finite, a scale is not finite and above 0, or shapes do not
            broadcast.

    Source:
        The expectation of log q - log p, with E_q[(z - p_loc)^2] = q_scale^2 + (q_loc - p_loc)^2.
        With d = t - 1, from q_scale - p_scale, the first terms are d^2 / 2 + (d - log(1 + d)).

    Example:
        >>> kl_normal_normal(torch.tensor([1.0, 3.0]), 1.0, 0.0, 1.0)
        tensor([0.5000, 4.5000])
    """
    (q_loc, p_loc, q_scale, p_scale), dtype = prepare(
        {"q_loc": q_loc, "p_loc": p_loc}, q_scale=q_scale, p_scale=p_scale
    )
    squares = ((q_loc - p_loc) / p_scale).square() + ((q_scale - p_scale) / p_scale).square()
    return (squares / 2 + quotient_gap(q_scale, p_scale)).to(dtype)


def kl_normal_standard(q_loc: Real, q_scale: Real) -> Tensor:
    """Return KL(q || p) of a Normal q and the standard Normal p, elementwise.

        KL = (q_scale^2 + q_loc^2 - 1) / 2 - log q_scale

    Args:
        q_loc: mean of q, shape (*batch), any finite number.
        q_scale: standard deviation of q, shape (*batch), above 0.

    Returns:
        The divergence in nats, shape (*batch) after broadcasting; nothing is summed.

    Raises:
        TypeError: an argument is neither a number nor a floating-point tensor.
        ValueError: `q_loc` is not finite, `q_scale` is not finite and above 0, or shapes do not
            broadcast.

    Source:
        `kl_normal_normal` at p_loc = 0, p_scale = 1.

    Example:
        >>> kl_normal_standard(torch.tensor([0.0, 2.0]), 1.0)
        tensor([0., 2.])
    """
    return kl_normal_normal(q_loc, q_scale, 0.0, 1.0)


def kl_normal_standard_from_log_variance(q_loc: Real, q_log_variance: Real) -> Tensor:
    """Return KL(q || p) of a Normal q with this log-variance and the standard Normal p.

        KL = (exp(q_log_variance) - 1 - q_log_variance + q_loc^2) / 2

    Args:
        q_loc: mean of q, shape (*batch), any finite number.
        q_log_variance: 2 log(standard deviation of q), shape (*batch), any finite number.

    Returns:
        The divergence in nats, shape (*batch) after broadcasting; nothing is summed.

    Raises:
        TypeError: an argument is neither a number nor a floating-point tensor.
        ValueError: an argument is not finite, or shapes do not broadcast.

    Source:
        `kl_normal_standard` at q_scale = exp(q_log_variance / 2). Near 0, exp(v) - 1 - v is summed
        as its Taylor series.

    Example:
        >>> kl_normal_standard_from_log_variance(torch.tensor([0.0, 2.0]), 0.0)
        tensor([0., 2.])
    """
    (q_loc, q_log_variance), dtype = prepare({"q_loc": q_loc, "q_log_variance": q_log_variance})
    return ((exp_gap(q_log_variance) + q_loc.square()) / 2).to(dtype)


def kl_exponential_exponential(q_rate: Real, p_rate: Real) -> Tensor:
    """Return KL(q || p) of two Exponential distributions, elementwise.

        KL = log(q_rate / p_rate) + p_rate / q_rate - 1

    Args:
        q_rate: rate of q, shape (*batch), above 0, per unit of the variable.
        p_rate: rate of p, as `q_rate`.

    Returns:
        The divergence in nats, shape (*batch) after broadcasting; nothing is summed.

    Raises:
        TypeError: an argument is neither a number nor a floating-point tensor.
        ValueError: a rate is not finite and above 0, or shapes do not broadcast.

    Source:
        log q - log p = log(q_rate / p_rate) + (p_rate - q_rate) z, and E_q[z] = 1 / q_rate.

    Example:
        >>> kl_exponential_exponential(2.0, 1.0)
        tensor(0.1931)
    """
    (q_rate, p_rate), dtype = prepare({}, q_rate=q_rate, p_rate=p_rate)
    return quotient_gap(p_rate, q_rate).to(dtype)


def kl_laplace_laplace(q_loc: Real, q_scale: Real, p_loc: Real, p_scale: Real) -> Tensor:
    """Return KL(q || p) of two Laplace distributions, elementwise.

        KL = t (a + exp(-a)) - 1 - log t,   t = q_scale / p_scale, a = |q_loc - p_loc| / q_scale

    Args:
        q_loc: mean of q, shape (*batch), any finite number, in the units of the variable.
        q_scale: mean absolute deviation of q, shape (*batch), above 0, in the same units.
        p_loc: mean of p, as `q_loc`.
        p_scale: mean absolute deviation of p, as `q_scale`.

    Returns:
        The divergence in nats, shape (*batch) after broadcasting; nothing is summed.

    Raises:
        TypeError: an argument is neither a number nor a floating-point tensor.
        ValueError: a loc is not finite, a scale is not finite and above 0, or shapes do not
            broadcast.

    Source:
        E_q|z - q_loc| = q_scale and E_q|z - p_loc| = q_scale (a + exp(-a)), integrating on either
        side of p_loc. For a <= 1 it is (t - 1 - log t) + t (exp(-a) - 1 + a), both at least 0.

    Example:
        >>> kl_laplace_laplace(0.0, 2.0, 0.0, 1.0)
        tensor(0.3069)
    """
    (q_loc, p_loc, q_scale, p_scale), dtype = prepare(
        {"q_loc": q_loc, "p_loc": p_loc}, q_scale=q_scale, p_scale=p_scale
    )
    distance = (q_loc - p_loc).abs()
    ratio = q_scale / p_scale
    ratio = torch.where(ratio < torch.inf, ratio, 1.0)  # the result is infinite without it
    wide = distance > q_scale
    close = torch.where(wide, 0.0, distance) / q_scale
    near = quotient_gap(q_scale, p_scale) + ratio * exp_gap(-close)
    # exp(-750) is 0; the bound keeps 0 * inf out of the gradient.
    tail = ratio * (-torch.minimum(distance, 750 * q_scale) / q_scale).exp()
    logs = tame_log(ratio, q_scale.log() - p_scale.log())
    return torch.where(wide, distance / p_scale - 1 - logs + tail, near).to(dtype)


def kl_bernoulli_bernoulli(q_logits: Real, p_logits: Real) -> Tensor:
    """Return KL(q || p) of two Bernoulli distributions, elementwise.

        KL = softplus(y) - softplus(x) - (y - x) sigmoid(x)      with logits x of q and y of p

    Args:
        q_logits: log-odds of q, shape (*batch), any finite number.
        p_logits: log-odds of p, as `q_logits`.

    Returns:
        The divergence in nats, shape (*batch) after broadcasting; nothing is summed.

    Raises:
        TypeError: an argument is neither a number nor a floating-point tensor.
        ValueError: a log-odds is not finite, or shapes do not broadcast.

    Source:
        log p(k) = k y - softplus(y) and E_q[k] = sigmoid(x). Signs are turned so that x <= 0; for
        u = y - x near 0 it is s (exp(u) - 1 - u) - (v - log(1 + v)), with s = sigmoid(x) and
        v = s (exp(u) - 1).

    Example:
        >>> kl_bernoulli_bernoulli(0.0, 1.0)
        tensor(0.1201)
    """
    (x, y), dtype = prepare({"q_logits": q_logits, "p_logits": p_logits})
    sign = torch.where(x > 0, -1.0, 1.0)
    x, y = sign * x, sign * y
    u = y - x
    near = u.abs() < 0.5
    odds = x.exp()
    q = odds / (1 + odds)
    step = torch.where(near, u, 0.0)
    v = q * step.expm1()
    close = q * exp_gap(step) - log1p_series(v)
    far = -logsigmoid(-y) - odds.log1p() - u * q
    value = torch.where(near, close, far)
    # Below the smallest normal number rounding alone could leave a negative number.
    return torch.where(value < 0, 0.0, value).to(dtype)
