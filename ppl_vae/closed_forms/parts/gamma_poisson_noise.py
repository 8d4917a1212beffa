"""Variances of one-sample gradients of the ELBO of counts with a Gamma guide.

Symbols and the public names are in `gamma_poisson`.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ppl_vae import checks
from ppl_vae.checks import Real
from ppl_vae.closed_forms.parts import gamma_poisson_parts as parts

ESTIMATORS = ("trace", "trace_mean_field", "sticking_the_landing", "score_function")


class GradientVariance(NamedTuple):
    """Variances of a one-sample gradient, by parameter of the guide.

    Attributes:
        guide_concentration: of d elbo / d c, (*batch); None where no closed form is given.
        guide_rate: of d elbo / d r, (*batch).
    """

    guide_concentration: Tensor | None
    guide_rate: Tensor


def gradient_variance(
    x: Tensor,
    *,
    concentration: Real = 1.0,
    rate: Real = 1.0,
    guide_concentration: Real,
    guide_rate: Real,
    estimator: str,
) -> GradientVariance:
    """Return the variances of a one-sample estimate of d elbo / d c and d elbo / d r.

    With z = g/r and g ~ Gamma(c, 1), the reparameterised gradients by r are ``const + k g`` and
    their variance is ``k^2 c``:

    * ``trace`` (total derivative): ``k = B / r^2``
    * ``trace_mean_field`` (analytic KL to the prior): ``k = n / r^2``
    * ``sticking_the_landing`` (no score term of log q): ``k = (B - r) / r^2``

    Those by c go through dz/dc, minus the derivative of the distribution function over the
    density (implicit reparameterisation), which is no elementary function of z: no closed
    form is given for them.

    ``score_function`` is ``f(z) d log q(z)`` with ``f = log p(x, z) - log q(z)`` held fixed, no
    baseline, and without the term -d log q(z), whose expectation is 0. With u = log g - digamma(c)
    and v = g - c, f is ``elbo + w``, ``w = alpha u - beta v``, ``alpha = A - c`` and
    ``beta = B/r - 1``; the score s is u for c and -v/r for r. Then

        Var(f s) = elbo^2 k(s,s) + 2 elbo k(w,s,s) + k(w,w,s,s) + k(w,w) k(s,s) + k(w,s)^2

    with the joint cumulants k of u and v: those of u alone are digamma'(c), digamma''(c), ..., of
    v alone c, 2c, 6c, of one u with one, two or three v 1, 1, 2, and all others 0.

    Args:
        x: data sets of counts, (*batch, n), n at least 1, of a floating dtype.
        concentration: a > 0, broadcasts against (*batch).
        rate: b > 0, broadcasts against (*batch).
        guide_concentration: c > 0, broadcasts against (*batch).
        guide_rate: r > 0, broadcasts against (*batch).
        estimator: one of the four names above; hyphens may stand for the underscores.

    Returns:
        Both variances, (*batch) each, for the elbo of a whole data set.

    Raises:
        TypeError: as `log_evidence`.
        ValueError: an unknown estimator, or as `log_evidence`.

    Source:
        The joint cumulant generating function of log g and g is
        log E[g^s exp(t g)] = lgamma(c + s) - lgamma(c) - (c + s) log(1 - t), and a fourth moment
        of centred variables is their cumulant and three products of covariances.

    Example:
        >>> x = torch.tensor([2.0, 0.0, 1.0])
        >>> options = {"guide_concentration": 4.0, "guide_rate": 2.0}
        >>> gradient_variance(x, **options, estimator="trace").guide_rate.item()
        4.0
    """
    plain = estimator.replace("-", "_") if isinstance(estimator, str) else estimator
    kind = checks.name("estimator", plain, ESTIMATORS)
    dtype, (x, a, b, c, r) = parts.counts(
        x,
        concentration=concentration,
        rate=rate,
        guide_concentration=guide_concentration,
        guide_rate=guide_rate,
    )
    total, count = parts.posterior(x, a, b)
    if kind == "score_function":
        value = parts.elbo(x, a, b, c, r)
        by_c, by_r = _score_function_variances(value, total - c, (count - r) / r, c)
        return GradientVariance(by_c.to(dtype), (by_r / r.square()).to(dtype))
    slope = {"trace": count, "trace_mean_field": count - b, "sticking_the_landing": count - r}
    variance = (slope[kind] / r.square()).square() * c
    return GradientVariance(None, variance.expand_as(total + variance).to(dtype))


def _score_function_variances(
    value: Tensor, alpha: Tensor, beta: Tensor, c: Tensor
) -> tuple[Tensor, Tensor]:
    """Return Var(f u) and Var(f v)."""
    second, third, fourth = (torch.polygamma(k, c) for k in (1, 2, 3))
    spread = alpha.square() * second - 2 * alpha * beta + beta.square() * c
    by_u = value.square() * second + 2 * value * alpha * third + alpha.square() * fourth
    by_u = by_u + spread * second + (alpha * second - beta).square()
    by_v = value.square() * c + 2 * value * (alpha - 2 * beta * c)
    by_v = by_v + 6 * beta.square() * c - 4 * alpha * beta
    by_v = by_v + spread * c + (alpha - beta * c).square()
    return by_u, by_v
