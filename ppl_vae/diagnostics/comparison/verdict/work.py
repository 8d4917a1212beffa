"""Gradient variance x time of estimators of one quantity, over the least of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from scipy import stats

from ppl_vae.diagnostics.comparison.replicates import OVERALL, mean_of
from ppl_vae.diagnostics.comparison.row import Row

LEVEL = 0.95
_QUARTILES_TO_DEVIATION = 1.349  # of a Normal: the distance of its quartiles in deviations


@dataclass(frozen=True)
class Work:
    """One estimator's gradient variance x time for one parameter group, over the least.

    Attributes:
        estimator: its name.
        group: of the parameters.
        ratio: at least 1, and 1 of the least.
        low: lower end of its 95% interval; the ends of the least are 1.
        high: upper end.
    """

    estimator: str
    group: str
    ratio: float
    low: float
    high: float

    @property
    def is_more(self) -> bool:
        """Whether it is more than the least beyond its interval."""
        return self.low > 1


def groups_of(rows: Sequence[Row]) -> list[str]:
    """Return the parameter groups, or what stands for the only one."""
    groups = [group for group in rows[0].gradient_variance if group != OVERALL]
    return groups if len(groups) > 1 else [OVERALL]


def comparable(rows: Sequence[Row]) -> list[list[Row]]:
    """Return the rows that estimate the same gradient without a bias, in groups of two or more.

    An importance-weighted bound of another number of particles is another quantity.
    """
    found: dict[tuple[str, int], list[Row]] = {}
    for row in rows:
        if row.looks_biased or not (row.claim == "unbiased" or row.looks_biased is False):
            continue
        if "biased" in row.claim.replace("unbiased", ""):
            continue
        particles = 1 if row.bound.startswith("elbo") else row.num_particles
        found.setdefault((row.bound, particles), []).append(row)
    return [group for group in found.values() if len(group) > 1]


def relative_work(rows: Sequence[Row], group: str) -> list[Work]:
    """Return gradient variance x time over the least of it, the least first.

    The intervals hold together at 95% (Bonferroni). Variances are compared block by block, since
    all estimators have the same noise; a time is taken to be anywhere near its quartiles, as the
    machine's load moves it more than its median's standard error says.

    Args:
        rows: that estimate the same, of one comparison.
        group: of parameters.

    Returns:
        One per row whose variance is above zero.
    """
    noisy = [row for row in rows if row.gradient_variance[group].mean > 0]
    work = {row.name: row.gradient_variance[group].mean * row.milliseconds for row in noisy}
    if not work:
        return []
    noisy.sort(key=lambda row: work[row.name])
    least, *others = noisy
    found = [Work(least.name, group, 1.0, 1.0, 1.0)]
    for row in others:
        ratio = work[row.name] / work[least.name]
        factor = math.exp(min(_half_width(row, least, group, len(others)), 700.0))
        found.append(Work(row.name, group, ratio, ratio / factor, ratio * factor))
    return found


def _half_width(row: Row, least: Row, group: str, num_others: int) -> float:
    """Return half of the interval of the logarithm of the ratio."""
    blocks = [torch.tensor(r.block_variances[group], dtype=torch.float64) for r in (row, least)]
    first, second = (each / each.mean() for each in blocks)
    variance = mean_of(first - second).standard_error
    times = math.hypot(*(_log_spread(r.quartiles) for r in (row, least)))
    tail = (1 - LEVEL) / 2 / num_others
    return float(stats.t.isf(tail, len(first) - 1)) * variance + (
        float(stats.norm.isf(tail)) * times
    )


def _log_spread(quartiles: tuple[float, float]) -> float:
    low, high = quartiles
    return math.log(high / low) / _QUARTILES_TO_DEVIATION
