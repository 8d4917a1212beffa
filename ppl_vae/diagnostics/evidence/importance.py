"""What the logarithms of importance weights say of the integral behind them."""

from __future__ import annotations

import math

import numpy as np
import torch
from arviz_stats.base.array import array_stats
from torch import Tensor

from ppl_vae import checks
from ppl_vae.diagnostics.evidence.result import Evidence

_SMALLEST_TAIL = 5
_LARGEST_SHARE = 5  # the tail is at most a fifth of the draws


def summarise(log_weights: Tensor, method: str = "iwae") -> Evidence:
    """Return the evidence by log-weights, (num_samples, batch), in float64.

    Its ``mean`` is log (1/S) sum w. The standard error is the delta method's: the standard
    deviation of w over sqrt(S) times its mean. The effective sample size is (sum w)^2 / sum w^2.

    Pareto k is the shape of the generalised Pareto distribution of the largest weights (PSIS;
    Vehtari and others 2024). Above 0.7 the variance of the weights may not exist, and mean and
    standard error cannot be trusted. It is minus infinity where the largest weights are equal,
    infinity where fewer draws than the tail needs have any weight, NaN for fewer than 25 draws.

    Raises:
        ValueError: a weight that is NaN or infinite.

    Example:
        >>> found = summarise(torch.zeros(100, 3))
        >>> found.mean.tolist(), found.effective_sample_size.tolist()
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
    return Evidence(
        top.double() + total.log() - math.log(count),
        torch.where(total > 0, spread.sqrt() / total, torch.inf),
        torch.where(total > 0, total.square() / squares, 0.0),
        _pareto_k(relative, torch.finfo(log_weights.dtype).eps * (1 + top.abs().double())),
        method,
        count,
    )


def _pareto_k(relative: Tensor, rounding: Tensor) -> Tensor:
    """Return Pareto k per column, as `summarise` describes it."""
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
