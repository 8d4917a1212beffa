"""Wrong objectives for the toy and for VAEs of two stochastic layers."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from pyro.infer import TraceMeanField_ELBO
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from objective_bank.entry import Entry, Make, Objective


def toy(
    nll: Callable[[Any, Tensor, Tensor], Tensor] | None = None,
    kl: Callable[[Tensor, Tensor], Tensor] | None = None,
    draw: Callable[[Tensor], Tensor] = lambda rate: torch.distributions.Exponential(
        rate
    ).rsample(),
    join: Callable[[Tensor, Tensor], Tensor] = lambda nll, kl: (nll + kl).mean(),
) -> Make:
    """Put a loss for the toy together."""

    def make(pair: Any) -> Objective:  # noqa: ANN401
        def objective(x: Tensor) -> Tensor:
            rate = pair.guide_rate(x)
            z = draw(rate)
            divergence = (kl or toy_kl)(rate, pair.prior_rate)
            return join((nll or toy_nll)(pair, x, z), divergence)

        return objective

    return make


def toy_nll(pair: Any, x: Tensor, z: Tensor) -> Tensor:  # noqa: ANN401
    """Return -log p(x | z) of each data set."""
    return -Normal(z.unsqueeze(-1), pair.noise_scale).log_prob(x).sum(-1)


def toy_kl(rate: Tensor, prior: Tensor) -> Tensor:
    """Return KL(Exponential(rate) || Exponential(prior))."""
    return (rate / prior).log() + prior / rate - 1


def two_layers(
    weights: tuple[float, float, float, float] = (1.0, 1.0, 1.0, 1.0),
    *,
    sampled: bool = True,
    standard: bool = False,
    cut: bool = False,
) -> Make:
    """Put a loss for the bottom-up pair together.

    Args:
        weights: of log p(z1 | z2), log p(z2), log q(z1 | x), log q(z2 | z1).
        sampled: whether the upper layer's KL is sampled, not in closed form.
        standard: whether z1's prior is the standard Normal by mistake.
        cut: whether z1 is detached on the way to z2.
    """

    def make(pair: Any) -> Objective:  # noqa: ANN401
        def objective(x: Tensor) -> Tensor:
            q1 = Normal(*pair.encoder[0](x.flatten(1)))
            z1 = q1.rsample()
            q2 = Normal(*pair.encoder[1](z1.detach() if cut else z1))
            z2 = q2.rsample()
            p1 = Normal(0.0, 1.0) if standard else Normal(*pair.prior[0](z2))
            p2 = Normal(torch.zeros_like(z2), torch.ones_like(z2))
            log_x = pair.likelihood(z1).log_prob(x)
            a, b, c, d = weights
            first = (a * p1.log_prob(z1) - c * q1.log_prob(z1)).sum(-1)
            if sampled:
                second = (b * p2.log_prob(z2) - d * q2.log_prob(z2)).sum(-1)
            else:
                second = -kl_divergence(q2, p2).sum(-1)
            return -(log_x + first + second).mean()

        return objective

    return make


def by_pyro(elbo: Any) -> Make:  # noqa: ANN401
    """Return a loss that is one of Pyro's, per example."""

    def make(pair: Any) -> Objective:  # noqa: ANN401
        def objective(x: Tensor) -> Tensor:
            total = elbo.differentiable_loss(pair.model, pair.guide, x)
            return total / pair.num_examples(x)

        return objective

    return make


def _bound_of_the_batch(pair: Any) -> Objective:  # noqa: ANN401
    def objective(x: Tensor) -> Tensor:
        loc, scale = pair.encode(x)
        q = Normal(loc, scale)
        z = q.rsample((4,))
        log_p = Normal(0.0, 1.0).log_prob(z).sum(-1) + pair.likelihood(z).log_prob(x)
        log_w = (log_p - q.log_prob(z).sum(-1)).sum(-1)
        return -(log_w.logsumexp(0) - math.log(4)) / len(x)

    return objective


def _toy(name: str, finding: tuple[str, str], says: str, **parts: Any) -> Entry:  # noqa: ANN401
    return Entry(name, "toy", toy(**parts), finding=finding, says=says)


def _deep(name: str, finding: tuple[str, str], says: str, make: Make) -> Entry:
    return Entry(name, "bottom-up", make, finding=finding, says=says)


WRONG_DEEP = [
    _toy(
        "toy's likelihood averaged over the numbers",
        ("weight", "log_likelihood"),
        "1/5",
        join=lambda nll, kl: (nll / 5 + kl).mean(),
    ),
    _toy("toy's KL missing", ("missing", "kl"), "missing", kl=lambda r, p: 0 * r),
    _toy("toy's KL with the wrong sign", ("sign", "kl"), "sign", kl=lambda r, p: -toy_kl(r, p)),
    _toy(
        "toy's KL without its 1",
        ("constant", "constant"),
        "constant",
        kl=lambda r, p: toy_kl(r, p) + 1,
    ),
    _toy(
        "toy's KL with its arguments swapped",
        ("formula", "kl"),
        "swapped",
        kl=lambda r, p: toy_kl(p, r),
    ),
    _toy(
        "toy's rate taken for a scale",
        ("noise", "log_likelihood"),
        "rate",
        draw=lambda r: torch.empty_like(r).exponential_() * r,
    ),
    _toy(
        "toy's loss summed",
        ("reduction", "objective"),
        "batch",
        join=lambda nll, kl: (nll + kl).sum(),
    ),
    _toy(
        "toy's Normal constant dropped",
        ("constant", "constant"),
        "constant",
        nll=lambda p, x, z: ((x - z.unsqueeze(-1)) / p.noise_scale).square().sum(-1) / 2,
    ),
    _deep(
        "upper layer's log p missing",
        ("missing", "log_prior"),
        "z2",
        two_layers((1.0, 0.0, 1.0, 1.0)),
    ),
    _deep(
        "upper layer's log q missing",
        ("missing", "entropy"),
        "z2",
        two_layers((1.0, 1.0, 1.0, 0.0)),
    ),
    _deep(
        "lower layer's log p averaged",
        ("part", "log_prior"),
        "1/4",
        two_layers((0.25, 1.0, 1.0, 1.0)),
    ),
    _deep(
        "lower layer's log q counted twice",
        ("part", "entropy"),
        "z1",
        two_layers((1.0, 1.0, 2.0, 1.0)),
    ),
    _deep(
        "lower layer's prior taken as standard",
        ("formula", "log_prior"),
        "standard",
        two_layers(standard=True),
    ),
    _deep(
        "lower layer detached on the way up",
        ("gradient", "encoder"),
        "encoder",
        two_layers(cut=True),
    ),
    _deep(
        "one closed KL per layer, bottom-up",
        ("formula", "kl"),
        "closed form",
        by_pyro(TraceMeanField_ELBO()),
    ),
    Entry(
        "importance weights of the whole batch",
        "mlp",
        _bound_of_the_batch,
        finding=("bound", "objective"),
        says="whole batch",
    ),
]
