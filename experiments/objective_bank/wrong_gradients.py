"""Right values with a wrong gradient."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributions import Normal

from objective_bank.entry import (
    PIXELS,
    Entry,
    Objective,
    closed_kl,
    loss,
    normal_nll,
    reparameterised,
    sampled_kl,
)

THROUGH_Z = "through z"


def _doubled(value: Tensor) -> Tensor:
    return 2 * value - value.detach()


def _frozen_decoder(pair: Any) -> Objective:  # noqa: ANN401
    def objective(x: Tensor) -> Tensor:
        loc, scale = pair.encode(x)
        frozen = {name: p.detach() for name, p in pair.decoder.named_parameters()}
        z = reparameterised(loc, scale)
        logits = torch.func.functional_call(pair.decoder, frozen, (z,))
        nll = F.binary_cross_entropy_with_logits(logits, x, reduction="none").sum(PIXELS)
        return (nll + closed_kl(loc, scale, z)).mean()

    return objective


def _toy_without_path(pair: Any) -> Objective:  # noqa: ANN401
    def objective(x: Tensor) -> Tensor:
        rate = pair.guide_rate(x)
        z = torch.distributions.Exponential(rate).sample()
        log_q = torch.distributions.Exponential(rate).log_prob(z)
        log_p = torch.distributions.Exponential(pair.prior_rate).log_prob(z)
        log_x = Normal(z.unsqueeze(-1), pair.noise_scale).log_prob(x).sum(-1)
        return (log_q - log_p - log_x).mean()

    return objective


WRONG_GRADIENTS = [
    Entry(
        "z detached",
        "mlp",
        loss(draw=lambda m, s: reparameterised(m, s).detach()),
        finding=("gradient", "encoder"),
        says=THROUGH_Z,
    ),
    Entry(
        "sample instead of rsample",
        "mlp",
        loss(draw=lambda m, s: Normal(m, s).sample()),
        finding=("gradient", "encoder"),
        says=THROUGH_Z,
    ),
    Entry(
        "sample instead of rsample, sampled KL",
        "mlp",
        loss(draw=lambda m, s: Normal(m, s).sample(), kl=sampled_kl),
        finding=("gradient", "encoder"),
        says="no gradient reaches encoder",
    ),
    Entry(
        "KL detached",
        "mlp",
        loss(kl=lambda m, s, z: closed_kl(m, s, z).detach()),
        finding=("gradient", "encoder"),
        says="does not reach encoder",
    ),
    Entry(
        "decoder detached",
        "mlp",
        _frozen_decoder,
        finding=("gradient", "decoder"),
        says="no gradient reaches decoder",
    ),
    Entry(
        "gradient doubled",
        "mlp",
        loss(join=lambda nll, kl: _doubled((nll + kl).mean())),
        finding=("gradient", "encoder"),
        says="2 times",
    ),
    Entry(
        "locations detached",
        "mlp",
        loss(draw=lambda m, s: m.detach() + s * torch.randn_like(s)),
        finding=("gradient", "encoder"),
        says="encoder",
    ),
    Entry(
        "scales detached",
        "mlp",
        loss(
            draw=lambda m, s: reparameterised(m, s.detach()),
            kl=lambda m, s, z: closed_kl(m, s.detach(), z),
        ),
        finding=("gradient", "encoder"),
        says="encoder",
    ),
    Entry(
        "z detached, Normal pixels",
        "conv",
        loss(nll=normal_nll, draw=lambda m, s: reparameterised(m, s).detach()),
        finding=("gradient", "encoder"),
        says=THROUGH_Z,
    ),
    Entry(
        "toy without reparameterisation",
        "toy",
        _toy_without_path,
        finding=("gradient", "log_rate"),
        says="no gradient reaches log_rate",
    ),
]
