"""E_q[f(z)]: by sampling, by a Gauss rule, or by adaptive integration."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.distributions import Distribution

from ppl_vae import checks
from ppl_vae.diagnostics.estimate import Estimate
from ppl_vae.diagnostics.quadrature.adaptive import MOST_EVALUATIONS, integrate
from ppl_vae.diagnostics.quadrature.coordinates import about_bulk, bounds_of, midpoints
from ppl_vae.diagnostics.quadrature.function_values import function_values
from ppl_vae.diagnostics.quadrature.gauss import require_small, rule_for
from ppl_vae.diagnostics.sampling.distributions import device_of
from ppl_vae.seeding import Seed, derive, seeded

Function = Callable[[Tensor], Tensor]

_METHODS = ("monte-carlo", "quadrature", "adaptive")
_PILOT_DRAWS = 2000
_UNRELIABLE_MASS = 1e-6


def expectation(
    distribution: Distribution,
    function: Function,
    *,
    method: str = "monte-carlo",
    num_points: int | None = None,
    tolerance: float = 1e-10,
    seed: Seed = 0,
) -> Estimate[Tensor]:
    """Return E_q[f(z)] with its error, for a batch of distributions q.

    ==============  ===================================  =======================================
    method          mean                                 standard_error
    ==============  ===================================  =======================================
    `monte-carlo`   mean of f at independent draws       the statistical one, std(f) / sqrt(N)
    `quadrature`    Gauss-Hermite (Normal, Independent   no statistical error but an estimate
                    Normal, MultivariateNormal) or       of the numerical one: the larger
                    Gauss-Laguerre (Exponential,         distance to the rules with N - 1 and
                    Gamma), N points a dimension         N // 2 points, and rounding
    `adaptive`      cubature of f times the density,     no statistical error but a bound of
                    for any continuous distribution      the numerical one: the sum over all
                    over one or two dimensions with a    subregions of the distance between
                    density and a sampler                two rules; mass of q that was not
                                                         found; rounding
    ==============  ===================================  =======================================

    The numerical errors are bounds where f is smooth; where it has kinks (a network of ReLUs) or
    jumps, rules can agree by chance and the error fall short: for Gauss rules on ReLU networks by
    a factor of 1.2 in one case of a hundred, of 9 in one of a thousand. A method that has reason
    to doubt its own error says so in ``warning``. `monte-carlo` serves discrete
    distributions and any dimension as well.

    Args:
        distribution: q; batch shape (*batch_shape).
        function: f, from z of shape (num_points, *batch_shape, *event_shape), of the
            distribution's dtype and device, to (num_points, *batch_shape).
        method: one of the three.
        num_points: N, at least 1. `monte-carlo`: draws, by default 1000. `quadrature`: points for
            each event dimension, by default 32. `adaptive`: the number of evaluations at which to
            give up, by default 50,000 in one dimension and 1,000,000 in two.
        tolerance: for `adaptive`, the error asked for, relative to E|f|; at least 100 times the
            rounding unit of the dtype is taken, and what rounding leaves of z.
        seed: of the draws; the other methods give the same answer for every seed.

    Returns:
        Mean and standard error of shape (*batch_shape), in the units of f, summed and averaged
        over nothing but z; ``num_samples`` is how many points f was evaluated at (each for the
        whole batch). The mean carries gradients in f, and in the parameters of q where z does:
        `monte-carlo` with ``rsample``, `quadrature` always. `adaptive` carries none.

    Raises:
        TypeError: `distribution` is no Distribution or not one that the method serves (discrete,
            or a support that is no product of intervals), or f returns no floating-point tensor.
        ValueError: an unknown method, an empty batch, `num_points` below 1, more than two event
            dimensions, or f returns a wrong shape or values that are not finite.

    Source:
        Gauss rules: Golub and Welsch (1969). Cubature: ``scipy.integrate.cubature``, product
        Gauss-Kronrod rule, in the coordinates of ``ppl_vae.diagnostics.quadrature.coordinates``.

    Example:
        >>> q = torch.distributions.Normal(torch.tensor([0.0, 1.0]), 1.0)
        >>> expectation(q, torch.square, method="quadrature", num_points=4).mean
        tensor([1.0000, 2.0000])
        >>> estimate = expectation(q, torch.square, num_points=400, seed=1)
        >>> bool((estimate.z_score(torch.tensor([1.0, 2.0])).abs() < 4.5).all())
        True
    """
    if not isinstance(distribution, Distribution):
        raise TypeError(
            checks.message(
                "distribution as a torch.distributions.Distribution",
                type(distribution).__name__,
                "Pass for instance torch.distributions.Normal(loc, scale).",
            )
        )
    if distribution.batch_shape.numel() == 0:
        raise ValueError(
            checks.message(
                "a distribution with at least one batch element",
                f"batch shape {tuple(distribution.batch_shape)}",
                "Pass data.",
            )
        )
    checks.name("method", method, _METHODS)
    if num_points is not None:
        checks.count("num_points", num_points)
    checks.function("function", function)
    if method == "monte-carlo":
        return _monte_carlo(distribution, function, num_points or 1000, seed)
    if method == "quadrature":
        return _quadrature(distribution, function, num_points or 32)
    checks.positive_number("tolerance", tolerance)
    most = num_points or MOST_EVALUATIONS[require_small(distribution)]
    return _adaptive(distribution, function, most, tolerance)


def draw(distribution: Distribution, count: int, seed: Seed) -> Tensor:
    """Return draws, reparameterised where that can be, from a random stream of their own."""
    with seeded(seed, device_of(distribution)):
        return (distribution.rsample if distribution.has_rsample else distribution.sample)(
            torch.Size([count])
        )


def _monte_carlo(
    distribution: Distribution, function: Function, count: int, seed: Seed
) -> Estimate[Tensor]:
    z = draw(distribution, count, seed)
    values = function_values("function", function, z, distribution.batch_shape)
    mean = values.double().mean(0)
    if count == 1:
        error = torch.full_like(mean, math.inf).detach()
        return Estimate(mean.to(values), error.to(values), 1, "one draw has no standard error")
    # From the first, so that equal values have an error of exactly 0.
    rest = (values - values[0]).detach().double()
    error = rest.std(0) / math.sqrt(count)
    return Estimate(mean.to(values), error.to(values), count)


def _quadrature(distribution: Distribution, function: Function, count: int) -> Estimate[Tensor]:
    mean, size, num_evaluations = _gauss(distribution, function, count)
    lower = {n for n in (count - 1, count // 2) if n >= 1}
    if not lower:
        error = torch.full_like(mean, math.inf).detach()
        return Estimate(mean, error, 1, "one point has no coarser rule to be compared with")
    error = torch.zeros_like(mean).detach()
    with torch.no_grad():
        for n in lower:
            coarse, _, cost = _gauss(distribution, function, n)
            error = error.maximum((mean - coarse).abs())
            num_evaluations += cost
        error = error + 8 * torch.finfo(mean.dtype).eps * size
    return Estimate(mean, error, num_evaluations)


def _gauss(
    distribution: Distribution, function: Function, count: int
) -> tuple[Tensor, Tensor, int]:
    """Return E[f] and E|f| by one rule, and its number of points."""
    z, weights = rule_for(distribution, count)
    shape = distribution.batch_shape
    values = function_values("function", function, z, shape, where=weights > 0)
    terms = weights.double() * values.double()
    return terms.sum(0).to(values), terms.detach().abs().sum(0).to(values), len(z)


def _adaptive(
    distribution: Distribution, function: Function, count: int, tolerance: float
) -> Estimate[Tensor]:
    dim, shape = require_small(distribution), distribution.batch_shape
    with torch.no_grad():
        draws = draw(distribution, _PILOT_DRAWS, derive(0, "expectation"))
        flat = torch.Size([*shape, dim])
        ends = bounds_of(distribution.support, shape + distribution.event_shape)
        bounds = (ends[0].to(draws.device).reshape(flat), ends[1].to(draws.device).reshape(flat))
        coordinates = about_bulk(draws.double().reshape(_PILOT_DRAWS, *flat), bounds, draws.dtype)

    def terms(t: Tensor) -> tuple[Tensor, Tensor]:
        """Return f and the density of t, both (num_points, *batch)."""
        z, log_slope = coordinates(t)
        z = z.reshape(-1, *shape, *distribution.event_shape)
        density = (distribution.log_prob(z).double() + log_slope).exp()
        density = density.nan_to_num(0.0, 0.0)  # a pole that z was rounded onto
        some = density > 0
        return function_values("function", function, z, shape, where=some).double(), density

    with torch.no_grad():
        grid = midpoints(dim, draws.device)
        values, density = terms(grid)
        size = (values.abs() * density).sum(0) * (2**dim / len(grid))
    size = torch.where(size > 0, size, torch.ones_like(size))

    def integrand(t: Tensor) -> Tensor:
        values, density = terms(t)
        return torch.stack([values * density / size, density], dim=1).reshape(len(t), -1)

    eps = torch.finfo(draws.dtype).eps
    # The last term: what floating-point numbers leave of z in units of the density's width.
    coarseness = float((coordinates.origin / coordinates.size).abs().max())
    tolerance = max(tolerance, 100 * eps, 8 * eps * coarseness)
    found = integrate(
        integrand,
        dim=dim,
        tolerance=tolerance,
        max_evaluations=count,
        device=draws.device,
    )
    value, mass = found.value.reshape(2, *shape)
    # What was not found of q may lie where f is large; a value of 1 is E|f|.
    error = found.error.reshape(2, *shape)[0] + (mass - 1).abs() * (1 + value.abs()) + 16 * eps
    error = torch.where((mass - 1).abs() < 0.5, error, torch.inf)
    warnings = []
    if not found.converged:
        warnings.append(
            f"the error did not come below {tolerance:.1e} in {found.num_evaluations} "
            "evaluations: raise num_points, or the expectation does not exist"
        )
    gap = float((mass - 1).abs().max())
    if not gap < max(_UNRELIABLE_MASS, 1e3 * eps):
        warnings.append(
            f"the density integrates to 1 only within {gap:.1e}: part of it was not found or it "
            "is not normalised, and the error is no bound"
        )
    return Estimate(
        (value * size).to(draws),
        (error * size).to(draws),
        found.num_evaluations + len(grid),
        "; ".join(warnings),
    )
