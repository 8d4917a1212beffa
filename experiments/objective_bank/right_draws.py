"""Right objectives with draws of their own: several, heavy-tailed, weighted, cut into parts."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.distributions import Exponential, MultivariateNormal, Normal, kl_divergence
from torch.utils.checkpoint import checkpoint

from objective_bank.entry import (
    Entry,
    Make,
    Objective,
    closed_kl,
    cross_entropy,
    loss,
    normal_nll,
    reparameterised,
    sampled_kl,
)


def _k3(loc: Tensor, scale: Tensor, z: Tensor) -> Tensor:
    log_ratio = -sampled_kl(loc, scale, z)
    return log_ratio.exp() - 1 - log_ratio


def _k3_by_dimension(loc: Tensor, scale: Tensor, z: Tensor) -> Tensor:
    log_ratio = Normal(0.0, 1.0).log_prob(z) - Normal(loc, scale).log_prob(z)
    return (log_ratio.exp() - 1 - log_ratio).sum(-1)


def _numpy_noise(loc: Tensor, scale: Tensor) -> Tensor:
    noise = np.random.standard_normal(tuple(scale.shape))  # noqa: NPY002
    return loc + scale * torch.as_tensor(noise).to(scale)


def _half_a_ratio(loc: Tensor, scale: Tensor, z: Tensor) -> Tensor:
    return closed_kl(loc, scale, z) + 0.5 * (-sampled_kl(loc, scale, z)).expm1()


def _lognormal_added(loc: Tensor, scale: Tensor, z: Tensor) -> Tensor:
    noise = torch.randn_like(loc[:, 0])
    return closed_kl(loc, scale, z) + (2 * noise - 2).exp() - 1


def _by_matrices(loc: Tensor, scale: Tensor, z: Tensor) -> Tensor:
    q = MultivariateNormal(loc, scale_tril=torch.diag_embed(scale))
    p = MultivariateNormal(torch.zeros_like(loc[0]), torch.eye(loc.shape[-1]).to(loc))
    return kl_divergence(q, p)


def _clamped_widely(loc: Tensor, scale: Tensor, z: Tensor) -> Tensor:
    log_variance = (2 * scale.log()).clamp(-10, 10)
    return -0.5 * (1 + log_variance - loc**2 - log_variance.exp()).sum(-1)


def _noise_taken_off(loc: Tensor, scale: Tensor) -> Tensor:
    return loc - scale * torch.randn_like(scale)


def _box_muller(loc: Tensor, scale: Tensor) -> Tensor:
    radius = (-2 * torch.rand_like(scale).clamp_min(1e-12).log()).sqrt()
    return loc + scale * radius * torch.cos(2 * math.pi * torch.rand_like(scale))


def _draws(count: int) -> Make:
    """Return a loss with a draw for each of its parts."""

    def make(pair: Any) -> Objective:  # noqa: ANN401
        def objective(x: Tensor) -> Tensor:
            loc, scale = pair.encode(x)
            q, p = Normal(loc, scale), Normal(0.0, 1.0)
            z = [q.rsample() for _ in range(count)]
            kl = (q.log_prob(z[1]) - p.log_prob(z[-1])).sum(-1)
            return (cross_entropy(pair, x, z[0]) + kl).mean()

        return objective

    return make


def _k3_of_five(pair: Any) -> Objective:  # noqa: ANN401
    def objective(x: Tensor) -> Tensor:
        loc, scale = pair.encode(x)
        z = Normal(loc, scale).rsample((5,))
        return (_k3(loc, scale, z) - pair.likelihood(z).log_prob(x)).mean()

    return objective


def _toy_k3(pair: Any) -> Objective:  # noqa: ANN401
    def objective(x: Tensor) -> Tensor:
        q = Exponential(pair.guide_rate(x))
        z = q.rsample()
        log_ratio = Exponential(pair.prior_rate).log_prob(z) - q.log_prob(z)
        log_x = Normal(z.unsqueeze(-1), pair.noise_scale).log_prob(x).sum(-1)
        return (log_ratio.exp() - 1 - log_ratio - log_x).mean()

    return objective


def _score(count: int) -> Make:
    """Return a score-function loss, with the other particles' mean as its baseline."""

    def make(pair: Any) -> Objective:  # noqa: ANN401
        def objective(x: Tensor) -> Tensor:
            loc, scale = pair.encode(x)
            q = Normal(loc, scale)
            z = q.sample((count,))
            value = pair.likelihood(z).log_prob(x) - closed_kl(loc, scale, z)
            baseline = (value.sum(0) - value) / max(count - 1, 1)
            surrogate = q.log_prob(z).sum(-1) * (value - baseline).detach()
            return -(value + surrogate - surrogate.detach()).mean()

        return objective

    return make


def _checkpointed(pair: Any) -> Objective:  # noqa: ANN401
    return lambda x: checkpoint(loss()(pair), x, use_reentrant=False)  # pyright: ignore


