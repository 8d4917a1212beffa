"""Replicates of an objective, round by round, until the answer is clear or none are left."""

from __future__ import annotations

import math

import numpy as np
from torch import Tensor

from ppl_vae.diagnostics.check.formulas import terms
from ppl_vae.diagnostics.check.replicates.collector import Collector
from ppl_vae.diagnostics.check.settings import Draws, Sample
from ppl_vae.diagnostics.check.statistics import (
    LOG_P_LIMIT,
    ONE,
    Fit,
    Regression,
    data_constant,
    each_skewness,
    is_off,
)
from ppl_vae.diagnostics.estimate import Estimate

ROUNDS = (10, 30, 80)
CLEAR_ERROR = 0.01
# What the names of the columns of importance ratios begin with.
RATIO = "~W:"
# Importance ratios enter if they leave less than this share of the noise.
RATIOS_ENTER = 0.5
# The skewness from which noise is heavy-tailed; the same in units of that of the sampled terms.
HEAVY, HEAVIER = 2.5, 2.0
# How far a ratio's mean may be from 1; the least effective share of its draws; the least number of
# settings that must be left.
UNSEEN, EFFECTIVE, FEWEST = 0.3, 0.05, 4
NOISIER = 0.2
LOG_P_SUSPICIOUS, LOG_P_DECIDED = math.log(0.01), math.log(1e-15)


class SequentialTest:
    """Fits of the right formula, and of any weights, to more and more replicates.

    Args:
        collector: of the draws.

    Attributes:
        task: what is compared.
        collector: as passed.
        right: the fit of the right formula.
        nearest: the fit of any weights and a constant.
        stopped: ``clear`` or ``budget``.
        table: of the terms, at the settings that count.
        with_ratios: whether importance ratios are seen to enter the objective.
    """

    def __init__(self, collector: Collector) -> None:
        self.task, self.collector = collector.task, collector
        self.stopped, self.with_ratios = "budget", False
        self.right: Fit
        self.nearest: Fit
        for target in self._targets():
            self._draw(target)
            if self._is_clear():
                self.stopped = "clear"
                break

    def is_wrong_after_all(self) -> bool:
        """Return whether the value is wrong, with the rest of the budget spent if need be."""
        for target in () if self.is_exact else self._targets():
            if target > self.collector.num_replicates and not self.is_wrong:
                self._draw(target)
        return self.is_wrong

    def _targets(self) -> tuple[int, ...]:
        return (*(r for r in ROUNDS if r < self.task.budget), self.task.budget)

    @property
    def is_exact(self) -> bool:
        """Whether the right terms at the objective's own noise leave no noise."""
        return bool((self.right.noise < self.right.errors / 3).all())

    @property
    def is_noisier(self) -> bool:
        """Whether the terms at the objective's own noise leave much of it, whatever their weights.

        The log-likelihood is then another one, or taken at other draws of z.
        """
        total = self.table.left(self.table.fit([], {}))
        left = self.table.left(self.nearest)
        return self.table.matched and float((left**2).mean()) > NOISIER * float((total**2).mean())

    @property
    def is_wrong(self) -> bool:
        """Whether the objective's value is not the ELBO's."""
        right = self.right
        if self.task.ignore_constants and right.log_p < LOG_P_LIMIT:
            right = data_constant(self.table)
        if right.log_p < LOG_P_LIMIT:
            return True
        # The errors of weights are those of Normal noise.
        if self.nearest.log_p < LOG_P_LIMIT or self.nearest.is_skewed:
            return False
        weights = [Estimate(self.nearest[r], self.nearest.error(r), 1) for r in "LPH"]
        return any(is_off(weight) for weight in weights)

    def _draw(self, target: int) -> None:
        first = self.collector.num_replicates == 0
        self.collector.more(target - self.collector.num_replicates)
        if first and self.collector.matched:
            self.with_ratios = self._ratios_enter()
        self.table = self._tabulated(with_ratios=self.with_ratios)
        self._fit()
        if not self.is_exact and self._is_heavy_tailed():
            places = self._where_ratios_average_to_1()
            if len(places) >= FEWEST:
                self.table = self._table([self.table.samples[place] for place in places])
                self._fit()

    def _fit(self) -> None:
        noise = self.table.noise
        unit = {"L": 1.0, "P": 1.0, "H": 1.0}
        self.right = self.table.fit([ONE] if self.task.ignore_constants else [], unit, noise)
        self.nearest = self.table.fit(["L", "P", "H", ONE], {}, noise)

    def _is_heavy_tailed(self) -> bool:
        """Return whether the replicates' noise has rare large draws at any setting."""
        limit = np.full(len(self.table), HEAVY)
        if not self.table.matched:
            # A sampled KL is a chi-squared, more or less, and has the skewness of one.
            parts = ["L", "P", "H", *(n for n in self.table.noise if not n.startswith(RATIO))]
            elbo = self.table.add("sampled", dict.fromkeys(parts, 1.0))
            expected = np.abs(each_skewness(self.table.deviations(elbo)))
            limit = np.maximum(limit, HEAVIER * expected)
        left = np.abs(each_skewness(self.table.left(self.right)))
        return bool((left > limit).any())

    def _where_ratios_average_to_1(self) -> list[int]:
        """Return the settings at which the mean of p/q over draws from q is near to its own, 1.

        At the others an objective with such a ratio in it looks wrong, whatever the number of
        draws.
        """
        places = []
        for place, sample in enumerate(self._tabulated(with_ratios=True).samples):
            ratios = 1 + sample.columns.get(f"{RATIO}all", np.zeros(1))
            effective = ratios.mean() ** 2 / max(float((ratios**2).mean()), 1e-300)
            if abs(ratios.mean() - 1) < UNSEEN and effective > EFFECTIVE:
                places.append(place)
        return places

    def _tabulated(self, *, with_ratios: bool) -> Regression:
        def columns(draws: Draws, _: object) -> dict[str, Tensor]:
            return terms(draws.terms, with_ratios=with_ratios)

        return self._table(self.collector.samples(columns))

    def _table(self, samples: list[Sample]) -> Regression:
        matched, tolerance = bool(self.collector.matched), self.collector.seen.tolerance
        return Regression(samples, matched=matched, tolerance=tolerance)

    def _ratios_enter(self) -> bool:
        table = self._tabulated(with_ratios=True)
        others = [name for name in table.noise if not name.startswith(RATIO)]
        without, with_ratios = (
            table.fit(["L", "P", "H", ONE], {}, noise).noise for noise in (others, table.noise)
        )
        return float(np.median(with_ratios / (without + 1e-300))) < RATIOS_ENTER

    def _is_clear(self) -> bool:
        """Return whether more replicates would change nothing."""
        right, nearest = self.right, self.nearest
        if bool((nearest.noise < nearest.errors / 2).all()):
            return True
        if LOG_P_LIMIT < right.log_p < LOG_P_SUSPICIOUS:
            return False
        if right.log_p < LOG_P_DECIDED and self.collector.num_replicates >= ROUNDS[1]:
            return True
        errors = [nearest.error(role) for role in "LPH"]
        return all(
            e <= CLEAR_ERROR * max(1.0, abs(nearest[r])) or not math.isfinite(e)
            for e, r in zip(errors, "LPH", strict=True)
        )
