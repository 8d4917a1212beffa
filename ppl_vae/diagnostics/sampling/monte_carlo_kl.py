"""KL divergences by sampling, with their standard errors."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.distributions import Distribution

from ppl_vae import checks
from ppl_vae.diagnostics.estimate import Estimate
from ppl_vae.diagnostics.sampling.density_ratio import second_moment_is_infinite
from ppl_vae.diagnostics.sampling.distributions import (
    check_pair,
    device_of,
    draw,
    elements_per_draw,
    log_density,
    supports,
)
from ppl_vae.seeding import Seed, as_int, derive, seeded

ESTIMATORS: dict[str, Callable[[Tensor], Tensor]] = {
    "k1": lambda log_ratio: -log_ratio,
    "k2": lambda log_ratio: log_ratio.square() / 2,
    # Near 0 rounding alone could leave a negative number.
    "k3": lambda log_ratio: (log_ratio.expm1() - log_ratio).clamp_min(0.0),
}
ELEMENTS_AT_ONCE = 2**19


def monte_carlo_kl(
    q: Distribution,
    p: Distribution,
    *,
    num_samples: int,
    estimator: str = "k1",
    seed: Seed = 0,
) -> Estimate[Tensor]:
    """Estimate KL(q || p) from draws of q, with its standard error, for a batch of pairs.

    With z ~ q and l = log p(z) - log q(z), the mean over the draws of

        k1 = -l                 unbiased; a mean of few draws is often negative, and rightly so
        k2 = l^2 / 2            never negative; biased: its mean is E_q[l^2] / 2
        k3 = exp(l) - 1 - l     never negative; unbiased where q has density wherever p has

    The distributions decide what is summed: dimensions that ``Independent``, or Pyro's
    ``to_event``, declare as event dimensions are summed, batch dimensions are not.

    k3 has an infinite variance, and so no standard error, where q is too narrow: for Normals
    where q.scale^2 <= p.scale^2 / 2 in any dimension, the usual case for a VAE's guide. `warning`
    then says so, decided by `second_moment_is_infinite` from closed forms: for Normal, LogNormal,
    HalfNormal, Laplace, Exponential and Gamma distributions and Gaussian vectors. There k1 and k2
    have finite variances always, as l is a polynomial (for Gammas with a logarithm, for Laplaces
    with absolute values) in a variable that has all moments. For other families an empty
    `warning` promises nothing.

    Args:
        q: what is drawn from; batch shape (*batch), any event shape.
        p: a distribution of the same event shape, whose batch shape broadcasts with q's.
        num_samples: draws for each pair, at least 2.
        estimator: ``k1``, ``k2`` or ``k3``.
        seed: an int, a ``torch.Generator``, or None for a fresh stream. The global random state
            stays as it is. Every entry of the batch has draws of its own.

    Returns:
        An `Estimate` of tensors in nats, (*batch) after broadcasting, in the dtype of the log
        densities and without gradient; sums are taken in float64. The error is that of sampling;
        rounding of the log densities is not in it. `mean` is infinite, with an error of 0, where
        log p was -inf at a draw of q: the divergence is then infinite, or above the dtype's range.
        It is NaN where log q was infinite, or a log density NaN. `warning` names these, too, and
        where draws of p outside of q's support show that k3 is biased.

    Raises:
        TypeError: q or p is no torch distribution, q cannot be sampled, `num_samples` is no int,
            or a seed of another kind.
        ValueError: an unknown estimator, `num_samples` below 2, event shapes that differ, batch
            shapes that do not broadcast or are empty, distributions on two devices, a discrete
            distribution against a continuous one, or a Delta for q, which has no density.

    Source:
        E_q[-l] is the definition; exp(l) - 1, whose mean under q is 0, is the control variate that
        makes k1 into k3; k2 is the leading term of k3 near l = 0 (Schulman 2020, Approximating KL
        divergence). Var(k3) is finite where E_q[exp(2 l)], the integral of p^2 / q, is.

    Example:
        >>> from torch.distributions import Independent, Normal
        >>> q = Independent(Normal(torch.ones(4, 3), 0.5), 1)
        >>> p = Independent(Normal(torch.zeros(3), 1.0), 1)
        >>> result = monte_carlo_kl(q, p, num_samples=500)
        >>> result.mean.shape
        torch.Size([4])
        >>> exact = torch.tensor(3 * (0.5**2 / 2 + math.log(2)))
        >>> bool((result.z_score(exact).abs() < 4.5).all())
        True
    """
    q, p, shape = check_pair(q, p)
    value = ESTIMATORS[checks.name("estimator", estimator, ESTIMATORS)]
    checks.count("num_samples", num_samples, minimum=2)
    at_once = max(1, ELEMENTS_AT_ONCE // elements_per_draw(q, p, shape))
    moments, dtype, narrow, beyond = _Moments(), torch.float64, None, None
    # A stream of its own: parameters may have been drawn from the same seed.
    number = derive(as_int(seed), "monte_carlo_kl")
    with torch.no_grad(), seeded(number, device_of(q)):
        for start in range(0, num_samples, at_once):
            z = draw(q, shape, min(at_once, num_samples - start))
            log_q, log_p = log_density(q, z), log_density(p, z)
            dtype = torch.promote_types(log_q.dtype, log_p.dtype)
            moments.add(value(log_p.double() - log_q.double()))
        mean, error = moments.result()
        if estimator == "k3":
            narrow = second_moment_is_infinite(q, p)
            beyond = _beyond(q, p, shape, min(at_once, 64))
    notes = (
        _note(narrow, shape, "q is too narrow for p", "k3 has infinite variance; use k1"),
        _note(beyond, shape, "p has mass where q has none", "k3 is biased; use k1"),
        _note(mean.isinf(), shape, "log p is -inf at a draw of q", "the divergence is infinite"),
        _note(mean.isnan(), shape, "log q is infinite, or NaN, at a draw of q", "no estimate"),
    )
    warning = " ".join(note for note in notes if note)
    return Estimate(mean.to(dtype), error.to(dtype), num_samples, warning)


class _Moments:
    """Mean and variance of draws that come in chunks (Chan, Golub and LeVeque 1979)."""

    def __init__(self) -> None:
        self._count = 0
        self._origin = self._mean = self._squares = torch.zeros(())
        self._infinite = self._invalid = torch.zeros((), dtype=torch.bool)

    def add(self, values: Tensor) -> None:
        """Take in `values`, (draws, *batch); an entry with one that is not finite is flagged."""
        infinite = (values == math.inf).any(0)
        invalid = (values.isnan() | values.isneginf()).any(0)
        values = values.nan_to_num(0.0, 0.0, 0.0)
        if self._count == 0:
            self._origin = values[0]  # so that equal draws have an error of exactly 0
        values = values - self._origin
        mean = values.mean(0)
        squares = (values - mean).square().sum(0)
        if self._count == 0:
            self._mean, self._squares = mean, squares
            self._infinite, self._invalid = infinite, invalid
        else:
            weight = len(values) / (self._count + len(values))
            gap = mean - self._mean
            self._mean = self._mean + weight * gap
            self._squares = self._squares + squares + gap.square() * (weight * self._count)
            self._infinite = self._infinite | infinite
            self._invalid = self._invalid | invalid
        self._count += len(values)

    def result(self) -> tuple[Tensor, Tensor]:
        """Return the mean and its standard error, (*batch)."""
        error = (self._squares / (self._count - 1) / self._count).sqrt()
        mean = (self._origin + self._mean).masked_fill(self._infinite, math.inf)
        mean = mean.masked_fill(self._invalid, math.nan)
        error = error.masked_fill(self._infinite, 0.0)
        return mean, error.masked_fill(self._invalid, math.nan)


def _beyond(q: Distribution, p: Distribution, shape: torch.Size, size: int) -> Tensor | None:
    """Return where one of a few draws of p is outside of q's support; None where unknown."""
    try:
        inside = supports(q, draw(p, shape, size))
    except TypeError:
        return None
    return None if inside is None else ~inside.all(0)


def _note(where: Tensor | None, shape: torch.Size, cause: str, effect: str) -> str:
    if where is None or not bool(where.any()):
        return ""
    where = where.expand(shape)
    first = ", ".join(map(str, where.nonzero()[0].tolist()))
    count = f" at {int(where.sum())} of {where.numel()} entries, the first [{first}]"
    return f"{cause}{count if shape else ''}: {effect}."
