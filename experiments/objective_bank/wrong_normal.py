"""Wrong losses of a VAE with Normal pixels."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.distributions import Normal

from objective_bank.entry import (
    PIXELS,
    Entry,
    loss,
    normal_nll,
)


def _conv(name: str, finding: tuple[str, str], says: str = "", **parts: Any) -> Entry:  # noqa: ANN401
    return Entry(name, "conv", loss(**{"nll": normal_nll, **parts}), finding=finding, says=says)


def _entropy_by_absolute_value(loc: Tensor, scale: Tensor, z: Tensor) -> Tensor:
    noise = (z - loc) / scale
    log_q = Normal(0.0, 1.0).log_prob(noise).sum(-1) + scale.log().sum(-1).abs()
    return log_q - Normal(0.0, 1.0).log_prob(z).sum(-1)


def _half_prior(loc: Tensor, scale: Tensor, z: Tensor) -> Tensor:
    log_q, log_p = Normal(loc, scale).log_prob(z), Normal(0.0, 1.0).log_prob(z)
    return log_q.sum(-1) - log_p.mean(-1)


def _half_square(pair: Any, x: Tensor, z: Tensor) -> Tensor:  # noqa: ANN401
    gap = (x - pair.decode(z)) / pair.log_scale.exp()
    return (gap**2 / 2).sum(PIXELS) + pair.log_scale * x[0].numel()


def _whole_square(pair: Any, x: Tensor, z: Tensor) -> Tensor:  # noqa: ANN401
    return normal_nll(pair, x, z) + _squares(pair, x, z)


def _squares(pair: Any, x: Tensor, z: Tensor) -> Tensor:  # noqa: ANN401
    gap = (x - pair.decode(z)) / pair.log_scale.exp()
    return (gap**2 / 2).sum(PIXELS)


def _without_log_scale(pair: Any, x: Tensor, z: Tensor) -> Tensor:  # noqa: ANN401
    return normal_nll(pair, x, z) - pair.log_scale * x[0].numel()


def _scale_as_variance(pair: Any, x: Tensor, z: Tensor) -> Tensor:  # noqa: ANN401
    return -Normal(pair.decode(z), (0.5 * pair.log_scale).exp()).log_prob(x).sum(PIXELS)


def _absolute_error(pair: Any, x: Tensor, z: Tensor) -> Tensor:  # noqa: ANN401
    return (x - pair.decode(z)).abs().sum(PIXELS)


WRONG_NORMAL = [
    _conv(
        "log q by an absolute value",
        ("formula", "entropy"),
        "absolute value",
        kl=_entropy_by_absolute_value,
    ),
    _conv("log p left with two more axes", ("weight", "log_prior"), "1/5", kl=_half_prior),
    _conv(
        "Normal's constant dropped", ("constant", "constant"), "64/2 log 2 pi", nll=_half_square
    ),
    _conv(
        "squared error without its half",
        ("part", "log_likelihood"),
        "squared error",
        nll=_whole_square,
    ),
    _conv(
        "squared error averaged over pixels",
        ("weight", "log_likelihood"),
        "1/64",
        nll=lambda p, x, z: normal_nll(p, x, z) / 64,
    ),
    _conv(
        "log of the likelihood's scale left out",
        ("missing", "log_likelihood"),
        "log(scale)",
        nll=_without_log_scale,
    ),
    _conv(
        "likelihood's scale taken for a variance",
        ("formula", "log_likelihood"),
        "variance",
        nll=_scale_as_variance,
    ),
    _conv("absolute error", ("formula", "log_likelihood"), "absolute error", nll=_absolute_error),
    _conv(
        "noise of scale 0.01, Normal pixels",
        ("noise", "log_likelihood"),
        "0.01",
        draw=lambda m, s: m + s * 0.01 * torch.randn_like(s),
    ),
    _conv(
        "analytic KL of the whole batch beside a loss per example",
        ("reduction", "kl"),
        "multiplied by the batch",
        join=lambda nll, kl: nll.mean() + kl.sum(),
    ),
]
