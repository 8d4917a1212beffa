"""What independent replicates of an estimator's value and gradient add up to."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from scipy import stats
from torch import Tensor

from ppl_vae.diagnostics.estimate import Estimate
from ppl_vae.pair import Pair
from ppl_vae.seeding import derive, seeded

OVERALL = "overall"


def num_blocks(num_replicates: int) -> int:
    """Return how many blocks the replicates are cut into: 50 for 1000, fewer for fewer."""
    return min(50, max(2, round(math.sqrt(2.5 * num_replicates))), num_replicates // 2)


def directions(pair: Pair, seed: int) -> dict[str, Tensor]:
    """Return a random direction of unit length for each parameter group, of entries +-c.

    One number per group and replicate, the gradient's component along it, is what the test of the
    gradient's bias looks at: a bias anywhere in the group shows in it, except for directions of
    probability zero, and it costs no matrix of the size of the parameters.
    """
    result = {}
    with seeded(derive(seed, "directions"), pair.device):
        for group, parameters in pair.parameter_groups().items():
            size = sum(p.numel() for p in parameters.values())
            signs = torch.randint(0, 2, (size,), device=pair.device) * 2 - 1
            result[group] = signs.to(pair.dtype) / math.sqrt(size)
    return result


@dataclass
class Replicates:
    """What one estimator gave.

    Attributes:
        values: ELBO estimates, summed over the examples, (num_replicates,), in nats.
        components: the gradients' components along `directions`, (num_replicates, groups).
        block_variances: group to the unbiased variance within each block, summed over the
            group's parameters, (blocks,).
        squared_means: group to the unbiased square of the mean gradient's length.
        milliseconds: per gradient, the median.
        quartiles: of the milliseconds, the lower and the upper.
        peak_bytes: that one gradient holds at most.
    """

    values: Tensor
    components: Tensor
    block_variances: dict[str, Tensor]
    squared_means: dict[str, float]
    milliseconds: float
    quartiles: tuple[float, float]
    peak_bytes: int

    def value(self) -> Estimate[float]:
        """Return the mean value."""
        return mean_of(self.values)

    def value_variance(self) -> Estimate[float]:
        """Return the variance of one value."""
        squares = (self.values - self.values.mean()) ** 2
        count = len(self.values)
        spread = mean_of(squares)
        return Estimate(spread.mean * count / (count - 1), spread.standard_error, count)

    def gradient_variance(self, group: str = OVERALL) -> Estimate[float]:
        """Return the variance of one gradient, summed over the group's parameters."""
        blocks = mean_of(self.block_variances[group])
        return Estimate(blocks.mean, blocks.standard_error, len(self.values))

    def length(self, group: str = OVERALL) -> float:
        """Return the root mean square length of one gradient."""
        square = self.squared_means[group] + self.gradient_variance(group).mean
        return math.sqrt(max(square, 0.0))

    def signal_to_noise(self, group: str = OVERALL) -> float:
        """Return the length of the mean gradient over the gradient's standard deviation."""
        variance = self.gradient_variance(group).mean
        signal = max(self.squared_means[group], 0.0)
        return math.sqrt(signal / variance) if variance > 0 else math.inf


def mean_of(samples: Tensor) -> Estimate[float]:
    """Return the mean of independent samples, (count,), with its standard error."""
    count = len(samples)
    if not bool(samples.isfinite().all()):
        return Estimate(float(samples.mean()), math.inf, count)
    # From the first, so that equal samples have an error of exactly 0.
    rest = samples - samples[0]
    error = float(rest.std()) / math.sqrt(count) if count > 1 else math.inf
    return Estimate(float(samples[0] + rest.mean()), error, count)


def bias_z_score(differences: Tensor, rounding: Tensor) -> float:
    """Return how far the mean of some vectors is from zero, as the z-score of the same p-value.

    Hotelling's T squared, whose p-value is exact for Normal vectors and right for the mean of
    many others: above 4.5 once in about 150,000 times where there is no bias.

    Args:
        differences: (count, dimension), independent rows.
        rounding: what is due to rounding in each column, (dimension,); a column without more
            noise than this is compared with it and not with its standard error.
    """
    count = len(differences)
    mean, noise = differences.mean(0), differences.std(0)
    noisy = noise > rounding
    if bool((mean.abs() > rounding)[~noisy].any()):
        return math.inf
    dimension = int(noisy.sum())
    if dimension == 0:
        return 0.0
    centred = (differences - mean)[:, noisy] / noise[noisy]
    scaled = (mean / noise)[noisy]
    correlation = centred.T @ centred / (count - 1)
    statistic = count * float(scaled @ torch.linalg.pinv(correlation, hermitian=True) @ scaled)
    f = statistic * (count - dimension) / (dimension * (count - 1))
    log_p = float(stats.f.logsf(f, dimension, count - dimension))
    return float(stats.norm.isf(math.exp(log_p) / 2)) if log_p > -700 else math.inf


def gradient_of(parameter: torch.nn.Parameter) -> Tensor:
    """Return a parameter's gradient; 0 where there is none."""
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad


def split_like(vector: Tensor, parameters: list[torch.nn.Parameter]) -> list[Tensor]:
    """Return the parts of a vector in the shapes of the parameters."""
    parts = vector.split([p.numel() for p in parameters])
    return [part.view(p.shape) for part, p in zip(parts, parameters, strict=True)]
