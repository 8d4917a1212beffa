"""Independent replicates of an estimator's value and gradient, and what they add up to."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field

import pyro
import torch
from pyro.infer import ELBO
from scipy import stats
from torch import Tensor

from ppl_vae import devices
from ppl_vae.diagnostics.estimate import Estimate
from ppl_vae.diagnostics.memory import peak_bytes
from ppl_vae.inference.deferred import deferred
from ppl_vae.pair import Pair
from ppl_vae.seeding import derive, reseed, seeded

OVERALL = "overall"


def num_blocks(num_replicates: int) -> int:
    """Return how many blocks the replicates are cut into: 50 for 1000, fewer for fewer."""
    return min(50, max(2, round(math.sqrt(2.5 * num_replicates))), num_replicates // 2)


def directions(pair: Pair, seed: int) -> dict[str, Tensor]:
    """Return a random direction of unit length for each parameter group, of entries +-c.

    One number per group and replicate, the gradient's component along it, is what the test of the
    gradient's bias looks at: a bias anywhere in the group shows in it, but for a set of directions
    of probability zero, and it costs no matrix of the size of the parameters.
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
        peak_bytes: that one gradient holds at most.
    """

    values: Tensor
    components: Tensor
    block_variances: dict[str, Tensor]
    squared_means: dict[str, float]
    milliseconds: float
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

    def signal_to_noise(self, group: str = OVERALL) -> float:
        """Return the length of the mean gradient over the gradient's standard deviation."""
        variance = self.gradient_variance(group).mean
        signal = max(self.squared_means[group], 0.0)
        return math.sqrt(signal / variance) if variance > 0 else math.inf


@dataclass
class _Accumulator:
    """Sums over blocks of one group's gradients."""

    variances: list[Tensor] = field(default_factory=list)
    total: Tensor | float = 0.0
    count: int = 0

    def add(self, block: Tensor) -> None:
        self.variances.append(block.var(0).sum())
        self.total = self.total + block.sum(0, dtype=torch.float64)
        self.count += len(block)


def replicate(
    pair: Pair,
    elbo: ELBO,
    x: Tensor,
    *,
    num_replicates: int,
    seed: int,
) -> Replicates:
    """Estimate value and gradient of the ELBO at `x` many times.

    Replicate i starts from the same random stream for every estimator, so that estimators which
    draw alike see the same noise.

    Args:
        pair: model and guide; its parameters' ``grad`` is overwritten.
        elbo: the estimator.
        x: the data.
        num_replicates: at least 4.
        seed: of all the noise.
    """
    estimator = deferred(elbo)
    parameters = {g: list(named.values()) for g, named in pair.parameter_groups().items()}
    along = directions(pair, seed)
    numbers = torch.Generator().manual_seed(derive(seed, "replicates"))
    seeds = torch.randint(2**62, (num_replicates,), generator=numbers).tolist()
    sums = {group: _Accumulator() for group in parameters}
    values, components, seconds = [], [], []

    def gradient() -> Tensor:
        for parameter in pair.parameters():
            parameter.grad = None
        return torch.as_tensor(estimator.loss_and_grads(pair.model, pair.guide, x))

    with seeded(seed, pair.device), pyro.validation_enabled(False):  # noqa: FBT003
        gradient()
        held = peak_bytes(gradient)
        for block in torch.tensor(seeds).tensor_split(num_blocks(num_replicates)):
            rows: dict[str, list[Tensor]] = {group: [] for group in parameters}
            for number in block.tolist():
                reseed(number, pair.device)
                devices.synchronize(pair.device)
                began = time.perf_counter()
                loss = gradient()
                devices.synchronize(pair.device)
                seconds.append(time.perf_counter() - began)
                values.append(-loss.detach().double())
                for group, members in parameters.items():
                    rows[group].append(-_flat_gradient(members))
            stacked = {group: torch.stack(each) for group, each in rows.items()}
            components.append(torch.stack([stacked[g] @ along[g] for g in parameters], dim=-1))
            for group, gradients in stacked.items():
                sums[group].add(gradients)
    block_variances = {g: torch.stack(a.variances).double().cpu() for g, a in sums.items()}
    squared = {
        g: float(torch.as_tensor(a.total / a.count).square().sum())
        - float(block_variances[g].mean()) / a.count
        for g, a in sums.items()
    }
    block_variances[OVERALL] = torch.stack(list(block_variances.values())).sum(0)
    squared[OVERALL] = sum(squared.values())
    return Replicates(
        values=torch.stack(values).cpu(),
        components=torch.cat(components).double().cpu(),
        block_variances=block_variances,
        squared_means=squared,
        milliseconds=1e3 * float(torch.tensor(seconds).median()),
        peak_bytes=held,
    )


def exact_components(pair: Pair, x: Tensor, seed: int) -> Tensor:
    """Return the exact gradient's components along `directions`, (groups,)."""
    groups = pair.parameter_groups()
    members = [p for named in groups.values() for p in named.values()]
    slopes = torch.autograd.grad(pair.exact.elbo(x).sum(), members, allow_unused=True)
    for parameter, slope in zip(members, slopes, strict=True):
        parameter.grad = slope
    along = directions(pair, seed)
    found = [_flat_gradient(list(named.values())) @ along[g] for g, named in groups.items()]
    return torch.stack(found).double().cpu()


def mean_of(samples: Tensor) -> Estimate[float]:
    """Return the mean of independent samples, (count,), with its standard error."""
    count = len(samples)
    error = float(samples.std()) / math.sqrt(count) if count > 1 else math.inf
    return Estimate(float(samples.mean()), error, count)


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


def _flat_gradient(parameters: list[torch.nn.Parameter]) -> Tensor:
    flat = [(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in parameters]
    return torch.cat(flat)
