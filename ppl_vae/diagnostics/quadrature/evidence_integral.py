"""The integral of an unnormalised density over one or two dimensions, found by itself."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.distributions import constraints

from ppl_vae import checks
from ppl_vae.diagnostics.estimate import Estimate
from ppl_vae.diagnostics.quadrature.adaptive import MOST_EVALUATIONS, integrate
from ppl_vae.diagnostics.quadrature.coordinates import (
    Coordinates,
    about_bulk,
    bounds_of,
    cell_sizes,
    midpoints,
)
from ppl_vae.diagnostics.quadrature.function_values import function_values
from ppl_vae.diagnostics.quadrature.gauss import LARGEST_DIMENSION

_MOST_ROUNDS = 250


def integrate_evidence(
    log_joint: Callable[[Tensor], Tensor],
    *,
    dim: int,
    loc: Tensor | float = 0.0,
    scale: Tensor | float = 1.0,
    support: constraints.Constraint = constraints.real,
    num_points: int | None = None,
    tolerance: float = 1e-12,
) -> Estimate[Tensor]:
    """Return ``log integral exp(log_joint(z)) dz`` with a bound of its numerical error.

    With ``log_joint(z) = log p(x, z)`` this is the log evidence log p(x). Nothing but values of
    `log_joint` is used, so it judges closed forms and estimators alike. A coarse grid over the
    whole support is drawn in towards the mass, round by round (median, width and correlation of
    the density on the grid before), then adaptive cubature takes over in those coordinates.

    Args:
        log_joint: from z, (num_points, *batch, dim), to nats, (num_points, *batch); minus infinity
            where the density is 0.
        dim: 1 or 2.
        loc: where the search begins, in the units of z, (*batch, dim) or what broadcasts to it.
        scale: its unit of length there, above 0, like `loc`. Neither needs to be close: a factor
            of 1e6 costs some rounds.
        support: of each dimension: ``constraints.real``, ``positive``, or any half-line or
            interval.
        num_points: the number of evaluations of the cubature at which to give up; by default
            50,000 in one dimension and 1,000,000 in two.
        tolerance: relative error of the integral to be reached; at least 100 times the rounding
            unit of the dtype is taken, and what rounding leaves of `log_joint`.

    Returns:
        Mean (*batch), nats; its ``standard_error`` is no statistical error but a bound of the
        numerical one (the sum over all subregions of the distance between two rules, and
        rounding), in nats; ``num_samples`` is the number of points at which `log_joint` was
        evaluated (each for the whole batch). ``warning`` says where the search did not settle or
        the cubature did not converge. A mode that the coarse grid never meets is not found, and
        no number here can tell. No gradients.

    Raises:
        TypeError: `dim` is no int, the support is no interval, or `log_joint` returns no
            floating-point tensor.
        ValueError: `dim` not 1 or 2, no entries, shapes that do not broadcast, a scale not above
            0, or `log_joint` returns a wrong shape, NaN, plus infinity, or minus infinity
            everywhere.

    Source:
        Cubature: ``scipy.integrate.cubature``, product Gauss-Kronrod rule, in the coordinates of
        ``ppl_vae.diagnostics.quadrature.coordinates``.

    Example:
        >>> normal = torch.distributions.Normal(torch.tensor(3.0, dtype=torch.float64), 1e-3)
        >>> found = integrate_evidence(lambda z: normal.log_prob(z[..., 0]) - 700, dim=1)
        >>> round(found.mean.item(), 9)
        -700.0
    """
    checks.count("dim", dim)
    if dim > LARGEST_DIMENSION:
        raise ValueError(
            checks.message("dim of 1 or 2", f"{dim}", "Use an estimator of the evidence instead.")
        )
    if num_points is not None:
        checks.count("num_points", num_points)
    checks.positive_number("tolerance", tolerance)
    start, unit = checks.floats(loc=loc, scale=scale)
    checks.finite("loc", checks.nonempty("loc", start))
    checks.positive("scale", unit)
    shape = checks.broadcastable(loc=start, scale=unit, dim=start.new_empty(dim))
    if shape[-1] != dim:
        raise ValueError(
            checks.message(
                f"loc and scale of shape (*batch, {dim})", f"{tuple(shape)}", "Check dim."
            )
        )
    dtype, batch = start.dtype, shape[:-1]
    lower, upper = (end.to(start.device) for end in bounds_of(support, shape))
    bounds = lower, upper

    def log_density(coordinates: Coordinates, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return z, the log density of t at it, and that of z."""
        z, log_slope = coordinates(t)
        log_p = function_values(
            "log_joint",
            log_joint,
            z,
            batch,
            where=log_slope > -math.inf,
            may_be_zero_density=True,
        ).double()
        return z.double(), log_p + log_slope, log_p

    grid = midpoints(dim, start.device)
    with torch.no_grad():
        unit = unit.detach().double().expand(shape)
        margin = unit.minimum(upper - lower) / 2
        centre = start.detach().double().minimum(upper - margin).maximum(lower + margin)
        coordinates = Coordinates.around(centre, torch.diag_embed(unit), bounds, dtype)
        settled, rounds = False, 0
        while not settled and rounds < _MOST_ROUNDS:
            z, log_t, _ = log_density(coordinates, grid)
            _require_mass(log_t)
            coordinates, settled = _drawn_in(coordinates, grid, z, log_t)
            rounds += 1
        _, log_t, log_p = log_density(coordinates, grid)
        _require_mass(log_t)
        reference = log_t.logsumexp(0) + math.log(2**dim / len(grid))
        # What floating-point numbers leave of log_joint, and of z in units of the density's width.
        eps = torch.finfo(dtype).eps
        coarseness = (coordinates.origin / coordinates.size).abs().amax(-1)
        rounding = eps * (16 + 2 * log_p.amax(0).abs() + coarseness)
        tolerance = max(tolerance, 100 * eps, 8 * float(rounding.max())) / 2

    def integrand(t: Tensor) -> Tensor:
        return (log_density(coordinates, t)[1] - reference).exp().reshape(len(t), -1)

    found = integrate(
        integrand,
        dim=dim,
        tolerance=tolerance,
        max_evaluations=num_points or MOST_EVALUATIONS[dim],
        device=start.device,
    )
    value, error = found.value.reshape(batch), found.error.reshape(batch)
    mean = reference + value.log()
    error = torch.where(value > 0, error / value + rounding, torch.inf)
    warnings = []
    if not settled:
        warnings.append(
            f"the search did not settle in {_MOST_ROUNDS} rounds: pass loc and scale, or the "
            "integral does not exist"
        )
    if not bool((value.log().abs() < 1).all()):
        warnings.append(
            "grid and cubature disagree about where the mass is: pass loc and scale, or integrate "
            "each mode by itself"
        )
    if not found.converged:
        warnings.append(
            f"the relative error did not come below {tolerance:.1e} in {found.num_evaluations} "
            "evaluations: raise num_points, or the integral does not exist"
        )
    return Estimate(
        mean.to(dtype),
        error.to(dtype),
        found.num_evaluations + (rounds + 1) * len(grid),
        "; ".join(warnings),
    )


