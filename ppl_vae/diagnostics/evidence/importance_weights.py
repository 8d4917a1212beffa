"""The evidence by importance weights, drawn block by block within a memory budget."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TypeVar

import numpy as np
import pyro
import torch
from arviz_stats.base.array import array_stats
from torch import Tensor

from ppl_vae import checks
from ppl_vae.batch import Data
from ppl_vae.diagnostics.evidence.density.fused import compiled_kernel
from ppl_vae.diagnostics.evidence.density.particles import Particles
from ppl_vae.diagnostics.evidence.result import Evidence, joined
from ppl_vae.diagnostics.memory import peak_bytes
from ppl_vae.seeding import derive, reseed

T = TypeVar("T")

# A block that large keeps the overhead of a run of model and guide small; a larger one gains
# nothing and leaves the caches.
BLOCK_BYTES = 32 * 2**20
# Below it compiling takes longer than it saves.
WORTH_COMPILING = 2 * 10**9
_FEW, _MORE = 4, 12
_SMALLEST_TAIL = 5
_LARGEST_SHARE = 5  # the tail is at most a fifth of the draws


def importance_evidence(
    particles: Particles, x: Data, *, num_samples: int, max_bytes: int, seed: int
) -> Evidence:
    """Return log (1/S) sum_s p(x_i, z_s) / q(z_s | x_i), z_s ~ q, with its errors, per example.

    Every block of examples and samples, of at most `max_bytes`, has a stream of its own that is
    derived from `seed`; it is torch's global stream.
    """
    if num_samples * x.numel() >= WORTH_COMPILING and particles.vectorised:
        particles = replace(particles, kernel=compiled_kernel(x.device.type))
    blocks = log_weights(particles, x, num_samples=num_samples, max_bytes=max_bytes, seed=seed)
    return joined(list(map(summarise, blocks)))


@torch.no_grad()
def log_weights(
    particles: Particles, x: Data, *, num_samples: int, max_bytes: int, seed: int
) -> Iterator[Tensor]:
    """Yield the log-weights of the examples in order, (num_samples, some examples) at a time."""
    options = {"num_samples": num_samples, "max_bytes": max_bytes, "seed": seed}
    for found in blocks(particles.log_weights, particles, x, **options):
        yield found[0] if len(found) == 1 else torch.cat(found)


@torch.no_grad()
def blocks(
    measure: Callable[[Data, int], T],
    particles: Particles,
    x: Data,
    *,
    num_samples: int,
    max_bytes: int,
    seed: int,
) -> Iterator[list[T]]:
    """Yield what is measured of some examples at a time, in parts that add up to `num_samples`.

    Each call has a stream of its own that is derived from `seed`.

    Args:
        measure: of some examples and a number of samples.
        particles: how the program is run.
        x: the examples.
        num_samples: of each example.
        max_bytes: that one call may take, as the log-weights do.
        seed: of the draws.
    """
    budget = min(BLOCK_BYTES, max_bytes)
    # Without the kernel, so that the blocks, and with them the numbers, do not depend on it.
    with pyro.validation_enabled(False):  # noqa: FBT003
        room = budget // bytes_per_sample(replace(particles, kernel=None), x, seed)
    if room < 1:
        raise ValueError(
            checks.message(
                "max_bytes for one sample of one example at least",
                f"{max_bytes}",
                "Raise max_bytes.",
            )
        )
    size = max(1, room // num_samples) if particles.splits else max(len(x), 1)
    rounds = -(-num_samples // room)
    step = -(-num_samples // rounds)
    for first in range(0, len(x) if particles.splits else 1, size):
        part = x[first : first + size] if particles.splits else x
        found = []
        with pyro.validation_enabled(False):  # noqa: FBT003
            for start in range(0, num_samples, step):
                reseed(derive(seed, first, start), x.device)
                found.append(measure(part, min(step, num_samples - start)))
        yield found


def bytes_per_sample(particles: Particles, x: Data, seed: int) -> int:
    """Return how many bytes one more sample of one example takes (of all, if they go together)."""
    part = x[:1] if particles.splits else x

    def peak(count: int) -> int:
        reseed(derive(seed, "memory"), x.device)
        return peak_bytes(lambda: particles.log_weights(part, count))

    return max((peak(_MORE) - peak(_FEW)) // (_MORE - _FEW), 8)


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
