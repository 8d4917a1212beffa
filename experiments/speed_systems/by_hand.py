"""The losses as one writes them in PyTorch, without Pyro."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from speed_systems.systems import RATE, Data, System

Steps = Callable[[int], object]
HALF_LOG_2_PI = 0.5 * math.log(2 * math.pi)


def losses(system: System, device: str) -> tuple[Any, Callable[[Tensor], Tensor]]:
    """Return a pair, whose networks are used, and its loss summed over a batch."""
    pair: Any = system.make().to(device)
    if "conv" in system.name:
        pair.to(memory_format=torch.channels_last)
    name = system.name.partition(",")[0].split()[0]
    return pair, lambda x: _LOSSES[name](pair, x)


def steps(
    system: System,
    data: Data,
    device: str,
    *,
    compile: bool,
    mode: str | None = None,
    bf16: bool = False,
) -> Steps:
    """Return steps with Adam; torch.compile takes the loss and its derivative."""
    pair, loss = losses(system, device)
    kind = torch.device(device).type
    optimizer = torch.optim.Adam(pair.parameters(), lr=RATE, fused=kind == "cuda")
    objective = torch.compile(loss, mode=mode) if compile else loss

    def take(steps: int) -> None:
        for _ in range(steps):
            optimizer.zero_grad(set_to_none=True)
            with torch.autocast(kind, torch.bfloat16, enabled=bf16):
                value = objective(data.random(system.batch_size))
            value.backward()
            optimizer.step()

    return take


def difference(system: System, data: Data, device: str, elbo: Any, seed: int) -> float:  # noqa: ANN401
    """Return the relative difference of one loss from Pyro's estimator on the same noise."""
    pair, loss = losses(system, device)
    x = data.batch(torch.arange(system.batch_size, device=device))
    torch.manual_seed(seed)
    ours = float(loss(x).detach())
    torch.manual_seed(seed)
    theirs = elbo().loss(pair.model, pair.guide, x)
    return abs(ours - theirs) / abs(theirs)


def _toy(pair: Any, x: Tensor) -> Tensor:  # noqa: ANN401
    rate, prior_rate, noise_scale = pair.log_rate.exp(), pair.prior_rate, pair.noise_scale
    z = torch.empty_like(rate).exponential_() / rate
    log_q = pair.log_rate - rate * z
    log_prior = prior_rate.log() - prior_rate * z
    constant = len(x) * (noise_scale.log() + HALF_LOG_2_PI)
    return log_q - log_prior + 0.5 * ((x - z) / noise_scale).square().sum() + constant


def _bernoulli(pair: Any, x: Tensor) -> Tensor:  # noqa: ANN401
    loc, scale = pair.encode(x)
    z = loc + scale * torch.randn_like(loc)
    fit = F.binary_cross_entropy_with_logits(pair.decode(z), x, reduction="sum")
    return fit + _kl(loc, scale)


def _conv(pair: Any, x: Tensor) -> Tensor:  # noqa: ANN401
    loc, scale = pair.encode(x)
    z = loc + scale * torch.randn_like(loc)
    constant = x.numel() * HALF_LOG_2_PI
    return 0.5 * (x - pair.decode(z)).square().sum() + constant + _kl(loc, scale)


def _hierarchical(pair: Any, x: Tensor) -> Tensor:  # noqa: ANN401
    total, below, draws = torch.zeros((), device=x.device), x.flatten(1), []
    for encoder in pair.encoder:
        loc, scale = encoder(below)
        below = loc + scale * torch.randn_like(loc)
        draws.append(below)
        total = total + _log_normal(below, loc, scale)
    for prior, z, above in zip(pair.prior, draws[:-1], draws[1:], strict=True):
        total = total - _log_normal(z, *prior(above))
    top = draws[-1]
    total = total - _log_normal(top, torch.zeros_like(top), torch.ones_like(top))
    logits = pair.decoder(draws[0])
    return total + F.binary_cross_entropy_with_logits(logits, x, reduction="sum")


def _kl(loc: Tensor, scale: Tensor) -> Tensor:
    return 0.5 * (loc**2 + scale**2 - 2 * scale.log() - 1).sum()


def _log_normal(z: Tensor, loc: Tensor, scale: Tensor) -> Tensor:
    constant = z.numel() * HALF_LOG_2_PI
    return -(0.5 * ((z - loc) / scale) ** 2 + scale.log()).sum() - constant


_LOSSES = {
    "toy": _toy,
    "bernoulli": _bernoulli,
    "conv": _conv,
    "hierarchical": _hierarchical,
}
