"""The evidence of one or two latent dimensions, as exactly as asked for."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property

import pyro
import torch
from torch import Tensor
from torch.distributions import constraints

from ppl_vae import checks
from ppl_vae.batch import Data
from ppl_vae.diagnostics.evidence.density.log_joint import LogJoint
from ppl_vae.diagnostics.evidence.density.particles import Particles
from ppl_vae.diagnostics.evidence.grids.cells import Cells
from ppl_vae.diagnostics.evidence.grids.meshes import Meshed, integrate_each
from ppl_vae.diagnostics.evidence.grids.scattered import Scattered
from ppl_vae.diagnostics.evidence.result import Evidence, without_weights
from ppl_vae.diagnostics.quadrature.coordinates import (
    Coordinates,
    about_bulk,
    bounds_of,
    stretch_at,
)
from ppl_vae.diagnostics.quadrature.gauss import LARGEST_DIMENSION
from ppl_vae.elbos.sites.traces import latent_sites
from ppl_vae.seeding import derive, reseed

MAX_POINTS = 200_000
_GUIDE_DRAWS, _PRIOR_DRAWS = 128, 1024
_MODES = 16
_APART = 3.0
_NEAR = 0.25
_CELLS_PER_UNIT = 1 / 32
_NEGLIGIBLE = 20.0
_COARSE = 0.1


@torch.no_grad()
def quadrature_evidence(
    particles: Particles, x: Data, *, tolerance: float, max_bytes: int, seed: int
) -> Evidence:
    """Return ``log integral p(x_i, z) dz`` by adaptive cubature, example by example.

    In coordinates that are centred at the guide's draws and cover the whole space, cells are
    halved where the rule is not yet sure. So that a mode far from the guide is not overlooked,
    log p(x, z) is evaluated beforehand at draws from guide and prior, and a cell around any of
    them that matters is halved until it is as small as the guide is wide. The draws come from
    torch's global streams. The last digits need `x` in float64.
    """
    joint = LogJoint(particles, x, sums_states=True)
    _require_unmasked(particles, x)
    if joint.dim > LARGEST_DIMENSION:
        raise ValueError(
            checks.message(
                f"at most {LARGEST_DIMENSION} latent dimensions for method='quadrature'",
                f"{joint.dim}",
                "Use method='iwae' or 'ais'.",
            )
        )
    with pyro.validation_enabled(False):  # noqa: FBT003
        if joint.dim == 0:
            return _summed(particles, joint, x, max_bytes)
        integrand = _Integrand.of(particles, joint, x, max_bytes, seed)
        coarse = integrand.integrate(_COARSE, keep_points=True)
        fine = integrand.recentred(coarse).integrate(-math.expm1(-tolerance))
    return _in_nats(fine, coarse.num_points, torch.finfo(x.dtype).eps)


def _require_unmasked(particles: Particles, x: Data) -> None:
    """Raise if a latent's density is masked somewhere: over all values 1 has no integral."""
    for name, site in latent_sites(particles.draw(x, 2).model).items():
        fn, masks = site["fn"], [site["mask"]]
        while fn is not None:
            masks.append(getattr(fn, "_mask", None))
            fn = getattr(fn, "base_dist", None)
        if any(mask is not None and not bool(torch.as_tensor(mask).all()) for mask in masks):
            raise checks.not_implemented(
                "latents that every example has, for method='quadrature'",
                f"site {name!r}, whose density is masked for some",
                "Mask what is observed alone, or use method='iwae'.",
            )


def _summed(particles: Particles, joint: LogJoint, x: Data, max_bytes: int) -> Evidence:
    density = Scattered.of(particles, joint, x, max_bytes)
    owner = torch.arange(density.num_examples, device=x.device)
    log_value = density(owner, x.new_zeros(1, len(owner), 0))[0]
    error = _rounding(log_value, torch.finfo(x.dtype).eps)
    return without_weights(log_value, error, "quadrature", joint.num_states)


def _rounding(log_value: Tensor, eps: float) -> Tensor:
    return eps * (16 + 2 * log_value.abs())


def _in_nats(found: Meshed, points_before: Tensor, eps: float) -> Evidence:
    error = torch.where(found.error < 1, -torch.log1p(-found.error), math.inf)
    error = error + _rounding(found.log_value, eps)
    missed = int((~found.converged).sum())
    warning = f"{missed} of {len(error)} integrals did not converge: see standard_error."
    most = int((found.num_points + points_before).max())
    return without_weights(found.log_value, error, "quadrature", most, warning * (missed > 0))


