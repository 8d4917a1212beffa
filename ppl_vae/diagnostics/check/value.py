"""The value of an objective against the right terms: is it wrong, and how?"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ppl_vae.diagnostics.check.explanation import Explanation, by_search, explain
from ppl_vae.diagnostics.check.formulas import CandidateColumns
from ppl_vae.diagnostics.check.objective import Objective, WithoutDropout
from ppl_vae.diagnostics.check.replicates import Collector, SequentialTest
from ppl_vae.diagnostics.check.settings import Settings
from ppl_vae.diagnostics.check.statistics import Regression, data_constant
from ppl_vae.diagnostics.check.truth import Truth
from ppl_vae.diagnostics.check.verdict import Finding, Quantities, findings, leftover
from ppl_vae.elbos.closed_kl import base
from ppl_vae.pair import Pair

LOG_P_DATA = math.log(0.05)
# One slip has few consequences; what differs from the ELBO in more ways is another objective.
MOST_ODDITIES = 3
# Replicates at which a formula that is exact draw by draw is told from others.
FEW = 4


class ValueCheck:
    """Replicates of an objective's value, and what they say.

    Args:
        pair: the pair.
        objective: what is checked.
        truth: the right terms.
        settings: where both are compared.
        x: the data.
        budget: the most replicates at each setting.
        seed: of all noise.
        ignore: whether constants may be left out.

    Attributes:
        collector: of the draws.
        rounds: of replicates, all drawn.
        explanation: the formula that the objective follows; None where it is not wrong, or none
            is known.
    """

    def __init__(
        self,
        pair: Pair,
        objective: Objective,
        truth: Truth,
        settings: Settings,
        x: Tensor,
        *,
        budget: int,
        seed: int,
        ignore: bool,
    ) -> None:
        self._pair, self._objective, self._truth = pair, objective, truth
        self._settings, self._x = settings, x
        self._budget, self._seed, self._ignore = budget, seed, ignore
        self.collector = Collector(pair, objective, truth, settings, seed=seed)
        self.rounds = SequentialTest(self.collector, budget, ignore=ignore)
        self.explanation: Explanation | None = None

    def findings(self) -> list[Finding]:
        """Return what is wrong, with its cause where one is known."""
        if not self.rounds.is_wrong:
            return self._exactly_wrong()
        if self._truth.observed and self.collector.repeated_calls.ignores_data:
            message = (
                "the objective is the same where all data are 0: does it use what it is passed?"
            )
            return [Finding("formula", "objective", "a function of x", "x not read", message)]
        if self.collector.seen.drops or self._truth.drops:
            found = self._without_dropout()
            if found:
                return found
        self.explanation = self._explain()
        if self.explanation is not None:
            found = self._told(self.explanation)
            if found:
                return found
        data = data_constant(self.rounds.table)
        if data.freedom >= 4 and data.log_p > LOG_P_DATA:
            message = (
                "a constant that depends on the data only is left out or added: gradients are "
                "right."
            )
            return [Finding("constant", "constant", "0", "it varies with the data", message)]
        return [leftover(self.rounds.nearest.rms, self._truth, self.collector)]

    def _exactly_wrong(self) -> list[Finding]:
        """Return what is wrong with a formula that fits draw by draw, by a bias too small to see.

        It is looked for where the right terms leave noise though they are taken at the objective's
        own.
        """
        if not self.collector.matched or self.rounds.is_exact:
            return []
        explanation = self._explain(quickly=not self.collector.seen.shares)
        if explanation is None or not explanation.is_exact:
            return []
        self.explanation = explanation
        return self._told(explanation)

    def _told(self, explanation: Explanation) -> list[Finding]:
        return findings(
            explanation,
            self._quantities(),
            kind=self._objective.kind,
            ignore_constants=self._ignore,
        )

    def _without_dropout(self) -> list[Finding]:
        """Return what is wrong if dropout's masks are held at their mean, if that is known."""
        with WithoutDropout():
            still = ValueCheck(
                self._pair,
                self._objective,
                Truth(self._pair, self._x, without_dropout=True),
                self._settings,
                self._x,
                budget=self._budget,
                seed=self._seed,
                ignore=self._ignore,
            )
            if not still.rounds.is_wrong:
                own, pairs = "dropout", "no dropout"
                message = (
                    "dropout is left on: the objective draws Bernoulli noise, and with its mean "
                    "in its place is the ELBO. Call eval(), or pass training=False."
                )
                if not self.collector.seen.drops:
                    own, pairs = pairs, own
                    message = (
                        "the pair's networks drop units out, and the objective does not: it is "
                        "the ELBO of the networks without dropout. Call eval() on the pair."
                    )
                return [Finding("noise", "objective", pairs, own, message)]
            still.explanation = still._explain()
            return [] if still.explanation is None else still._told(still.explanation)

    def _quantities(self) -> Quantities:
        with torch.no_grad():
            sites = self._truth.run(self._x).model.values()
        kinds = [type(base(site["fn"])).__name__ for site in sites if site["is_observed"]]
        sizes = Quantities.of(self._truth, self._x, normal_pixels="Normal" in kinds)
        if self.collector.num_particles > 1:
            sizes.others["the particles"] = self.collector.num_particles
        return sizes

    def _explain(self, *, quickly: bool = False) -> Explanation | None:
        """Return the formula that the objective follows; `quickly`, a plain and exact one."""
        exact, matched = self.rounds.is_exact, bool(self.collector.matched)
        with_ratios = self.rounds.with_ratios
        best: Explanation | None = None
        for with_draws, limit, only_exact in self._plans(quickly=quickly):
            features = CandidateColumns(
                self._pair, self._truth, with_draws=with_draws, with_ratios=with_ratios
            )
            table = Regression(
                self.collector.samples(features, limit=limit),
                matched=matched,
                tolerance=self.collector.seen.tolerance,
            )
            found = explain(table, ignore_constants=self._ignore, exact=only_exact)
            if found is not None and (best is None or found.score < best.score):
                best = found
            if best is not None and best.is_exact:
                return best
            if matched and not with_draws and not quickly:
                # Before many wrong draws are tried, each a pass through the model.
                found = by_search(
                    self.collector, with_ratios=with_ratios, exact=exact, ignore=self._ignore
                )
                if found is not None:
                    return found
        return None if best is None or self._is_doubtful(best) else best

    def _plans(self, *, quickly: bool) -> list[tuple[bool, int, bool]]:
        """Return what to try: with wrong draws?, replicates, and only what leaves no noise?

        At an objective's own noise few replicates tell whether a formula is exact.
        """
        if quickly:
            return [(False, FEW, True)]
        if not self.collector.matched:
            return [(False, 30, False), (True, 10, False)]
        if self.rounds.is_exact:
            return [(False, FEW, True), (True, FEW, True)]
        return [(False, 30, False), (True, FEW, True), (True, 10, False)]

    def _is_doubtful(self, found: Explanation) -> bool:
        """Return whether a formula that leaves noise may fit by chance."""
        if found.is_exact:
            return False
        candidate = found.candidate
        if self.collector.repeated_calls.repeats and candidate.is_drawn:
            return True  # the same value each time is no draw
        # Noise that is none of the terms' may pass for pieces of them, or for a quantity added.
        others = self.collector.seen.drops or self.collector.seen.others
        if others and (candidate.pieces or candidate.kind == "extra" or found.is_near):
            return True
        return found.num_oddities > MOST_ODDITIES
