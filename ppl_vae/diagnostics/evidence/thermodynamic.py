"""The evidence as an integral along a path from guide to posterior, from one set of draws."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ppl_vae import checks
from ppl_vae.batch import Data
from ppl_vae.diagnostics.evidence.density.particles import Particles
from ppl_vae.diagnostics.evidence.importance_weights import log_weights, summarise
from ppl_vae.diagnostics.evidence.result import UNRELIABLE_K, joined
from ppl_vae.diagnostics.evidence.two_sided import TwoSidedEvidence

SPACINGS = ("adaptive", "uniform", "log")
_FIRST = 1e-3
_LOOKS = 64
_SMALLEST_LOOK = -6.0
_LOOKED_AT = 1000  # draws, to place the points
_NO_WEIGHT = -1e30  # for minus infinity, which times a power of 0 is not a number
_WARNING = (
    f"The upper sum bounds nothing where Pareto k is above {UNRELIABLE_K}: "
    "too few draws reach the posterior."
)


@dataclass(frozen=True)
class Partition:
    """Where the path from guide to posterior is cut.

    Attributes:
        num_intervals: K, at least 1.
        spacing: ``uniform``; ``log``: 0 and equal ratios from 0.001 to 1; ``adaptive``: as the
            weights of each example ask for.
    """

    num_intervals: int = 200
    spacing: str = "adaptive"

    def __post_init__(self) -> None:
        checks.count("num_temperatures", self.num_intervals)
        checks.name("spacing", self.spacing, SPACINGS)

    def betas(self, logs: Tensor) -> Tensor:
        """Return 0 = beta_0 < ... < beta_K = 1 of each example, (K + 1, batch).

        With a given K the sums lie nearest to each other at equal steps of
        ``integral of sqrt(Var_b[log w]) db``, the length of the path in Fisher's metric.

        Args:
            logs: log-weights in float64, finite, the largest 0, (num_samples, batch).

        Source:
            Gelman and Meng, Simulating normalizing constants, 1998, section 4. The distance of the
            sums is ``sum (b_k - b_{k-1}) (g(b_k) - g(b_{k-1}))`` with g' = Var_b[log w]; the
            inequality of Cauchy and Schwarz.
        """
        line = torch.linspace(0, 1, self.num_intervals + 1, dtype=logs.dtype, device=logs.device)
        if self.spacing == "adaptive":
            return _equal_steps(logs, line)
        if self.spacing == "log" and self.num_intervals > 1:
            powers = _FIRST ** torch.linspace(1, 0, self.num_intervals).to(line)
            line = torch.cat([line[:1], powers])
        return line[:, None].expand(-1, logs.shape[1])


def thermodynamic_evidence(
    particles: Particles,
    x: Data,
    *,
    num_samples: int,
    partition: Partition,
    max_bytes: int,
    seed: int,
) -> TwoSidedEvidence:
    """Return the left and the right sum of the path's integral, with their errors, per example.

        log p(x) = int_0^1 g(b) db,    g(b) = E_b[log p(x, z) - log q(z | x)]

    where the expectation is under the density in proportion to ``q^(1-b) p^b``. g rises, so that
    left sums are below the integral and right sums above it.

    Source:
        Masrani, Le and Wood, The thermodynamic variational objective, 2019,
        https://arxiv.org/abs/1907.00031, equations 6, 9 and 10.
    """
    blocks = log_weights(particles, x, num_samples=num_samples, max_bytes=max_bytes, seed=seed)
    return joined([path_sums(block, partition) for block in blocks])


def path_sums(log_weights: Tensor, partition: Partition) -> TwoSidedEvidence:
    """Return both sums by log-weights, (num_samples, batch), of draws from the guide.

    Every g(b) is the mean of log w with the self-normalised weights w^b. So found, it is the
    derivative of ``log mean w^b``, which is convex and ends in the log of the mean weight. Two
    things follow. The left sum is never above that log, whose expectation is at most log p(x): it
    is a lower bound for any number of draws. The right sum is never below it, and can be below
    log p(x) with few draws, as g(1) cannot exceed the largest log w.

    The standard errors are the delta method's, over all points at once: they share the draws.

    Raises:
        ValueError: a weight that is NaN or infinite.

    Example:
        >>> found = path_sums(torch.zeros(100, 1), Partition(5))
        >>> found.lower.mean.tolist(), found.upper.mean.tolist()
        ([0.0], [0.0])
    """
    weights = summarise(log_weights, "thermodynamic")
    top = log_weights.amax(0).double()
    top = torch.where(top.isinf(), 0.0, top)
    relative = log_weights.double() - top
    logs = relative.clamp(min=_NO_WEIGHT)
    betas = partition.betas(logs)
    sums, influences = logs.new_zeros(2, logs.shape[1]), logs.new_zeros(2, *logs.shape)
    steps = betas.diff(dim=0)
    for number, beta in enumerate(betas):
        shares, mean = _tilted(logs, beta)
        influence = shares * (logs - mean)
        for side, interval in enumerate((number, number - 1)):
            if 0 <= interval < len(steps):
                sums[side] += steps[interval] * mean
                influences[side].addcmul_(steps[interval], influence)
    # A draw without weight makes the ELBO, where the left sum starts, minus infinity.
    missing = relative.isinf()
    sums += top
    sums[0, missing.any(0)] = sums[1, missing.all(0)] = -torch.inf
    count = len(logs)
    errors = (influences.square().sum(1) * (count / (count - 1))).sqrt()
    errors = torch.where(sums.isfinite(), errors, torch.inf)
    return TwoSidedEvidence(
        sums[0],
        errors[0],
        weights.effective_sample_size,
        weights.pareto_k,
        weights.method,
        weights.num_samples,
        warning=_WARNING if weights.num_unreliable else "",
        upper_mean=sums[1],
        upper_standard_error=errors[1],
    )


def _tilted(logs: Tensor, beta: Tensor) -> tuple[Tensor, Tensor]:
    """Return w^beta over its sum, (num_samples, batch), and the mean of log w by it, (batch,)."""
    shares = (beta * logs).softmax(0)
    return shares, (shares * logs).sum(0)


def _equal_steps(logs: Tensor, line: Tensor) -> Tensor:
    """Return points of equal distance in Fisher's metric, as `Partition.betas` does."""
    looks = torch.linspace(0, 1, _LOOKS + 1).to(line)
    grid = torch.cat([looks, 10 ** (_SMALLEST_LOOK * looks[1:])]).unique()
    curve = torch.stack([_tilted(logs[:_LOOKED_AT], beta)[1] for beta in grid])
    rises = curve.diff(dim=0).clamp(min=0)
    rises = torch.where(rises > -_NO_WEIGHT / len(logs) / 2, 0.0, rises)
    pieces = (grid.diff()[:, None] * rises).sqrt().mT.contiguous()
    pieces = torch.where(pieces.sum(1, keepdim=True) > 0, pieces, grid.diff())
    length = torch.cat([pieces.new_zeros(len(pieces), 1), pieces.cumsum(1)], 1)
    wanted = line * length[:, -1:]
    right = torch.searchsorted(length, wanted).clamp(1, len(grid) - 1)
    start, end = length.gather(1, right - 1), length.gather(1, right)
    betas = grid[right - 1].lerp(grid[right], (wanted - start) / (end - start))
    betas[:, 0], betas[:, -1] = 0.0, 1.0
    return betas.mT
