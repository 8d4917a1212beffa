"""The importance-weighted bound of discrete latents, with a baseline from the other particles."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from ppl_vae.elbos.scores import ScoredELBO, scored_sites
from ppl_vae.elbos.sites.draws import Draw, Program
from ppl_vae.elbos.sites.traces import total
from ppl_vae.elbos.weights import Weights


class TraceVIMCO_ELBO(ScoredELBO):  # noqa: N801  (Pyro's naming)
    """The importance-weighted bound with the gradient of VIMCO, by data point.

        sum_k (L - L_k) d log q(z_k) / d phi + sum_k v_k d log w_k / d phi

    L = log((1/K) sum_k w_k) is the bound, v_k = w_k / sum_j w_j, and in the baseline L_k the
    weight of particle k is replaced by the geometric mean of the others. Draws that have an
    rsample are followed along the path; where all have, it is `TraceIWAE_ELBO`.

    Estimand: the bound of K particles, as `TraceIWAE_ELBO`.
    Gradient: discrete draws by their scores, other draws by their derivatives.
    Bias: none for this bound.
    Needs: two particles or more; every latent inside of the plate.
    Cost: K passes through guide and model, together if they are vectorised.
    Source: Mnih and Rezende, Variational Inference for Monte Carlo Objectives, 2016,
        https://arxiv.org/abs/1602.06725.

    Args:
        num_particles: how many particles, K, at least 2.
        plate: name of the plate over the data points; a program without it has one weight.
        **options: of ``pyro.infer.ELBO``.

    Raises:
        TypeError: `num_particles` is not an int.
        ValueError: `num_particles` below 2.
        NotImplementedError: at a step, a latent outside of the plate.
    """

    weighs_particles = True

    def __init__(self, num_particles: int = 2, *, plate: str = "data", **options: Any) -> None:  # noqa: ANN401
        super().__init__(num_particles, **options)
        self.plate = plate

    def bound(self, draws: list[Draw], program: Program) -> Tensor:
        """Return the bound summed over the data points."""
        weights = Weights(draws, self.plate)
        gains = _gains(weights.log_ratios.detach())
        surrogates = [
            weights.scale * (gain * weights.of_site(site, score)).sum()
            for draw, gain in zip(draws, weights.by_draw(gains), strict=True)
            for site, score in scored_sites(draw.guide)
        ]
        value = weights.bound()
        surrogate = total(surrogates) if surrogates else torch.zeros_like(value)
        return value + surrogate - surrogate.detach()


def _gains(log_weights: Tensor) -> Tensor:
    """Return L - L_k for every particle, (num_particles, size)."""
    count = len(log_weights)
    is_own = torch.eye(count, dtype=torch.bool, device=log_weights.device).unsqueeze(-1)
    # [k, j]: the weights with which particle k is judged.
    others = log_weights.expand(count, -1, -1)
    geometric = others.masked_fill(is_own, 0).sum(1, keepdim=True) / (count - 1)
    baseline = torch.where(is_own, geometric, others).logsumexp(1) - math.log(count)
    # Where the model rules out all others any baseline serves that they alone decide.
    baseline = baseline.where(baseline.isfinite(), 0)
    return log_weights.logsumexp(0) - math.log(count) - baseline
