"""What the logarithms of importance weights say of the integral behind them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from arviz_stats.base.array import array_stats
from torch import Tensor

from ppl_vae import checks

_SMALLEST_TAIL = 5
_LARGEST_SHARE = 5  # the tail is at most a fifth of the draws


@dataclass(frozen=True)
class WeightSummary:
    """Of w_1..w_S, for each example; all (batch,), float64.

    Attributes:
        log_mean: log (1/S) sum w, nats.
        standard_error: of it, by the delta method: the standard deviation of w over sqrt(S) times
            its mean.
        effective_sample_size: (sum w)^2 / sum w^2, between 1 and S.
        pareto_k: shape of the generalised Pareto distribution of the largest weights (PSIS;
            Vehtari and others 2024); see `summarise`.
        num_samples: S.
    """

    log_mean: Tensor
    standard_error: Tensor
    effective_sample_size: Tensor
    pareto_k: Tensor
    num_samples: int

    @classmethod
    def joined(cls, parts: list[WeightSummary]) -> WeightSummary:
        """Return the summary of all examples, from those of some at a time."""
        columns = [[v for v in vars(part).values() if isinstance(v, Tensor)] for part in parts]
        joined = (torch.cat(column) for column in zip(*columns, strict=True))
        return cls(*joined, num_samples=parts[0].num_samples)


def summarise(log_weights: Tensor) -> WeightSummary:
    """Return what (num_samples, batch) log-weights say, per example.

    Pareto k above 0.7 means that the variance of the weights may not exist, and that mean and
    standard error cannot be trusted. It is minus infinity where the largest weights are equal,
    infinity where fewer draws than the tail needs have any weight, NaN for fewer than 25 draws.

    Raises:
        ValueError: a weight that is NaN or infinite.

    Example:
        >>> found = summarise(torch.zeros(100, 3))
        >>> found.log_mean.tolist(), found.effective_sample_size.tolist()
        ([0.0, 0.0, 0.0], [100.0, 100.0, 100.0])
    """
    bad = log_weights.isnan() | (log_weights == torch.inf)
    if bool(bad.any()):
        raise ValueError(
            checks.message(
                "log p(x, z) - log q(z | x) as a number",
                f"NaN or infinity in {int(bad.sum())} of {bad.numel()} draws",
                "Look for an overflow in the networks, or for a guide that gives its own draw "
                "no density.",
            )
        )
    count = len(log_weights)
    # As logs relative to the largest weight, so that nothing overflows; no weight at all stays so.
    top = log_weights.amax(0)
    relative = (log_weights - torch.where(top.isinf(), 0.0, top)).double()
    weights = relative.exp()
    total, squares = weights.sum(0), weights.square().sum(0)
    spread = (weights - total / count).square().sum(0) * (count / (count - 1))
    return WeightSummary(
        top.double() + total.log() - math.log(count),
        torch.where(total > 0, spread.sqrt() / total, torch.inf),
        torch.where(total > 0, total.square() / squares, 0.0),
        _pareto_k(relative, torch.finfo(log_weights.dtype).eps * (1 + top.abs().double())),
        count,
    )


def _pareto_k(relative: Tensor, rounding: Tensor) -> Tensor:
    """Return k-hat per column.

    Minus infinity where the tail's weights are equal (they are bounded), infinity where it has
    weights of 0 (too few draws carry any), NaN for fewer than 25 draws.
    """
    count = len(relative)
    tail = int(3 * math.sqrt(count)) if count > 225 else count // _LARGEST_SHARE
    if tail < _SMALLEST_TAIL:
        return relative.new_full(relative.shape[1:], math.nan)
    largest = relative.topk(tail, dim=0).values
    few = largest[-1] == -math.inf
    # Weights that differ by no more than rounding have no tail; the fit would divide by 0.
    equal = ~few & (largest[0] - largest[-1] <= 100 * rounding)
    found = torch.full_like(rounding, math.inf).masked_fill(equal, -math.inf)
    fitted = ~(equal | few)
    if bool(fitted.any()):
        # The library takes the negative logarithms. Ties, of discrete latents, end in NaN.
        rows = (-relative[:, fitted].T).cpu().numpy()
        with np.errstate(all="ignore"):
            found[fitted] = torch.as_tensor(array_stats.psislw(rows)[1]).to(found)
    return found
