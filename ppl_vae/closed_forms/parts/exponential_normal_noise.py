"""Variances of the toy's one-sample estimators, and how often a one-sample KL is negative.

A draw of the guide is z = e / r with e ~ Exponential(1), whose moments are E[e^k] = k!. Symbols as
in `exponential_normal`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ppl_vae import checks
from ppl_vae.checks import Real
from ppl_vae.closed_forms.numerics.special import HALF_LOG_TWO_PI, atanh_tail
from ppl_vae.closed_forms.parts.exponential_normal_data import (
    promoted,
    promoted_rates,
    shifted_mean,
)

ESTIMATORS = ("trace", "trace_mean_field", "sticking_the_landing", "score_function")


def gradient_variance(
    x: Tensor, guide_rate: Real, *, estimator: str, prior_rate: Real = 1.0, noise_scale: Real = 1.0
) -> Tensor:
    """Return the variance of a one-sample estimate of d elbo / d r.

    The reparameterised gradients are ``const + a e + b e^2`` with ``b = m / r^3``, so that
    ``Var = a^2 + 8 a b + 20 b^2 = b^2 ((a/b + 4)^2 + 4)``:

    * ``trace`` (total derivative): ``a = -B / r^2``
    * ``trace_mean_field`` (analytic KL to the prior): ``a = -S / r^2``
    * ``sticking_the_landing`` (no score term of log q): ``a = -(B + r) / r^2``

    ``score_function`` is ``f(z) d log q(z) / d r`` with ``f = log p(x, z) - log q(z)`` held fixed,
    no baseline, and without the term ``-d log q(z) / d r``, whose expectation is 0: what Pyro's
    Trace_ELBO does when the guide's distribution has no rsample. It is
    ``(1 - e)(c0 + a e + b e^2) / r`` with ``c0 = log p(x, z=0) - log r``, ``a = B/r + 1`` and
    ``b = -m / (2 r^2)``, so that ``r^2 Var = (c0 + 3a + 14b)^2 + 4 (a + 8b)^2 + 36 b^2``.

    Args:
        x: data sets, (*batch, n), n at least 1.
        guide_rate: r > 0, broadcasts against (*batch).
        estimator: one of the four names above; hyphens may stand for the underscores.
        prior_rate: lam > 0, broadcasts against (*batch).
        noise_scale: s > 0, in the units of x, broadcasts against (*batch).

    Returns:
        (*batch), nats^2 per squared unit of r, for the elbo of a whole data set (summed over its n
        observations).

    Raises:
        TypeError: `x` is no floating-point tensor, or a rate or scale neither one nor a number.
        ValueError: an unknown estimator, empty data, NaN or infinity, a rate or scale not above 0,
            shapes that do not broadcast.

    Source:
        E[e^k] = k!; for the score function also E[(1-e)^2 e^k] = k! (k^2 + k + 1).

    Example:
        >>> x, rates = torch.tensor([1.0]), torch.tensor([0.5, 1.0])
        >>> gradient_variance(x, rates, estimator="trace").tolist()
        [1280.0, 20.0]
    """
    kind = _estimator(estimator)
    dtype, (x, rate, prior, scale) = promoted(
        x, guide_rate=guide_rate, prior_rate=prior_rate, noise_scale=noise_scale
    )
    if kind == "score_function":
        return _score_function_variance(x, rate, prior, scale).to(dtype)
    pull = rate * _centre(kind, x, rate, prior, scale)  # -a/b
    curvature = x.shape[-1] / (scale.square() * rate**3)
    return (curvature.square() * ((pull - 4).square() + 4)).to(dtype)


def value_variance(
    x: Tensor, guide_rate: Real, *, estimator: str, prior_rate: Real = 1.0, noise_scale: Real = 1.0
) -> Tensor:
    """Return the variance of a one-sample estimate of the ELBO.

    The value is ``const + a e + b e^2`` with ``b = -m / (2 r^2)``, so that
    ``Var = a^2 + 8 a b + 20 b^2``. ``trace_mean_field``, with its analytic KL to the prior, has
    ``a = S/r``; ``trace``, ``sticking_the_landing`` and ``score_function`` differ in their
    gradients only, and have ``a = B/r + 1``.

    Args:
        x: data sets, (*batch, n), n at least 1.
        guide_rate: r > 0, broadcasts against (*batch).
        estimator: one of the four names above; hyphens may stand for the underscores.
        prior_rate: lam > 0, broadcasts against (*batch).
        noise_scale: s > 0, in the units of x, broadcasts against (*batch).

    Returns:
        (*batch), nats^2, for the elbo of a whole data set (summed over its n observations).

    Raises:
        TypeError: as `gradient_variance`.
        ValueError: as `gradient_variance`.

    Source:
        E[e^k] = k! in Var(a e + b e^2) = a^2 Var(e) + 2 a b Cov(e, e^2) + b^2 Var(e^2).

    Example:
        >>> value_variance(torch.tensor([1.0]), 1.0, estimator="trace").item()
        2.0
    """
    kind = _estimator(estimator)
    dtype, (x, rate, prior, scale) = promoted(
        x, guide_rate=guide_rate, prior_rate=prior_rate, noise_scale=noise_scale
    )
    if kind != "trace_mean_field":
        kind = "sticking_the_landing"  # whose gradient has the same B + r
    pull = rate * _centre(kind, x, rate, prior, scale)  # -a/(2b)
    curvature = x.shape[-1] / (scale * rate).square()
    return (curvature.square() * ((pull - 2).square() + 1)).to(dtype)


def probability_of_negative_kl(q_rate: Real, p_rate: Real) -> Tensor:
    """Return P(log q(z) - log p(z) < 0), z ~ q, for q = Exponential(r) and p = Exponential(lam).

    ``exp(-tau) = (lam/r)^(r/(r-lam))`` for r > lam, ``1 - exp(-tau)`` for r < lam, with
    ``tau = r log(r/lam) / (r - lam)``.

    tau is 1 at r = lam, so the probability tends to 1/e = 0.368 from above and to 1 - 1/e = 0.632
    from below; at r = lam itself every one-sample KL is 0, and the probability is 0.

    Args:
        q_rate: r > 0.
        p_rate: lam > 0, broadcasts against `q_rate`.

    Returns:
        Probabilities of the broadcast shape.

    Raises:
        TypeError: an argument is neither a number nor a floating-point tensor.
        ValueError: a value not finite and above 0, or shapes that do not broadcast.

    Source:
        log q - log p = log(r/lam) - (r - lam) e/r changes sign at e = tau. It is computed as
        tau = (1 + w) atanh(w)/w with w = (r - lam)/(r + lam), which is smooth at w = 0.

    Example:
        >>> probability_of_negative_kl(1.5, 1.0).item()  # doctest: +ELLIPSIS
        0.296...
    """
    dtype, (q, p) = promoted_rates(q_rate=q_rate, p_rate=p_rate)
    middle = q / 2 + p / 2
    w = (q - p) / 2 / middle
    near = w.abs() < 0.2
    small = torch.where(near, w, 0.0)
    series = 1 + small.square() * atanh_tail(small.square())
    direct = (q.log() - p.log()) / (2 * torch.where(near, 1.0, w))
    tau = q / middle * torch.where(near, series, direct)
    result = torch.where(w > 0, (-tau).exp(), -torch.expm1(-tau))
    return torch.where(w == 0, 0.0, result).to(dtype)


def _estimator(name: str) -> str:
    plain = name.replace("-", "_") if isinstance(name, str) else name
    return checks.name("estimator", plain, ESTIMATORS)


def _centre(kind: str, x: Tensor, rate: Tensor, prior: Tensor, scale: Tensor) -> Tensor:
    if kind == "trace":
        return shifted_mean(x, scale, prior)  # B/m
    if kind == "sticking_the_landing":
        return shifted_mean(x, scale, prior, less=rate)  # (B + r)/m
    return shifted_mean(x, scale, 0 * prior)  # S/m


def _score_function_variance(x: Tensor, rate: Tensor, prior: Tensor, scale: Tensor) -> Tensor:
    n = x.shape[-1]
    variance = scale.square()
    joint_at_zero = -x.square().sum(-1) / (2 * variance) - n * (scale.log() + HALF_LOG_TWO_PI)
    c0 = joint_at_zero + prior.log() - rate.log()
    a = shifted_mean(x, scale, prior, less=rate) * n / (variance * rate)
    b = -n / (2 * variance * rate.square())
    total = (c0 + 3 * a + 14 * b).square() + 4 * (a + 8 * b).square() + 36 * b.square()
    return total / rate.square()
