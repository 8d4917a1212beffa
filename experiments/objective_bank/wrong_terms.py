"""Wrong terms in the loss of a VAE with Bernoulli pixels."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor
from torch.distributions import Normal

from objective_bank.entry import (
    PIXELS,
    Entry,
    closed_kl,
    loss,
)


def _from_log_variance(loc: Tensor, log_variance: Tensor) -> Tensor:
    return -0.5 * (1 + log_variance - loc**2 - log_variance.exp()).sum(-1)


def _mlp(name: str, finding: tuple[str, str], says: str = "", **parts: Any) -> Entry:  # noqa: ANN401
    settings = {k: parts.pop(k) for k in ("kind", "reduction") if k in parts}
    return Entry(name, "mlp", loss(**parts), finding=finding, says=says, **settings)


def _ones_only(pair: Any, x: Tensor, z: Tensor) -> Tensor:  # noqa: ANN401
    return -(x * F.logsigmoid(pair.decode(z))).sum(PIXELS)


def _zeros_only(pair: Any, x: Tensor, z: Tensor) -> Tensor:  # noqa: ANN401
    return -((1 - x) * F.logsigmoid(-pair.decode(z))).sum(PIXELS)


def _sigmoid_twice(pair: Any, x: Tensor, z: Tensor) -> Tensor:  # noqa: ANN401
    p = pair.decode(z).sigmoid()
    return F.binary_cross_entropy_with_logits(p, x, reduction="none").sum(PIXELS)


def _squared_error(pair: Any, x: Tensor, z: Tensor) -> Tensor:  # noqa: ANN401
    return (x - pair.decode(z).sigmoid()).square().sum(PIXELS)


def _half_prior(loc: Tensor, scale: Tensor, z: Tensor) -> Tensor:
    log_q, log_p = Normal(loc, scale).log_prob(z), Normal(0.0, 1.0).log_prob(z)
    return log_q.sum(-1) - log_p.mean(-1)


def _at_the_mean(loc: Tensor, scale: Tensor, z: Tensor) -> Tensor:
    return (Normal(loc, scale).log_prob(loc) - Normal(0.0, 1.0).log_prob(loc)).sum(-1)


WRONG_TERMS = [
    _mlp(
        "reconstruction averaged over pixels",
        ("weight", "log_likelihood"),
        "1/36: averaged",
        join=lambda nll, kl: (nll / 36 + kl).mean(),
    ),
    _mlp(
        "KL averaged over latents",
        ("weight", "kl"),
        "1/3: averaged over the latent",
        kl=lambda m, s, z: closed_kl(m, s, z) / 3,
    ),
    _mlp(
        "KL averaged over pixels",
        ("weight", "kl"),
        "1/36: averaged over the pixels",
        kl=lambda m, s, z: closed_kl(m, s, z) / 36,
    ),
    _mlp(
        "KL without its half", ("weight", "kl"), "= 2", kl=lambda m, s, z: 2 * closed_kl(m, s, z)
    ),
    _mlp("KL missing", ("missing", "kl"), "missing", kl=lambda m, s, z: 0 * closed_kl(m, s, z)),
    _mlp(
        "KL without its 1",
        ("constant", "constant"),
        "the 1 of",
        kl=lambda m, s, z: (0.5 * (s**2 + m**2) - s.log()).sum(-1),
    ),
    _mlp(
        "KL without log scale",
        ("missing", "entropy"),
        "sum(log scale)",
        kl=lambda m, s, z: (0.5 * (s**2 + m**2 - 1)).sum(-1),
    ),
    _mlp(
        "KL without the squared locations",
        ("missing", "log_prior"),
        "locations",
        kl=lambda m, s, z: (0.5 * (s**2 - 1) - s.log()).sum(-1),
    ),
    _mlp(
        "KL takes the log-scale for a log-variance",
        ("formula", "kl"),
        "log-scale used",
        kl=lambda m, s, z: _from_log_variance(m, s.log()),
    ),
    _mlp(
        "cross-entropy of the ones only",
        ("missing", "log_likelihood"),
        "pixels that are 0",
        nll=_ones_only,
    ),
    _mlp(
        "cross-entropy of the zeros only",
        ("missing", "log_likelihood"),
        "pixels that are 1",
        nll=_zeros_only,
    ),
    _mlp("sigmoid twice", ("formula", "log_likelihood"), "sigmoid twice", nll=_sigmoid_twice),
    _mlp(
        "squared error of Bernoulli pixels",
        ("formula", "log_likelihood"),
        "squared error",
        nll=_squared_error,
    ),
    _mlp(
        "KL(p || q)",
        ("formula", "kl"),
        "swapped",
        kl=lambda m, s, z: ((1 + m**2) / (2 * s**2) - 0.5 + s.log()).sum(-1),
    ),
    _mlp(
        "free bits of 0.5",
        ("formula", "kl"),
        "free bits",
        kl=lambda m, s, z: (0.5 * (s**2 + m**2 - 1) - s.log()).clamp_min(0.5).sum(-1),
    ),
    _mlp(
        "log p averaged over latents",
        ("weight", "log_prior"),
        "1/3: averaged over the latent",
        kl=_half_prior,
    ),
    _mlp(
        "log q left out",
        ("missing", "entropy"),
        "missing",
        kl=lambda m, s, z: -Normal(0.0, 1.0).log_prob(z).sum(-1),
    ),
    _mlp("densities at the mean instead of z", ("noise", "kl"), "guide's mean", kl=_at_the_mean),
]
