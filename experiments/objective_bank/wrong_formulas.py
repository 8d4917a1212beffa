"""Wrong formulas with a number in them, other priors and other bounds."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from objective_bank.entry import (
    PIXELS,
    Entry,
    Objective,
    closed_kl,
    cross_entropy,
    loss,
    normal_nll,
    reparameterised,
    sampled_kl,
)

KL = ("formula", "kl")
LIKELIHOOD = ("formula", "log_likelihood")


def _mlp(name: str, finding: tuple[str, str], says: str = "", **parts: Any) -> Entry:  # noqa: ANN401
    return Entry(name, "mlp", loss(**parts), finding=finding, says=says)


def _to(loc: float, scale: float) -> Any:  # noqa: ANN401
    def kl(m: Tensor, s: Tensor, z: Tensor) -> Tensor:
        prior = Normal(torch.full_like(m, loc), torch.full_like(m, scale))
        return kl_divergence(Normal(m, s), prior).sum(-1)

    return kl


def _by_dimension(m: Tensor, s: Tensor) -> Tensor:
    return 0.5 * (s**2 + m**2 - 1) - s.log()


def _clamped(m: Tensor, s: Tensor, z: Tensor) -> Tensor:
    return closed_kl(m, (2 * s.log()).clamp(-0.5, 0.5).mul(0.5).exp(), z)


def _with_epsilon(pair: Any, x: Tensor, z: Tensor) -> Tensor:  # noqa: ANN401
    p = pair.decode(z).sigmoid()
    return -(x * (p + 0.01).log() + (1 - x) * (1 - p + 0.01).log()).sum(PIXELS)


def _without_square(m: Tensor, s: Tensor, z: Tensor) -> Tensor:
    return -0.5 * (1 + 2 * s.log() - m - s**2).sum(-1)


def _over_batch(m: Tensor, s: Tensor, z: Tensor) -> Tensor:
    mean = closed_kl(m.mean(0, keepdim=True), s.mean(0, keepdim=True), z)
    return mean.expand(len(m))


def _log_weights(pair: Any, x: Tensor, count: int) -> Tensor:  # noqa: ANN401
    loc, scale = pair.encode(x)
    z = Normal(loc, scale).rsample((count,))
    return pair.likelihood(z).log_prob(x) - sampled_kl(loc, scale, z)


def _summed_weights(pair: Any) -> Objective:  # noqa: ANN401
    return lambda x: -_log_weights(pair, x, 5).logsumexp(0).mean()


def _renyi(pair: Any) -> Objective:  # noqa: ANN401
    def objective(x: Tensor) -> Tensor:
        return -2 * ((0.5 * _log_weights(pair, x, 5)).logsumexp(0) - math.log(5)).mean()

    return objective


def _mean_likelihood(pair: Any) -> Objective:  # noqa: ANN401
    def objective(x: Tensor) -> Tensor:
        loc, scale = pair.encode(x)
        log_x = pair.likelihood(Normal(loc, scale).rsample((4,))).log_prob(x)
        return (closed_kl(loc, scale, loc) - log_x.logsumexp(0) + math.log(4)).mean()

    return objective


def _kl_by_particle(pair: Any) -> Objective:  # noqa: ANN401
    def objective(x: Tensor) -> Tensor:
        loc, scale = pair.encode(x)
        log_x = pair.likelihood(Normal(loc, scale).rsample((5,))).log_prob(x)
        return (5 * closed_kl(loc, scale, loc) - log_x.mean(0)).mean()

    return objective


def _drawn_once(pair: Any) -> Objective:  # noqa: ANN401
    def objective(x: Tensor) -> Tensor:
        loc, scale = pair.encode(x)
        source = torch.Generator().manual_seed(5)
        noise = torch.randn(scale.shape, generator=source, dtype=scale.dtype).to(scale.device)
        z = loc + scale * noise
        return (cross_entropy(pair, x, z) + closed_kl(loc, scale, z)).mean()

    return objective


def _bias_only(pair: Any) -> Objective:  # noqa: ANN401
    def objective(x: Tensor) -> Tensor:
        loc, scale = pair.encode(x)
        z = reparameterised(loc, scale)
        held = {n: p if "bias" in n else p.detach() for n, p in pair.decoder.named_parameters()}
        logits = torch.func.functional_call(pair.decoder, held, (z,))
        nll = F.binary_cross_entropy_with_logits(logits, x, reduction="none").sum(PIXELS)
        return (nll + closed_kl(loc, scale, z)).mean()

    return objective


def _two_layers_apart(pair: Any) -> Objective:  # noqa: ANN401
    def objective(x: Tensor) -> Tensor:
        q1 = Normal(*pair.encoder[0](x.flatten(1)))
        z1 = q1.rsample()
        q2 = Normal(*pair.encoder[1](q1.rsample()))
        z2 = q2.rsample()
        kl = (q1.log_prob(z1) - Normal(*pair.prior[0](z2)).log_prob(z1)).sum(-1)
        kl = kl + (q2.log_prob(z2) - Normal(0.0, 1.0).log_prob(z2)).sum(-1)
        return (kl - pair.likelihood(z1).log_prob(x)).mean()

    return objective


WRONG_FORMULAS = [
    _mlp("prior of scale 2", ("formula", "log_prior"), "scale is 2", kl=_to(0.0, 2.0)),
    _mlp("prior of mean 1", ("formula", "log_prior"), "location is 1", kl=_to(1.0, 1.0)),
    Entry(
        "prior of scale 0.5, Normal pixels",
        "conv",
        loss(nll=normal_nll, kl=_to(0.0, 0.5)),
        finding=("formula", "log_prior"),
        says="scale is 0.5",
    ),
    _mlp(
        "free bits of 0.15",
        KL,
        "above 0.15",
        kl=lambda m, s, z: _by_dimension(m, s).clamp_min(0.15).sum(-1),
    ),
    _mlp(
        "KL floored at 0.8",
        KL,
        "above 0.8",
        kl=lambda m, s, z: closed_kl(m, s, z).clamp_min(0.8),
    ),
    _mlp(
        "capacity of 2 nats",
        KL,
        "|KL - 2|",
        kl=lambda m, s, z: 3 * (closed_kl(m, s, z) - 2).abs(),
    ),
    _mlp("KL with the log-variance clamped", KL, "clamped to (-0.5, 0.5)", kl=_clamped),
    _mlp("epsilon beside the scale", KL, "0.05", kl=lambda m, s, z: closed_kl(m, s + 0.05, z)),
    _mlp("KL of the batch's mean", KL, "averaged over the batch", kl=_over_batch),
    _mlp(
        "a latent dimension left out",
        KL,
        "dimension 0",
        kl=lambda m, s, z: closed_kl(m[:, 1:], s[:, 1:], z),
    ),
    _mlp("k2 in place of the KL", KL, "k2", kl=lambda m, s, z: sampled_kl(m, s, z) ** 2 / 2),
    _mlp("sampled KL cut off at 0", KL, "below 0", kl=lambda m, s, z: sampled_kl(m, s, z).relu()),
    _mlp("locations not squared", ("extra", "kl"), "sum(loc)", kl=_without_square),
    _mlp(
        "in bits",
        ("weight", "objective"),
        "in bits",
        join=lambda n, k: (n + k).mean() / math.log(2),
    ),
    _mlp(
        "label smoothing",
        LIKELIHOOD,
        "smoothing",
        nll=lambda p, x, z: cross_entropy(p, 0.9 * x + 0.05, z),
    ),
    _mlp("epsilon of 0.01 in the logarithms", LIKELIHOOD, "epsilon of 0.01", nll=_with_epsilon),
    _mlp(
        "KL of z detached in log p",
        ("gradient", "encoder"),
        "log_prior",
        kl=lambda m, s, z: (Normal(m, s).log_prob(z) - Normal(0.0, 1.0).log_prob(z.detach())).sum(
            -1
        ),
    ),
    Entry(
        "noise drawn once",
        "mlp",
        _drawn_once,
        finding=("leftover", "log_likelihood"),
        says="same value",
    ),
    Entry(
        "weights summed in the bound",
        "mlp",
        _summed_weights,
        finding=("constant", "constant"),
        says="log 5",
    ),
    Entry("Rényi bound", "mlp", _renyi, finding=("bound", "objective"), says="alpha = 0.5"),
    Entry(
        "mean of the likelihood",
        "mlp",
        _mean_likelihood,
        finding=LIKELIHOOD,
        says="mean over particles",
    ),
    Entry(
        "KL once a particle", "mlp", _kl_by_particle, finding=("weight", "kl"), says="particles"
    ),
    Entry(
        "decoder's biases alone", "mlp", _bias_only, finding=("gradient", "decoder"), says="weight"
    ),
    Entry(
        "upper layer from another draw",
        "bottom-up",
        _two_layers_apart,
        finding=KL,
        says="very latent",
    ),
]
