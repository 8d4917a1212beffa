"""The Gaussian with the highest ELBO for each example."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.distributions import Independent, Normal

from ppl_vae.diagnostics.gap.batched_lbfgs import maximise
from ppl_vae.diagnostics.gap.gaussian_code import GaussianCode
from ppl_vae.diagnostics.gap.gaussians import Gaussians
from ppl_vae.diagnostics.quadrature.gauss import rule_for

FAMILIES = ("diagonal", "full")

_COARSE_POINTS, _FINE_POINTS = 16, 128
_GAUSS_POINTS = {1: 32, 2: 16}  # per dimension
_CANDIDATES = 256
_STEPS_BETWEEN_COORDINATES = 15
_OUT_OF_REACH = 10.0  # nats by which the coarse points may misjudge a climb
_SAME = 0.5  # in standard deviations
_NEGLIGIBLE = 1e-13  # weight of a point

Rule = tuple[Tensor, Tensor]  # points, (num, latent_dim), and weights, (num,)


@dataclass(frozen=True)
class Climb:
    """Where a search ended, for each example.

    Attributes:
        gaussians: the best ones.
        elbo: at the noise of the search, (batch), in nats.
        gradient_norm: length of the natural gradient, (batch), in sqrt(nats): half its square is
            about what is left to gain.
    """

    gaussians: Gaussians
    elbo: Tensor
    gradient_norm: Tensor

    def improved(self, other: Climb, at: Tensor) -> Climb:
        """Return the same with those at `at` replaced by others that are higher."""
        at, higher = at[other.elbo > self.elbo[at]], other.elbo > self.elbo[at]
        loc, scale_tril = self.gaussians.loc.clone(), self.gaussians.scale_tril.clone()
        elbo, norm = self.elbo.clone(), self.gradient_norm.clone()
        loc[at], scale_tril[at] = other.gaussians.loc[higher], other.gaussians.scale_tril[higher]
        elbo[at], norm[at] = other.elbo[higher], other.gradient_norm[higher]
        return Climb(Gaussians(loc, scale_tril), elbo, norm)


def best_gaussian(
    code: GaussianCode, *, family: str, num_starts: int, num_steps: int, tolerance: float
) -> Climb:
    """Return the Gaussian of `family` with the highest ELBO for every example.

        maximise over m and L:  sum over i of w_i log p(x, m + L e_i) + log det L

    at fixed points e_i whose mean and covariance are a standard Normal's: the search has no noise,
    and is exact where log p(x, z) is quadratic in z. Each of `starting_points` is first improved
    on few points, then on more, unless its end is far below the highest or at the same place as
    another's. Draws come from torch's global stream.

    Args:
        code: pair and data.
        family: ``diagonal`` or ``full`` covariance.
        num_starts: for every example; the first is the guide.
        num_steps: evaluations of each search, at most.
        tolerance: of the gradient norm.
    """
    coarse = matched_rule(max(_COARSE_POINTS, 2 * code.latent_dim + 2), code)
    fine = fine_rule(code)
    everything = torch.arange(code.num_examples, device=code.guide.loc.device)
    search = partial(climb, code, family=family, num_steps=num_steps)
    found = [
        search(start, coarse, everything, tolerance=10 * tolerance)
        for start in starting_points(code, num_starts)
    ]
    top = torch.stack([each.elbo.nan_to_num(-math.inf) for each in found]).amax(0)
    best: Climb | None = None
    for number, each in enumerate(found):
        going = ~(each.elbo < top - _OUT_OF_REACH)
        for earlier in found[:number]:
            apart = (each.gaussians.loc - earlier.gaussians.loc).unsqueeze(-1)
            apart = torch.linalg.solve_triangular(earlier.gaussians.scale_tril, apart, upper=False)
            going &= ~(apart.squeeze(-1).norm(dim=-1) < _SAME)
        at = everything[going | (best is None)]
        higher = search(each.gaussians[at], fine, at, tolerance=tolerance)
        best = higher if best is None else best.improved(higher, at)
    assert best is not None
    return best


def climb(
    code: GaussianCode,
    start: Gaussians,
    rule: Rule,
    examples: Tensor,
    *,
    family: str,
    num_steps: int,
    tolerance: float,
) -> Climb:
    """Return the best Gaussians that are uphill of `start`, one for each of some examples.

    The search is in coordinates of the Gaussian itself, renewed on the way: m + L u, and L times
    a triangular matrix, by the logarithm of its diagonal. The Fisher information there is
    diagonal, 1 for u, 2 for the diagonal and 1 below it.
    """
    dim, noise = code.latent_dim, rule[0]
    below = torch.tril_indices(dim, dim, -1 if family == "full" else -dim, device=noise.device)
    metric = torch.ones(2 * dim + below.shape[1], dtype=noise.dtype, device=noise.device)
    metric[dim : 2 * dim] = 2
    loc, scale_tril = start.loc.clone(), start.scale_tril.clone()
    elbo = torch.full_like(loc[:, 0], -math.inf)
    norm = torch.full_like(elbo, math.inf)
    active = torch.arange(len(start), device=noise.device)
    for done in range(0, num_steps, _STEPS_BETWEEN_COORDINATES):
        if not len(active):
            break
        base = Gaussians(loc[active], scale_tril[active])
        found = maximise(
            _Objective(code, base, examples[active], rule, below),
            noise.new_zeros(len(active), len(metric)),
            metric=metric,
            num_steps=min(_STEPS_BETWEEN_COORDINATES, num_steps - done),
            tolerance=tolerance,
            rounding=4 * torch.finfo(code.pair.dtype).eps,
        )
        moved, _ = _moved(base, found.point, below)
        loc[active], scale_tril[active] = moved.loc, moved.scale_tril
        gained = found.value > elbo[active]
        elbo[active], norm[active] = found.value, found.gradient_norm
        active = active[gained & (found.gradient_norm > tolerance)]
    return Climb(Gaussians(loc, scale_tril), elbo, norm)


@dataclass(frozen=True)
class _Objective:
    """The ELBO at fixed noise, and its gradient, by the coordinates about `base`."""

    code: GaussianCode
    base: Gaussians
    examples: Tensor
    rule: Rule
    below: Tensor

    def __call__(self, point: Tensor, at: Tensor) -> tuple[Tensor, Tensor]:
        dim, base, (noise, weights) = self.code.latent_dim, self.base[at], self.rule
        here, factor = _moved(base, point, self.below)
        values, slopes = self.code.slopes(here.codes(noise.unsqueeze(1)), self.examples[at])
        slopes = (slopes.unsqueeze(-2) @ base.scale_tril).squeeze(-2) * weights[:, None, None]
        by_factor = torch.einsum("nbi,nj->bij", slopes, noise)
        scale = factor.diagonal(dim1=-2, dim2=-1)
        by_scale = by_factor.diagonal(dim1=-2, dim2=-1) * scale + 1
        by_below = by_factor[:, self.below[0], self.below[1]]
        entropy = here.log_volume + 0.5 * dim * math.log(2 * math.pi * math.e)
        return weights @ values + entropy, torch.cat([slopes.sum(0), by_scale, by_below], dim=-1)


def _moved(base: Gaussians, point: Tensor, below: Tensor) -> tuple[Gaussians, Tensor]:
    """Return the Gaussians at a point of the coordinates about `base`, and L's factor there."""
    dim = base.loc.shape[-1]
    factor = torch.diag_embed(point[:, dim : 2 * dim].exp())
    factor[:, below[0], below[1]] = point[:, 2 * dim :]
    return Gaussians(base.codes(point[:, :dim]), base.scale_tril @ factor), factor