@dataclass(frozen=True)
class _Integrand:
    """log p(x_i, z(t)) + log |dz/dt|, and draws that tell where it is large.

    Attributes:
        density: log p(x_i, u).
        coordinates: from t to u.
        draws: from guide and prior, (count, examples, dim).
        logs: log p(x_i, u) at these, (count, examples).
        guide_scale: the guide's widths, (examples, dim).
    """

    density: Scattered
    coordinates: Coordinates
    draws: Tensor
    logs: Tensor
    guide_scale: Tensor

    @classmethod
    def of(
        cls, particles: Particles, joint: LogJoint, x: Data, max_bytes: int, seed: int
    ) -> _Integrand:
        reseed(derive(seed, "look"), x.device)
        density = Scattered.of(particles, joint, x, max_bytes)
        guide, prior = [], []
        at_once = max(1, density.room // _PRIOR_DRAWS)
        parts = x.split(at_once) if particles.splits else [x]
        for part in parts:
            here = joint.on(part)
            guide.append(here.from_guide(_GUIDE_DRAWS))
            prior.append(here.from_prior(_PRIOR_DRAWS))
        of_guide = torch.cat(guide, 1).double()
        bounds = bounds_of(constraints.real, of_guide.shape[1:])
        coordinates = about_bulk(of_guide, bounds, torch.float64)
        draws = torch.cat([of_guide, torch.cat(prior, 1).double()])
        logs = density(torch.arange(draws.shape[1], device=draws.device), draws)
        return cls(density, coordinates, draws, logs, coordinates.size)

    def __call__(self, owner: Tensor, t: Tensor) -> Tensor:
        """Return log p(x_owner, z(t)) + log |dz/dt|, (points, cells)."""
        u, log_slope = self._local(owner)(t)
        return self.density(owner, u) + log_slope

    def integrate(self, tolerance: float, *, keep_points: bool = False) -> Meshed:
        """Return the integrals in the present coordinates."""
        count, dim = self.coordinates.origin.shape
        return integrate_each(
            self,
            count=count,
            dim=dim,
            tolerance=tolerance,
            max_points=MAX_POINTS,
            device=self.coordinates.origin.device,
            must_split=self.must_split,
            keep_points=keep_points,
        )

    def recentred(self, coarse: Meshed) -> _Integrand:
        """Return the same in coordinates about the bulk of the posterior, found coarsely."""
        assert coarse.points is not None
        assert coarse.weights is not None
        everyone = torch.arange(coarse.points.shape[1], device=self.coordinates.origin.device)
        u = self._local(everyone)(coarse.points)[0]
        total = coarse.weights.sum(0)
        weights = coarse.weights / torch.where(total > 0, total, 1.0)
        old = self.coordinates
        new = about_bulk(u, old.bounds, torch.float64, weights=weights)
        good = (new.scale_tril.isfinite().all(-1) & new.origin.isfinite()).all(-1)
        where = replace(
            old,
            origin=torch.where(good[:, None], new.origin, old.origin),
            scale_tril=torch.where(good[:, None, None], new.scale_tril, old.scale_tril),
        )
        return replace(self, coordinates=where)

    def _local(self, owner: Tensor) -> Coordinates:
        where = self.coordinates
        lower, upper = (end[owner] for end in where.bounds)
        return replace(
            where,
            origin=where.origin[owner],
            scale_tril=where.scale_tril[owner],
            bounds=(lower, upper),
        )

    def must_split(self, cells: Cells) -> Tensor:
        """Return which cells hold a mode and are wider than the guide there."""
        modes = self._modes[cells.owner]
        inside = ((modes - cells.centre.unsqueeze(1)).abs() <= cells.half[:, None, None]).all(-1)
        unit = self._finest(_CELLS_PER_UNIT)[cells.owner].unsqueeze(1)
        wide = (cells.half[:, None, None] * stretch_at(modes) > unit).any(-1)
        return (inside & wide).any(-1)

    def _finest(self, share: float) -> Tensor:
        """Return the guide's scales in units of the coordinates, at least `share`."""
        return (self.guide_scale / self.coordinates.size).clamp(min=share)

    @cached_property
    def _modes(self) -> Tensor:
        """The draws that matter, as t, (examples, modes, dim), NaN where there are fewer.

        Of draws that are close together only the one with the largest density is kept.
        """
        units = self.coordinates.size * self._finest(_NEAR)
        left = torch.where(self.logs > self.logs.amax(0) - _NEGLIGIBLE, self.logs, -math.inf)
        modes = []
        for _ in range(_MODES):
            best = left.argmax(0)
            here = self.draws.gather(0, best.expand(self.draws.shape[-1], 1, -1).movedim(0, -1))
            matters = left.gather(0, best.unsqueeze(0)).isfinite().unsqueeze(-1)
            modes.append(torch.where(matters, self.coordinates.inverse(here), math.nan))
            near = ((self.draws - here).abs() < _APART * units).all(-1)
            left = left.masked_fill(near, -math.inf)
        return torch.cat(modes).movedim(0, 1)
