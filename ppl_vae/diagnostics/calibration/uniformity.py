"""Are whole numbers uniform? Bands for their distribution function, and the p-value to the bands.

The counts C_k of ranks below k, of `num_simulations` in all, are Binomial each, with the
probability k / bins. A sample is as unlikely as its least tail, over all k and both sides:

    T = min over k of min(P(C <= C_k), P(C >= C_k))

A band holds what has T above a limit, and the p-value is P(T <= the sample's). So a p-value is at
most 0.05 just where the sample leaves the band of level 0.05. Both probabilities are exact.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats

Array = NDArray[np.float64]
Counts = NDArray[np.int64]

_NEGLIGIBLE = 1e-40  # a jump as unlikely is left out; a p-value is never below its least tail
_PRECISION = 1e-10


@dataclass(frozen=True, eq=False)
class Band:
    """The least and the largest number of ranks below k that stay inside, for k = 1, 2, ...

    Attributes:
        lower: (bins - 1,).
        upper: (bins - 1,).
        num_simulations: how many ranks there are in all.
    """

    lower: Counts
    upper: Counts
    num_simulations: int

    @classmethod
    def above(cls, tail: float, num_simulations: int, bins: int) -> Band:
        """Return the band of all counts whose tails are above `tail`."""
        p = np.arange(1, bins) / bins
        lower = stats.binom.ppf(tail, num_simulations, p).astype(np.int64)
        # The quantile is right up to rounding; what is inside is decided by the tails themselves.
        lower -= _tail(lower - 1, num_simulations, p) > tail
        lower += _tail(lower, num_simulations, p) <= tail
        return cls(lower, num_simulations - lower[::-1], num_simulations)

    def probability_to_leave(self, probabilities: Array | None = None) -> float:
        """Return the probability that independent ranks leave the band somewhere.

        Args:
            probabilities: of the ranks, (bins,); uniform if None.
        """
        total, bins = self.num_simulations, len(self.lower) + 1
        p = np.full(bins, 1 / bins) if probabilities is None else probabilities
        # Given their sum, Poisson numbers are multinomial: steps are independent until the end.
        rest = np.append(np.cumsum(p[::-1])[::-1][1:], 0.0)
        inside, start, left = np.ones(1), 0, 0.0
        for k, (low, high) in enumerate(zip(self.lower, self.upper, strict=True)):
            first, steps = _poisson_steps(total * p[k], total)
            reached = np.convolve(inside, steps)[: total + 1 - start - first]
            start += first
            counts = np.arange(start, start + len(reached))
            out = (counts < low) | (counts > high)
            left += float(reached[out] @ _poisson(total - counts[out], total * rest[k]))
            inside, start = reached[~out], max(start, int(low))
            if not len(inside):
                return 1.0
        return min(1.0, left / float(_poisson(np.array([total]), float(total))[0]))


def counts_below(ranks: Counts, bins: int) -> Counts:
    """Return how many ranks are below 1, 2, ..., bins - 1: (bins - 1, columns) of (n, columns)."""
    each = [np.bincount(column, minlength=bins) for column in ranks.T]
    return np.cumsum(each, axis=1).T[:-1]


def p_values(ranks: Counts, bins: int) -> Array:
    """Return the p-value of every column of ranks, which are from 0 to bins - 1."""
    total = len(ranks)
    below = counts_below(ranks, bins)
    p = (np.arange(1, bins) / bins)[:, np.newaxis]
    least = np.minimum(_tail(below, total, p), _tail(total - below, total, p[::-1])).min(0)
    found = [Band.above(tail, total, bins).probability_to_leave() for tail in least]
    return np.maximum(found, least)


@lru_cache(maxsize=64)
def simultaneous_band(num_simulations: int, bins: int, level: float) -> Band:
    """Return the narrowest band that uniform ranks leave with a probability of at most `level`."""
    low, high = np.log(level / (2 * bins)), np.log(level)
    while high - low > _PRECISION:
        middle = (low + high) / 2
        band = Band.above(np.exp(middle), num_simulations, bins)
        if band.probability_to_leave() > level:
            high = middle
        else:
            low = middle
    return Band.above(np.exp(low), num_simulations, bins)


def holm(p: Array) -> Array:
    """Return p-values for several tests at once, whatever their dependence (Holm 1979)."""
    order = np.argsort(p, kind="stable")
    steps = np.maximum.accumulate((len(p) - np.arange(len(p))) * p[order])
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(steps, 1.0)
    return adjusted


def _tail(counts: Counts, total: int, p: Array) -> Array:
    return stats.binom.cdf(counts, total, p)


def _poisson(counts: Counts, rate: float) -> Array:
    return np.exp(special.xlogy(counts, rate) - rate - special.gammaln(counts + 1))


@lru_cache(maxsize=512)
def _poisson_steps(rate: float, most: int) -> tuple[int, Array]:
    """Return the probabilities of the steps from the first that is not negligible on."""
    width = int(15 * rate**0.5 + 100)
    first = max(0, int(rate) - width)
    steps = _poisson(np.arange(first, min(most, int(rate) + width) + 1), rate)
    kept = np.flatnonzero(steps > _NEGLIGIBLE)
    return first + int(kept[0]), steps[kept[0] : kept[-1] + 1]