def _drawn_in(
    old: Coordinates, grid: Tensor, z: Tensor, log_t: Tensor
) -> tuple[Coordinates, bool]:
    """Return coordinates about the mass on a grid in the old ones, and whether they agree.

    The grid's points are t, (count, dim), or z, (count, *batch, dim), with log densities of t.
    """
    weights = log_t.softmax(0)
    # No sharper than the grid can tell, where one cell of it holds most.
    cell = cell_sizes(grid)[weights.argmax(0)] * weights.amax(0).unsqueeze(-1)
    blur = old.scale_tril * cell.unsqueeze(-2) / math.sqrt(12)
    new = about_bulk(z, old.bounds, old.dtype, weights=weights, blur=blur)
    if not bool(new.scale_tril.isfinite().all() & new.origin.isfinite().all()):
        return old, False
    before, now = (c.scale_tril.diagonal(dim1=-2, dim2=-1) for c in (old, new))
    ratio = now / before
    moved = ((new.origin - old.origin) / old.size).abs()
    same = (ratio > 0.7) & (ratio < 1.4) & (moved < 0.3)
    return new, bool(same.all())


def _require_mass(log_t: Tensor) -> None:
    if bool((log_t.amax(0) == -math.inf).any()):
        raise ValueError(
            checks.message(
                "log_joint(z) above minus infinity somewhere",
                "minus infinity at every point of the first grid",
                "Pass loc and scale of where the density is, and its support.",
            )
        )