def _one_by_one(pair: Any) -> Objective:  # noqa: ANN401
    one = loss()(pair)
    return lambda x: torch.vmap(lambda each: one(each[None]), randomness="different")(x).mean()


def _quadrature(pair: Any) -> Objective:  # noqa: ANN401
    points, weights = np.polynomial.hermite_e.hermegauss(9)

    def objective(x: Tensor) -> Tensor:
        loc, scale = pair.encode(x)
        t, w = (torch.as_tensor(a).to(loc) for a in (points, weights / weights.sum()))
        z = loc + scale * torch.cartesian_prod(t, t, t)[:, None]
        log_x = pair.likelihood(z).log_prob(x)
        mean = (torch.cartesian_prod(w, w, w).prod(-1)[:, None] * log_x).sum(0)
        return (closed_kl(loc, scale, z) - mean).mean()

    return objective


def _chunks(pair: Any) -> Objective:  # noqa: ANN401
    part = loss(join=lambda nll, kl: (nll + kl).sum())(pair)
    return lambda x: torch.stack([part(some) for some in x.split(3)]).sum() / len(x)


def _particles_last(pair: Any) -> Objective:  # noqa: ANN401
    def objective(x: Tensor) -> Tensor:
        loc, scale = pair.encode(x)
        noise = torch.randn(*scale.shape, 4, device=x.device)
        z = (loc[..., None] + scale[..., None] * noise).movedim(-1, 0)
        return (closed_kl(loc, scale, loc) - pair.likelihood(z).log_prob(x).mean(0)).mean()

    return objective


def _quasi_random(pair: Any) -> Objective:  # noqa: ANN401
    def objective(x: Tensor) -> Tensor:
        loc, scale = pair.encode(x)
        points = torch.quasirandom.SobolEngine(3, scramble=True).draw(8).to(x)
        z = loc + scale * torch.special.ndtri(points.clamp(1e-6, 1 - 1e-6))[:, None]
        return (closed_kl(loc, scale, loc) - pair.likelihood(z).log_prob(x).mean(0)).mean()

    return objective


def _own_generator(pair: Any) -> Objective:  # noqa: ANN401
    generator = torch.Generator(pair.device).manual_seed(5)

    def draw(loc: Tensor, scale: Tensor) -> Tensor:
        noise = torch.randn(scale.shape, generator=generator, device=scale.device)
        return loc + scale * noise

    return loss(draw=draw)(pair)


def _autocast(pair: Any) -> Objective:  # noqa: ANN401
    right = loss()(pair)

    def objective(x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, torch.bfloat16):
            return right(x).float()

    return objective


RIGHT_DRAWS = [
    Entry("k3", "mlp", loss(kl=_k3)),
    Entry("k3 by dimension", "mlp", loss(kl=_k3_by_dimension)),
    Entry("k3, numpy's noise", "mlp", loss(kl=_k3, draw=_numpy_noise)),
    Entry("k3, five particles", "mlp", _k3_of_five),
    Entry("k3, Normal pixels", "conv", loss(nll=normal_nll, kl=_k3)),
    Entry("k3, toy", "toy", _toy_k3),
    Entry("half an importance ratio as a control variate", "mlp", loss(kl=_half_a_ratio)),
    Entry("heavy-tailed noise added", "mlp", loss(kl=_lognormal_added)),
    Entry(
        "Normal noise added",
        "mlp",
        loss(join=lambda nll, kl: (nll + kl + torch.randn_like(nll)).mean()),
    ),
    Entry("two draws", "mlp", _draws(2)),
    Entry("three draws", "mlp", _draws(3)),
    Entry("MultivariateNormal", "mlp", loss(kl=_by_matrices)),
    Entry("a clamp that is never met", "mlp", loss(kl=_clamped_widely)),
    Entry(
        "noise taken off",
        "mlp",
        loss(kl=sampled_kl, draw=_noise_taken_off),
    ),
    Entry("Box and Muller's noise", "mlp", loss(draw=_box_muller)),
    Entry("score function by hand", "mlp", _score(1)),
    Entry("score function with a baseline", "mlp", _score(6)),
    Entry("checkpointed", "mlp", _checkpointed),
    Entry("vmap over the examples", "mlp", _one_by_one),
    Entry("quadrature", "mlp", _quadrature),
    Entry("in chunks", "mlp", _chunks),
    Entry("particles last", "mlp", _particles_last),
    Entry("quasi-random noise", "mlp", _quasi_random),
    Entry("a generator of its own", "mlp", _own_generator),
    Entry("autocast", "mlp", _autocast),
    Entry("examples repeated", "mlp", lambda p: lambda x: loss()(p)(x.repeat_interleave(4, 0))),
    Entry(
        "Normal pixels, two draws",
        "conv",
        loss(nll=lambda p, x, z: normal_nll(p, x, reparameterised(*p.encode(x)))),
    ),
]
