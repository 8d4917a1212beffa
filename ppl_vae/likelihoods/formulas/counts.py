"""Log-likelihoods of counts: Poisson, negative binomial, and with excess zeros."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributions import NegativeBinomial, Poisson


def poisson_parts(fn: Any, x: Tensor) -> dict[str, Tensor]:  # noqa: ANN401
    """Return the three parts of x log(rate) - rate - lgamma(x + 1)."""
    parts = {
        "x log(rate)": torch.xlogy(x, fn.rate),
        "-rate": (-fn.rate).expand(_shape(x, fn.rate)),
    }
    return parts | factorial(fn, x)


def negative_binomial_parts(fn: Any, x: Tensor) -> dict[str, Tensor]:  # noqa: ANN401
    """Return the five parts, by total_count and probs as torch has them."""
    size, logits = size_and_logits(fn)
    shape = _shape(x, logits)
    return {
        "total_count log(1 - probs)": size * F.logsigmoid(-logits).expand(shape),
        "x log(probs)": x * F.logsigmoid(logits),
        "lgamma(x + total_count)": torch.lgamma(x + size).expand(shape),
        "-lgamma(total_count)": -torch.lgamma(size).expand(shape),
    } | factorial(fn, x)


def factorial(fn: Any, x: Tensor) -> dict[str, Tensor]:  # noqa: ANN401
    """Return the part that all families of counts share, without any parameter."""
    return {"-lgamma(x + 1)": -torch.lgamma(x + 1).expand(_shape(x, fn.mean))}


def wrong_poisson(fn: Any, x: Tensor) -> dict[str, Tensor]:  # noqa: ANN401
    """Return what is met in place of a Poisson's log-density, beside wrong parameters."""
    stirling = torch.xlogy(x, x) - x + 0.5 * (2 * torch.pi * x.clamp_min(1)).log()
    log_prob = torch.xlogy(x, fn.rate) - fn.rate - torch.where(x > 1, stirling, 0 * x)
    words = "Stirling's approximation in place of lgamma(x + 1)"
    return {words: log_prob} | _squares(fn.rate, x)


def wrong_negative_binomial(fn: Any, x: Tensor) -> dict[str, Tensor]:  # noqa: ANN401
    """Return what is met in place of a negative binomial's log-density."""
    size, logits = size_and_logits(fn)
    mean = size * logits.exp()
    poisson = Poisson(mean, validate_args=False).log_prob(x)

    def of(total_count: Tensor, logits: Tensor) -> Tensor:
        return NegativeBinomial(total_count, logits=logits, validate_args=False).log_prob(x)

    return {
        "mean and dispersion (total_count) are swapped": of(mean, -logits),
        "total_count and logits are swapped, as log(total_count)": of(logits.exp(), size.log()),
        "the log of the mean is taken for the logits": of(size, mean.log()),
        "the mean is taken for total_count": of(mean, logits),
        "the dispersion is inverted: 1 / total_count, at the same mean": of(
            1 / size, mean.log() + size.log()
        ),
        "a Poisson of the same mean: the dispersion (total_count) is left out": poisson,
    } | _squares(mean, x)


def wrong_excess_zeros(fn: Any, x: Tensor) -> dict[str, Tensor]:  # noqa: ANN401
    """Return what is met in place of log(gate [x = 0] + (1 - gate) p(x)), whatever p."""
    inside = fn.base_dist.log_prob(x)
    logits = fn.gate_logits
    gate, zero = logits.sigmoid(), x == 0
    log_gate, log_rest = F.logsigmoid(logits), F.logsigmoid(-logits)
    both = torch.logaddexp(log_gate, log_rest + inside)

    def mixed(first: Tensor, rest: Tensor) -> Tensor:
        return torch.where(zero, torch.logaddexp(first, rest + inside), rest + inside)

    return {
        "the gate is left out: no excess of zeros": inside,
        "the gate's probabilities are not logged": mixed(gate, 1 - gate),
        "the gate's logits are not passed through logsigmoid": mixed(logits, -logits),
        "gate is taken for 1 - gate (the sign of its logits)": mixed(log_rest, log_gate),
        "the factor 1 - gate is left out": mixed(log_gate, torch.zeros_like(log_rest)),
        "the factor 1 - gate is left out where x > 0": torch.where(zero, both, inside),
        "zeros have the gate's probability alone: p(0) is left out": torch.where(
            zero, log_gate, log_rest + inside
        ),
        "all data are scored by log(gate + (1 - gate) p(x)), not the zeros alone": both,
    }


def size_and_logits(fn: Any) -> tuple[Tensor, Tensor]:  # noqa: ANN401
    """Return total_count and logits, of a GammaPoisson too."""
    if type(fn).__name__ == "GammaPoisson":
        return fn.concentration, -fn.rate.log()
    return fn.total_count, fn.logits


def _shape(x: Tensor, other: Tensor) -> torch.Size:
    return torch.broadcast_shapes(x.shape, other.shape)


def _squares(mean: Tensor, x: Tensor) -> dict[str, Tensor]:
    return {
        "squared error": -((x - mean) ** 2),
        "squared error of log(1 + x)": -((x.log1p() - mean.log1p()) ** 2),
    }