def starting_points(code: GaussianCode, num: int) -> list[Gaussians]:
    """Return `num` Gaussians for every example to start from.

    The first is the guide. The others come from draws from the prior: the one with the highest
    log p(x, z), with the guide's covariance; then the mean and spread of all, weighted by p(x, z),
    which is wide where the posterior is; then again single draws, far from those before.
    """
    starts = [code.guide]
    if num == 1:
        return starts
    draws = code.prior_draws(_CANDIDATES)
    height = code.log_joint(draws).nan_to_num(-math.inf)
    weights = height.softmax(0).nan_to_num(1 / len(draws)).unsqueeze(-1)
    apart = 0.25 * draws.var(0).sum(-1)
    everything = torch.arange(code.num_examples, device=draws.device)
    for number in range(1, num):
        if number == 2:
            mean = (weights * draws).sum(0)
            spread = (weights * (draws - mean).square()).sum(0).sqrt()
            spread = spread.maximum(code.guide.scale_tril.norm(dim=-1))
            starts.append(Gaussians(mean, torch.diag_embed(spread)))
            continue
        near = (draws - starts[0 if number == 1 else -1].loc).square().sum(-1) < apart
        # Not minus infinity: if all are near, the best of them is still a start.
        height = torch.where(near, height - 1e6, height)
        starts.append(Gaussians(draws[height.argmax(0), everything], code.guide.scale_tril))
    return starts


def fine_rule(code: GaussianCode) -> Rule:
    """Return the points of the final search: a Gauss rule in one or two dimensions."""
    dim, like = code.latent_dim, code.guide.loc
    if dim not in _GAUSS_POINTS:
        return matched_rule(max(_FINE_POINTS, 4 * dim), code)
    normal = Independent(Normal(like.new_zeros(dim), like.new_ones(dim)), 1)
    noise, weights = rule_for(normal, _GAUSS_POINTS[dim])
    return noise[weights > _NEGLIGIBLE], weights[weights > _NEGLIGIBLE]


def matched_rule(num: int, code: GaussianCode) -> Rule:
    """Return about `num` points of equal weight, with mean 0 and covariance I exactly.

    A scrambled Sobol sequence through the Normal's quantiles, each point with its opposite, then
    whitened. Draws come from torch's global stream.
    """
    like = code.guide.loc
    seed = int(torch.randint(2**31, ()))
    sobol = torch.quasirandom.SobolEngine(code.latent_dim, scramble=True, seed=seed)
    uniform = sobol.draw(-(-num // 2), dtype=torch.float64).to(like.device)
    half = torch.special.ndtri(uniform.clamp(1e-12, 1 - 1e-12))
    factor = torch.linalg.cholesky(half.mT @ half / len(half))
    half = torch.linalg.solve_triangular(factor, half.mT, upper=False).mT
    noise = torch.cat([half, -half])
    return noise, torch.full_like(noise[:, 0], 1 / len(noise))
