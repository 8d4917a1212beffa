"""Right objectives, written in different ways."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from pyro.infer import Trace_ELBO, TraceMeanField_ELBO
from torch import Tensor
from torch.distributions import Bernoulli, Exponential, Independent, Normal, kl_divergence

from objective_bank.entry import (
    PIXELS,
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
from objective_bank.wrong_deep import by_pyro, toy, two_layers
from ppl_vae.elbos import TraceAnalyticKL_ELBO, TraceScoreFunction_ELBO, TraceSTL_ELBO


def _probabilities(pair: Any, x: Tensor, z: Tensor) -> Tensor:  # noqa: ANN401
    return F.binary_cross_entropy(pair.decode(z).sigmoid(), x, reduction="none").sum(PIXELS)


def _with_epsilon(pair: Any, x: Tensor, z: Tensor) -> Tensor:  # noqa: ANN401
    p = pair.decode(z).sigmoid()
    return -(x * (p + 1e-8).log() + (1 - x) * (1 - p + 1e-8).log()).sum(PIXELS)


def _by_softplus(pair: Any, x: Tensor, z: Tensor) -> Tensor:  # noqa: ANN401
    logits = pair.decode(z)
    return (F.softplus(logits) - x * logits).sum(PIXELS)


def _from_log_variance(loc: Tensor, scale: Tensor, z: Tensor) -> Tensor:
    log_variance = 2 * scale.log()
    return -0.5 * (1 + log_variance - loc**2 - log_variance.exp()).sum(-1)


def _by_torch(loc: Tensor, scale: Tensor, z: Tensor) -> Tensor:
    return kl_divergence(Normal(loc, scale), Normal(0.0, 1.0)).sum(-1)


def _by_independent(loc: Tensor, scale: Tensor, z: Tensor) -> Tensor:
    q = Independent(Normal(loc, scale), 1)
    return kl_divergence(q, Independent(Normal(torch.zeros_like(loc), torch.ones_like(loc)), 1))


def _change_of_variables(loc: Tensor, scale: Tensor, z: Tensor) -> Tensor:
    noise = (z - loc) / scale
    log_q = (-0.5 * noise**2 - scale.log()).sum(-1)
    return log_q + 0.5 * z.square().sum(-1)


def _entropy_and_sample(loc: Tensor, scale: Tensor, z: Tensor) -> Tensor:
    return -Normal(loc, scale).entropy().sum(-1) - Normal(0.0, 1.0).log_prob(z).sum(-1)


def _mostly_closed(loc: Tensor, scale: Tensor, z: Tensor) -> Tensor:
    kl = sampled_kl(loc, scale, z)
    return closed_kl(loc, scale, z) + 0.1 * (kl - closed_kl(loc, scale, z))


def _particles(order: str) -> Make:
    def make(pair: Any) -> Objective:  # noqa: ANN401
        def objective(x: Tensor) -> Tensor:
            loc, scale = pair.encode(x)
            if order == "first":
                z = Normal(loc, scale).rsample((5,))
                log_x = pair.likelihood(z).log_prob(x).mean(0)
            else:
                noise = torch.randn(len(x), 5, loc.shape[-1], dtype=loc.dtype, device=loc.device)
                z = (loc[:, None] + scale[:, None] * noise).transpose(0, 1)
                log_x = pair.likelihood(z).log_prob(x).mean(0)
            return (closed_kl(loc, scale, loc) - log_x).mean()

        return objective

    return make


def _loop(pair: Any) -> Objective:  # noqa: ANN401
    one = loss(kl=sampled_kl)(pair)
    return lambda x: sum((one(x) for _ in range(3)), torch.zeros(())) / 3


def _antithetic(pair: Any) -> Objective:  # noqa: ANN401
    def objective(x: Tensor) -> Tensor:
        loc, scale = pair.encode(x)
        noise = torch.randn_like(scale)
        pairs = [cross_entropy(pair, x, loc + sign * scale * noise) for sign in (1, -1)]
        return (sum(pairs) / 2 + closed_kl(loc, scale, loc)).mean()

    return objective


def _numpy_noise(loc: Tensor, scale: Tensor) -> Tensor:
    noise = np.random.standard_normal(tuple(scale.shape))  # noqa: NPY002
    return loc + scale * torch.as_tensor(noise).to(scale)


def _torch_normal(loc: Tensor, scale: Tensor) -> Tensor:
    return loc + scale * torch.normal(
        0.0, 1.0, scale.shape, dtype=scale.dtype, device=scale.device
    )


def _shared_noise(loc: Tensor, scale: Tensor) -> Tensor:
    return loc + scale * torch.randn(loc.shape[-1], dtype=loc.dtype, device=loc.device)


def _by_hand_normal(pair: Any, x: Tensor, z: Tensor) -> Tensor:  # noqa: ANN401
    gap = (x - pair.decode(z)).square() / (2 * (2 * pair.log_scale).exp())
    return (gap + pair.log_scale + 0.5 * math.log(2 * math.pi)).sum(PIXELS)


def _gaussian_loss(pair: Any, x: Tensor, z: Tensor) -> Tensor:  # noqa: ANN401
    loc = pair.decode(z)
    variance = (2 * pair.log_scale).exp().expand_as(loc)
    return F.gaussian_nll_loss(loc, x, variance, full=True, reduction="none").sum(PIXELS)


def _toy_sampled(pair: Any) -> Objective:  # noqa: ANN401
    def objective(x: Tensor) -> Tensor:
        q = Exponential(pair.guide_rate(x))
        z = q.rsample()
        log_x = Normal(z.unsqueeze(-1), pair.noise_scale).log_prob(x).sum(-1)
        return -(log_x + Exponential(pair.prior_rate).log_prob(z) - q.log_prob(z)).mean()

    return objective


def _top_down(pair: Any) -> Objective:  # noqa: ANN401
    def objective(x: Tensor) -> Tensor:
        first, top = pair._heads(x.flatten(1))
        q2 = Normal(*top)
        z2 = q2.rsample()
        p1 = Normal(*pair.prior[0](z2))
        precision = first[1] ** -2 + p1.scale**-2
        loc = (first[0] / first[1] ** 2 + p1.loc / p1.scale**2) / precision
        q1 = Normal(loc, precision**-0.5)
        log_x = pair.likelihood(q1.rsample()).log_prob(x)
        kl = kl_divergence(q1, p1).sum(-1) + kl_divergence(q2, Normal(0.0, 1.0)).sum(-1)
        return (kl - log_x).mean()

    return objective


def _mlp(name: str, **parts: Any) -> Entry:  # noqa: ANN401
    settings = {k: parts.pop(k) for k in ("kind", "reduction") if k in parts}
    return Entry(name, "mlp", loss(**parts), **settings)


def _conv(name: str, **parts: Any) -> Entry:  # noqa: ANN401
    return Entry(name, "conv", loss(**{"nll": normal_nll, **parts}))


def _exact(pair: Any) -> Objective:  # noqa: ANN401
    return lambda x: pair.exact.elbo(x).sum()


RIGHT = [
    _mlp("closed KL, logits"),
    _mlp("sampled KL", kl=sampled_kl),
    _mlp("KL from the log-variance", kl=_from_log_variance),
    _mlp("kl_divergence", kl=_by_torch),
    _mlp("kl_divergence of Independent", kl=_by_independent),
    _mlp("change of variables", kl=_change_of_variables),
    _mlp("entropy closed, prior sampled", kl=_entropy_and_sample),
    _mlp("a tenth of the KL sampled", kl=_mostly_closed),
    _mlp("probabilities", nll=_probabilities),
    _mlp("probabilities with an epsilon", nll=_with_epsilon, kl=sampled_kl),
    _mlp("softplus", nll=_by_softplus),
    _mlp(
        "Bernoulli's log_prob",
        nll=lambda p, x, z: -Bernoulli(logits=p.decode(z)).log_prob(x).sum(PIXELS),
    ),
    _mlp("sum, then divide", join=lambda nll, kl: (nll.sum() + kl.sum()) / len(kl)),
    _mlp("sum", join=lambda nll, kl: (nll + kl).sum(), reduction="sum"),
    _mlp("per example", join=lambda nll, kl: nll + kl, reduction="none"),
    _mlp("ELBO", join=lambda nll, kl: -(nll + kl).mean(), kind="elbo"),
    _mlp("ELBO per example", join=lambda nll, kl: -nll - kl, kind="elbo", reduction="none"),
    _mlp("ELBO summed", join=lambda nll, kl: -(nll + kl).sum(), kind="elbo", reduction="sum"),
    _mlp("rsample", draw=lambda m, s: Normal(m, s).rsample(), kl=sampled_kl),
    _mlp("torch.normal", draw=_torch_normal),
    _mlp("noise in place", draw=lambda m, s: m + s * torch.empty_like(s).normal_()),
    _mlp("numpy's noise", draw=_numpy_noise),
    _mlp("numpy's noise, sampled KL", draw=_numpy_noise, kl=sampled_kl),
    _mlp("one draw for the batch", draw=_shared_noise),
    Entry("five particles, first", "mlp", _particles("first")),
    Entry("five particles, last", "mlp", _particles("last")),
    Entry("three particles in a loop", "mlp", _loop),
    Entry("antithetic", "mlp", _antithetic),
    Entry("Trace_ELBO", "mlp", by_pyro(Trace_ELBO())),
    Entry("TraceMeanField_ELBO", "mlp", by_pyro(TraceMeanField_ELBO())),
    Entry("sticking the landing", "mlp", by_pyro(TraceSTL_ELBO())),
    Entry("score function", "mlp", by_pyro(TraceScoreFunction_ELBO(num_particles=2))),
    _conv("Normal's log_prob"),
    _conv("Normal by hand", nll=_by_hand_normal),
    _conv("gaussian_nll_loss", nll=_gaussian_loss, kl=_from_log_variance),
    _conv("Normal, sampled KL", kl=sampled_kl, draw=reparameterised),
    Entry("conv, analytic KL", "conv", by_pyro(TraceAnalyticKL_ELBO())),
    Entry("toy, closed KL", "toy", toy()),
    Entry("toy, sampled KL", "toy", _toy_sampled),
    Entry(
        "toy, inverse distribution function",
        "toy",
        toy(draw=lambda r: -(-torch.rand_like(r)).log1p() / r),
    ),
    Entry("toy, closed form", "toy", _exact, kind="elbo", reduction="sum"),
    Entry(
        "toy, kl_divergence",
        "toy",
        toy(kl=lambda r, p: kl_divergence(Exponential(r), Exponential(p))),
    ),
    Entry("toy, Trace_ELBO", "toy", by_pyro(Trace_ELBO())),
    Entry("two layers sampled", "bottom-up", two_layers()),
    Entry("two layers, upper KL closed", "bottom-up", two_layers(sampled=False)),
    Entry("two layers, Trace_ELBO", "bottom-up", by_pyro(Trace_ELBO())),
    Entry("two layers, analytic KL", "bottom-up", by_pyro(TraceAnalyticKL_ELBO())),
    Entry("top-down, both KL closed", "top-down", _top_down),
    Entry("top-down, TraceMeanField_ELBO", "top-down", by_pyro(TraceMeanField_ELBO())),
    Entry("top-down, sticking the landing", "top-down", by_pyro(TraceSTL_ELBO())),
]
