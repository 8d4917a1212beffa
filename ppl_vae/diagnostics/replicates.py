"""Independent replicates of an estimator's value and gradient, and what they add up to."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Any

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


class Replicator:
    """Estimates value and gradient of the ELBO at `x` again and again, block by block.

    Replicate i starts from the same random stream for every estimator, so that estimators which
    draw alike see the same noise. Several replicators run their blocks in turn, so that a machine
    whose speed drifts slows them alike. Only sums over a block's gradients are kept.

    Args:
        pair: model and guide; its parameters' ``grad`` is overwritten.
        elbo: the estimator.
        x: the data.
        seed: of all the noise.
    """

    def __init__(self, pair: Pair, elbo: ELBO, x: Tensor, *, seed: int) -> None:
        self._pair, self._x = pair, x
        # Pyro's ELBO does not declare loss_and_grads, though each of its classes has it.
        self._elbo: Any = deferred(elbo)
        self._groups = {g: list(named.values()) for g, named in pair.parameter_groups().items()}
        self._directions = directions(pair, seed)
        self._values: list[Tensor] = []
        self._components: list[Tensor] = []
        self._variances: dict[str, list[Tensor]] = {group: [] for group in self._groups}
        self._totals = {
            g: torch.zeros(d.shape, dtype=torch.float64, device=d.device)
            for g, d in self._directions.items()
        }
        self._seconds: list[float] = []
        with seeded(seed, pair.device), pyro.validation_enabled(False):  # noqa: FBT003
            self._gradient()
            self._peak_bytes = peak_bytes(self._gradient)

    def run(self, seeds: list[int]) -> None:
        """Add one block: a value and a gradient for each seed."""
        device = self._pair.device
        rows: dict[str, list[Tensor]] = {group: [] for group in self._groups}
        with seeded(0, device), pyro.validation_enabled(False):  # noqa: FBT003
            for number in seeds:
                reseed(number, device)
                devices.synchronize(device)
                began = time.perf_counter()
                loss = self._gradient()
                devices.synchronize(device)
                self._seconds.append(time.perf_counter() - began)
                self._values.append(-loss.detach().double())
                for group, members in self._groups.items():
                    rows[group].append(-_flat_gradient(members))
        block = {group: torch.stack(each) for group, each in rows.items()}
        along = [block[g] @ self._directions[g] for g in block]
        self._components.append(torch.stack(along, dim=-1))
        for group, gradients in block.items():
            # From the first row, so that equal rows have a variance of exactly 0.
            self._variances[group].append((gradients - gradients[0]).var(0).sum())
            self._totals[group] += gradients.sum(0)

    def result(self) -> Replicates:
        """Return what the blocks so far add up to."""
        count = len(self._values)
        variances = {g: torch.stack(v).double().cpu() for g, v in self._variances.items()}
        squares = {
            g: float((total / count).square().sum()) - float(variances[g].mean()) / count
            for g, total in self._totals.items()
        }
        levels = torch.tensor([0.25, 0.5, 0.75], dtype=torch.float64)
        spread = torch.tensor(self._seconds, dtype=torch.float64).quantile(levels)
        lower, median, upper = (1e3 * spread).tolist()
        variances[OVERALL] = torch.stack(list(variances.values())).sum(0)
        squares[OVERALL] = sum(squares.values())
        return Replicates(
            values=torch.stack(self._values).cpu(),
            components=torch.cat(self._components).double().cpu(),
            block_variances=variances,
            squared_means=squares,
            milliseconds=median,
            quartiles=(lower, upper),
            peak_bytes=self._peak_bytes,
        )

    def _gradient(self) -> Tensor:
        for parameter in self._pair.parameters():
            parameter.grad = None
        pair = self._pair
        return torch.as_tensor(self._elbo.loss_and_grads(pair.model, pair.guide, self._x))


def replicate(
    pair: Pair, estimators: dict[str, ELBO], x: Tensor, *, num_replicates: int, seed: int
) -> dict[str, Replicates]:
    """Return `num_replicates` values and gradients of every estimator, their blocks in turn."""
    running = {name: Replicator(pair, elbo, x, seed=seed) for name, elbo in estimators.items()}
    numbers = torch.Generator().manual_seed(derive(seed, "replicates"))
    seeds = torch.randint(2**62, (num_replicates,), generator=numbers)
    for block in seeds.tensor_split(num_blocks(num_replicates)):
        for replicator in running.values():
            replicator.run(block.tolist())
    return {name: replicator.result() for name, replicator in running.items()}


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


def _flat_gradient(parameters: list[torch.nn.Parameter]) -> Tensor:
    flat = [(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in parameters]
    return torch.cat(flat)
