"""Wrong draws, weights and reductions in the loss of a VAE with Bernoulli pixels."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributions import Normal

from objective_bank.entry import (
    Entry,
    closed_kl,
    cross_entropy,
    loss,
    sampled_kl,
)


def _mlp(name: str, finding: tuple[str, str], says: str = "", **parts: Any) -> Entry:  # noqa: ANN401
    settings = {k: parts.pop(k) for k in ("kind", "reduction") if k in parts}
    return Entry(name, "mlp", loss(**parts), finding=finding, says=says, **settings)


def _several_summed(pair: Any) -> Any:  # noqa: ANN401
    def objective(x: Tensor) -> Tensor:
        loc, scale = pair.encode(x)
        draws = [loc + scale * torch.randn_like(scale) for _ in range(4)]
        total = torch.stack([cross_entropy(pair, x, z) for z in draws]).sum(0)
        return (total + closed_kl(loc, scale, loc)).mean()

    return objective


def _importance_weighted(pair: Any) -> Any:  # noqa: ANN401
    def objective(x: Tensor) -> Tensor:
        loc, scale = pair.encode(x)
        z = Normal(loc, scale).rsample((5,))
        log_w = -sampled_kl(loc, scale, z) + pair.likelihood(z).log_prob(x)
        return -(log_w.logsumexp(0) - torch.tensor(5.0).log()).mean()

    return objective


def _with_weight_decay(pair: Any) -> Any:  # noqa: ANN401
    right = loss()(pair)
    return lambda x: right(x) + 1e-2 * sum(p.square().sum() for p in pair.parameters())


WRONG_DRAWS = [
    _mlp(
        "KL averaged over the batch twice",
        ("reduction", "kl"),
        "divided by the batch",
        join=lambda nll, kl: nll.mean() + kl.mean() / len(kl),
    ),
    _mlp(
        "KL summed over the batch",
        ("reduction", "kl"),
        "multiplied by the batch",
        join=lambda nll, kl: nll.mean() + kl.sum(),
    ),
    _mlp(
        "reconstruction summed over the batch",
        ("reduction", "log_likelihood"),
        "multiplied",
        join=lambda nll, kl: nll.sum() + kl.mean(),
    ),
    _mlp(
        "everything summed over the batch",
        ("reduction", "objective"),
        "off by the batch size",
        join=lambda nll, kl: (nll + kl).sum(),
    ),
    _mlp(
        "averaged, though it claims a sum",
        ("reduction", "objective"),
        "off by the batch size",
        reduction="sum",
    ),
    _mlp("KL with the wrong sign", ("sign", "kl"), "sign", kl=lambda m, s, z: -closed_kl(m, s, z)),
    _mlp(
        "z drawn with the exponential of the log-variance",
        ("formula", "log_likelihood"),
        "log-variance used",
        draw=lambda m, s: m + s**2 * torch.randn_like(s),
    ),
    _mlp(
        "log-variance taken for log-scale throughout",
        ("formula", "objective"),
        "log-variance used",
        draw=lambda m, s: m + s**2 * torch.randn_like(s),
        kl=lambda m, s, z: closed_kl(m, s**2, z),
    ),
    _mlp("no noise", ("noise", "log_likelihood"), "no noise", draw=lambda m, s: m + 0 * s),
    _mlp(
        "noise of scale 0.01",
        ("noise", "log_likelihood"),
        "0.01",
        draw=lambda m, s: m + s * 0.01 * torch.randn_like(s),
    ),
    _mlp(
        "uniform noise",
        ("noise", "log_likelihood"),
        "uniform",
        draw=lambda m, s: m + s * torch.rand_like(s),
    ),
    _mlp(
        "scale left out of the draw",
        ("noise", "log_likelihood"),
        "left out",
        draw=lambda m, s: m + torch.randn_like(s),
    ),
    _mlp(
        "z drawn from the prior",
        ("noise", "log_likelihood"),
        "prior",
        draw=lambda m, s: 0 * m + torch.randn_like(s),
    ),
    _mlp(
        "dropout on z",
        ("noise", "objective"),
        "dropout is left on",
        nll=lambda p, x, z: cross_entropy(p, x, F.dropout(z, 0.2)),
    ),
    _mlp(
        "noise of scale 0.3",
        ("noise", "log_likelihood"),
        "0.3",
        draw=lambda m, s: m + 0.3 * s * torch.randn_like(s),
    ),
    _mlp(
        "one noise for all dimensions",
        ("noise", "log_likelihood"),
        "shared",
        draw=lambda m, s: m + s * torch.randn_like(s[:, :1]),
    ),
    _mlp(
        "one number of noise for everything",
        ("noise", "log_likelihood"),
        "whole batch",
        draw=lambda m, s: m + s * torch.randn(1, device=s.device),
    ),
    _mlp(
        "dropout on z and a KL averaged over latents",
        ("weight", "kl"),
        "1/3: averaged over the latent",
        nll=lambda p, x, z: cross_entropy(p, x, F.dropout(z, 0.2)),
        kl=lambda m, s, z: closed_kl(m, s, z) / 3,
    ),
    _mlp("beta of 4", ("weight", "kl"), "beta = 4", kl=lambda m, s, z: 4 * closed_kl(m, s, z)),
    _mlp(
        "KL annealed to 0.3",
        ("weight", "kl"),
        "beta = 0.3",
        kl=lambda m, s, z: 0.3 * closed_kl(m, s, z),
    ),
    Entry(
        "four particles summed",
        "mlp",
        _several_summed,
        finding=("weight", "log_likelihood"),
        says="= 4",
    ),
    Entry(
        "importance-weighted bound",
        "mlp",
        _importance_weighted,
        finding=("bound", "objective"),
        says="5 particles",
    ),
    Entry(
        "weight decay inside",
        "mlp",
        _with_weight_decay,
        finding=("extra", "objective"),
        says="squares of all parameters",
    ),
    _mlp(
        "ELBO passed as a loss",
        ("sign", "objective"),
        "kind='elbo'",
        join=lambda nll, kl: -(nll + kl).mean(),
    ),
    _mlp("loss passed as an ELBO", ("sign", "objective"), "kind='loss'", kind="elbo"),
    _mlp(
        "log q with the wrong sign",
        ("sign", "entropy"),
        "sign",
        kl=lambda m, s, z: -(Normal(m, s).log_prob(z) + Normal(0.0, 1.0).log_prob(z)).sum(-1),
    ),
    _mlp(
        "divided by a fixed 128",
        ("weight", "objective"),
        "1/128",
        join=lambda nll, kl: (nll + kl).mean() / 128,
    ),
]
