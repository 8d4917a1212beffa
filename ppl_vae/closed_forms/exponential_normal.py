"""The toy with exact answers: Exponential prior, Normal observations, Exponential guide.

    p(z) = Exponential(rate=lam)         z > 0
    p(x_i | z) = Normal(z, s)            i = 1..n, independent
    q(z) = Exponential(rate=r)

lam is `prior_rate` and s is `noise_scale`; both are numbers, or tensors that broadcast against the
batch of data sets, as `guide_rate` r is. Below, m = n / s^2, S = sum(x_i) / s^2 and B = S - lam.
Everything is computed in float64 and returned in the dtype of the arguments.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ppl_vae.checks import Real
from ppl_vae.closed_forms.numerics.special import HALF_LOG_TWO_PI, split_log_ndtr
from ppl_vae.closed_forms.parts.exponential_normal_data import promoted, shifted_mean
from ppl_vae.closed_forms.parts.exponential_normal_guide import (
    elbo,
    kl_to_posterior,
    optimal_guide_rate,
)
from ppl_vae.closed_forms.parts.exponential_normal_noise import (
    gradient_variance,
    probability_of_negative_kl,
    value_variance,
)
from ppl_vae.closed_forms.truncated_normal import TruncatedNormal

__all__ = [
    "TruncatedNormal",
    "elbo",
    "gradient_variance",
    "kl_to_posterior",
    "log_evidence",
    "optimal_guide_rate",
    "posterior",
    "probability_of_negative_kl",
    "value_variance",
]


def log_evidence(x: Tensor, *, prior_rate: Real = 1.0, noise_scale: Real = 1.0) -> Tensor:
    """Return the log evidence log p(x), in nats.

    ``log lam - (n/2) log(2 pi s^2) - sum(x_i^2) / (2 s^2) + B^2/(2m) + (1/2) log(2 pi / m)
    + log Phi(B / sqrt(m))``

    Args:
        x: data sets, (*batch, n), n at least 1.
        prior_rate: lam > 0, broadcasts against (*batch).
        noise_scale: s > 0, in the units of x, broadcasts against (*batch).

    Returns:
        (*batch), nats, summed over the n observations of a data set.

    Raises:
        TypeError: `x` is no floating-point tensor, or another argument neither one nor a number.
        ValueError: empty data, NaN or infinity, a rate or scale not above 0, shapes that do not
            broadcast.

    Source:
        p(x, z) is lam (2 pi s^2)^(-n/2) exp(-sum(x_i^2) / (2 s^2) + B z - m z^2/2); complete the
        square and integrate over z > 0. For B >= 0 the squares are merged by hand, about the mean
        of x; for B < 0 the last three terms are log(erfcx(-B / sqrt(2m)) / 2)
        + (1/2) log(2 pi / m).

    Example:
        >>> log_evidence(torch.tensor([0.3, 1.2])).item()  # doctest: +ELLIPSIS
        -2.417...
    """
    dtype, (x, prior, scale) = promoted(x, prior_rate=prior_rate, noise_scale=noise_scale)
    n = x.shape[-1]
    mean = x.mean(-1)
    squares = (x - mean.unsqueeze(-1)).square().sum(-1)
    loc = shifted_mean(x, scale, prior)
    t = loc * math.sqrt(n) / scale
    exponent = torch.where(
        t < 0, -n * mean.square() / (2 * scale.square()), -prior * (mean + loc) / 2
    )
    constant = prior.log() - (n - 1) * (scale.log() + HALF_LOG_TWO_PI) - 0.5 * math.log(n)
    result = constant - squares / (2 * scale.square()) + exponent + split_log_ndtr(t)
    return result.to(dtype)


def posterior(x: Tensor, *, prior_rate: Real = 1.0, noise_scale: Real = 1.0) -> TruncatedNormal:
    """Return the posterior p(z | x): ``Normal(B/m, 1/sqrt(m))`` truncated to z > 0.

    Args:
        x: data sets, (*batch, n), n at least 1.
        prior_rate: lam > 0, broadcasts against (*batch).
        noise_scale: s > 0, in the units of x, broadcasts against (*batch).

    Returns:
        A `TruncatedNormal` of batch shape (*batch), which computes with float64 parameters and
        returns the dtype of x.

    Raises:
        TypeError: as `log_evidence`.
        ValueError: as `log_evidence`.

    Source:
        p(x, z) as a function of z is proportional to exp(B z - m z^2/2) on z > 0.

    Example:
        >>> posterior(torch.tensor([0.3, 1.2])).mean.item()  # doctest: +ELLIPSIS
        0.665...
    """
    dtype, (x, prior, scale) = promoted(x, prior_rate=prior_rate, noise_scale=noise_scale)
    loc = shifted_mean(x, scale, prior)
    return TruncatedNormal(loc, scale / math.sqrt(x.shape[-1]), dtype=dtype)
