"""The evidence of one or two latent dimensions, as exactly as one asks."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import pyro
import torch
from torch import Tensor
from torch.distributions import constraints

from ppl_vae import checks
from ppl_vae.diagnostics.evidence.cells import Cells
from ppl_vae.diagnostics.evidence.log_joint import LogJoint
from ppl_vae.diagnostics.evidence.meshes import Meshed, integrate_each
from ppl_vae.diagnostics.evidence.particles import Particles
from ppl_vae.diagnostics.evidence.result import Evidence, without_weights
from ppl_vae.diagnostics.evidence.scattered import Scattered
from ppl_vae.diagnostics.quadrature.coordinates import (
    Coordinates,
    about_bulk,
    bounds_of,
    stretch_at,
)
from ppl_vae.diagnostics.quadrature.gauss import LARGEST_DIMENSION
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
    particles: Particles, x: Tensor, *, tolerance: float, max_bytes: int, seed: int
) -> Evidence:
    """Return ``log integral p(x_i, z) dz`` by adaptive cubature, example by example.

    In coordinates that are centred at the guide's draws and cover the whole space, cells are
    halved where the rule is not yet sure. So that a mode far from the guide is not overlooked,
    log p(x, z) is looked at beforehand at draws from guide and prior, and a cell around any of
    them that matters is halved until it is as small as the guide is wide. The
    draws come from torch's global streams. For the last digits `x` is to be in float64.
    """
    joint = LogJoint(particles, x, sums_states=True)
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
        values = _Values.of(particles, joint, x, max_bytes, seed)
        coarse = values.integrate(_COARSE, MAX_POINTS, keep_points=True)
        values = values.recentred(coarse)
        found = values.integrate(-math.expm1(-tolerance), MAX_POINTS)
    return _in_nats(found, coarse.num_points, torch.finfo(x.dtype).eps)


def _summed(particles: Particles, joint: LogJoint, x: Tensor, max_bytes: int) -> Evidence:
    density = Scattered.of(particles, joint, x, max_bytes)
    owner = torch.arange(density.num_examples, device=x.device)
    log_value = density(owner, x.new_zeros(1, len(owner), 0))[0]
    error = _rounding(log_value, torch.finfo(x.dtype).eps)
    return without_weights(log_value, error, "quadrature", joint.num_states)


def _rounding(log_value: Tensor, eps: float) -> Tensor:
    return eps * (16 + 2 * log_value.abs())


def _in_nats(found: Meshed, before: Tensor, eps: float) -> Evidence:
    error = torch.where(found.error < 1, -torch.log1p(-found.error), math.inf)
    error = error + _rounding(found.log_value, eps)
    late = int((~found.converged).sum())
    warning = f"{late} of {len(error)} integrals did not converge: see standard_error."
    most = int((found.num_points + before).max())
    return without_weights(found.log_value, error, "quadrature", most, warning * (late > 0))


@dataclass(frozen=True)
class _Values:
    """log p(x_i, z(t)) + log |dz/dt|, and what is known beforehand of where it is large."""

    density: Scattered
    coordinates: Coordinates
    seeds: Tensor
    look: tuple[Tensor, Tensor]
    guide_size: Tensor

    @classmethod
    def of(
        cls, particles: Particles, joint: LogJoint, x: Tensor, max_bytes: int, seed: int
    ) -> _Values:
        reseed(derive(seed, "look"), x.device)
        density = Scattered.of(particles, joint, x, max_bytes)
        guide, prior = [], []
        at_once = max(1, density.room // _PRIOR_DRAWS)
        parts = x.split(at_once) if particles.splits else [x]
        for part in parts:
            here = joint.on(part)
            guide.append(here.from_guide(_GUIDE_DRAWS))
            prior.append(here.from_prior(_PRIOR_DRAWS))
        draws = torch.cat(guide, 1).double()
        bounds = bounds_of(constraints.real, draws.shape[1:])
        coordinates = about_bulk(draws, bounds, torch.float64)
        look = torch.cat([draws, torch.cat(prior, 1).double()])
        none = look.new_zeros(look.shape[1], 0, look.shape[-1])
        seen = look, look[..., 0]
        values = cls(density, coordinates, none, seen, coordinates.size)
        logs = values.density(torch.arange(look.shape[1], device=look.device), look)
        return values.looking_at(look, logs)

    def __call__(self, owner: Tensor, t: Tensor) -> Tensor:
        """Return log p(x_owner, z(t)) + log |dz/dt|, (points, cells)."""
        u, log_slope = self._local(owner)(t)
        return self.density(owner, u) + log_slope

    def integrate(self, tolerance: float, max_points: int, *, keep_points: bool = False) -> Meshed:
        """Return the integrals in the present coordinates."""
        count, dim = self.coordinates.origin.shape
        return integrate_each(
            self,
            count=count,
            dim=dim,
            tolerance=tolerance,
            max_points=max_points,
            device=self.coordinates.origin.device,
            must_split=self.must_split,
            keep_points=keep_points,
        )

    def recentred(self, coarse: Meshed) -> _Values:
        """Return the same in coordinates about the bulk of the posterior, seen coarsely."""
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
        return replace(self, coordinates=where).looking_at(*self.look)

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
        """Return which cells hold a point that matters and are wider than the guide there."""
        seeds = self.seeds[cells.owner]
        inside = ((seeds - cells.centre.unsqueeze(1)).abs() <= cells.half[:, None, None]).all(-1)
        unit = self._finest(_CELLS_PER_UNIT)[cells.owner].unsqueeze(1)
        wide = (cells.half[:, None, None] * stretch_at(seeds) > unit).any(-1)
        return (inside & wide).any(-1)

    def _finest(self, share: float) -> Tensor:
        """Return the guide's scales in units of the coordinates, at least `share`."""
        return (self.guide_size / self.coordinates.size).clamp(min=share)

    def looking_at(self, points: Tensor, logs: Tensor) -> _Values:
        """Return the same with those points in mind at which each density matters.

        Of points that are close together the one with the largest density stands for all. They
        become (examples, modes, dim) in t; what does not matter stands at NaN.
        """
        units = self.coordinates.size * self._finest(_NEAR)
        left = torch.where(logs > logs.amax(0) - _NEGLIGIBLE, logs, -math.inf)
        seeds = []
        for _ in range(_MODES):
            best = left.argmax(0)
            here = points.gather(0, best.expand(points.shape[-1], 1, -1).movedim(0, -1))
            found = left.gather(0, best.unsqueeze(0)).isfinite()
            seeds.append(
                torch.where(found.unsqueeze(-1), self.coordinates.inverse(here), math.nan)
            )
            near = ((points - here).abs() < _APART * units).all(-1)
            left = left.masked_fill(near, -math.inf)
        return replace(self, seeds=torch.cat(seeds).movedim(0, 1), look=(points, logs))
