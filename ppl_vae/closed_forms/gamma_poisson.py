"""Counts of one unknown rate, with exact answers: Gamma prior, Poisson counts, Gamma guide.

    p(z) = Gamma(a, b)               z > 0
    p(x_i | z) = Poisson(z)          i = 1..n, independent
    q(z) = Gamma(c, r)

a is `concentration` and b is `rate`, c is `guide_concentration` and r is `guide_rate`; all are
numbers, or tensors that broadcast against the batch of data sets. Below, S = sum(x_i), A = a + S
and B = b + n. Everything is computed in float64 and returned in the dtype of the arguments.
"""

from __future__ import annotations

from torch import Tensor
from torch.distributions import Gamma

from ppl_vae.checks import Real
from ppl_vae.closed_forms.parts import gamma_poisson_parts as parts
from ppl_vae.closed_forms.parts.gamma_poisson_noise import GradientVariance, gradient_variance

__all__ = ["GradientVariance", "elbo", "gradient_variance", "log_evidence", "posterior"]


def log_evidence(x: Tensor, *, concentration: Real = 1.0, rate: Real = 1.0) -> Tensor:
    """Return the log evidence log p(x), in nats.

    ``a log b - lgamma(a) + lgamma(A) - A log B - sum(lgamma(x_i + 1))``

    Args:
        x: data sets of counts, (*batch, n), n at least 1, of a floating dtype.
        concentration: a > 0, broadcasts against (*batch).
        rate: b > 0, broadcasts against (*batch).

    Returns:
        (*batch), nats, summed over the n counts of a data set.

    Raises:
        TypeError: `x` is no floating-point tensor, or another argument neither one nor a number.
        ValueError: empty data, NaN or infinity, a number that is not whole or below 0, a
            concentration or rate not above 0, shapes that do not broadcast.

    Source:
        The integrand z^(A - 1) exp(-B z) is a Gamma density without its constant. With m = A/B,
        the posterior's mean, and lgamma(z) = (z - 1/2) log z - z + (1/2) log(2 pi) + s(z) it is

            (1/2) log(a/A) + s(A) - s(a) - d(a, b m) + sum(log Poisson(x_i; m)),

        d(x, y) = x log(x/y) + y - x, as the terms in a + S - B m are 0: no two large numbers
        cancel. It is computed so.

    Example:
        >>> log_evidence(torch.tensor([2.0, 0.0, 1.0])).item()  # doctest: +ELLIPSIS
        -4.446...
    """
    dtype, (x, a, b) = parts.counts(x, concentration=concentration, rate=rate)
    return parts.log_evidence(x, a, b).to(dtype)


def posterior(x: Tensor, *, concentration: Real = 1.0, rate: Real = 1.0) -> Gamma:
    """Return the posterior p(z | x): ``Gamma(A, B)``.

    Args:
        x: data sets of counts, (*batch, n), n at least 1, of a floating dtype.
        concentration: a > 0, broadcasts against (*batch).
        rate: b > 0, broadcasts against (*batch).

    Returns:
        A ``torch.distributions.Gamma`` of batch shape (*batch).

    Raises:
        TypeError: as `log_evidence`.
        ValueError: as `log_evidence`.

    Source:
        p(x, z) as a function of z is proportional to z^(A - 1) exp(-B z).

    Example:
        >>> posterior(torch.tensor([2.0, 0.0, 1.0])).mean.item()
        1.0
    """
    dtype, (x, a, b) = parts.counts(x, concentration=concentration, rate=rate)
    total, count = parts.posterior(x, a, b)
    return Gamma(total.to(dtype), count.expand_as(total).to(dtype))


def elbo(
    x: Tensor,
    *,
    concentration: Real = 1.0,
    rate: Real = 1.0,
    guide_concentration: Real,
    guide_rate: Real,
) -> Tensor:
    """Return the ELBO of the guide Gamma(c, r), in nats.

    ``a log b - lgamma(a) - sum(lgamma(x_i + 1)) + (A - c) digamma(c) - A log r - B c/r + c
    + lgamma(c)``

    Args:
        x: data sets of counts, (*batch, n), n at least 1, of a floating dtype.
        concentration: a > 0, broadcasts against (*batch).
        rate: b > 0, broadcasts against (*batch).
        guide_concentration: c > 0, broadcasts against (*batch).
        guide_rate: r > 0, broadcasts against (*batch).

    Returns:
        (*batch), nats, summed over the n counts of a data set.

    Raises:
        TypeError: as `log_evidence`.
        ValueError: as `log_evidence`.

    Source:
        E_q[z] = c/r and E_q[log z] = digamma(c) - log r in E_q[log p(x, z)], and the entropy of
        q is c - log r + lgamma(c) + (1 - c) digamma(c). It is computed as the log evidence less
        KL(Gamma(c, r) || Gamma(A, B)).

    Example:
        >>> x = torch.tensor([2.0, 0.0, 1.0])
        >>> elbo(x, guide_concentration=4.0, guide_rate=4.0).item()  # doctest: +ELLIPSIS
        -4.446...
    """
    dtype, (x, a, b, c, r) = parts.counts(
        x,
        concentration=concentration,
        rate=rate,
        guide_concentration=guide_concentration,
        guide_rate=guide_rate,
    )
    return parts.elbo(x, a, b, c, r).to(dtype)
