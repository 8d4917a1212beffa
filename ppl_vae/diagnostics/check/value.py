"""The value of an objective against the right terms: is it wrong, and how?"""

from __future__ import annotations

import math
from dataclasses import replace

import torch

from ppl_vae.diagnostics.check.explanation import Explanation, by_search, explain
from ppl_vae.diagnostics.check.formulas import CandidateColumns
from ppl_vae.diagnostics.check.objective import WithoutDropout
from ppl_vae.diagnostics.check.replicates import Collector, SequentialTest
from ppl_vae.diagnostics.check.settings import Task
from ppl_vae.diagnostics.check.statistics import Regression, data_constant
from ppl_vae.diagnostics.check.truth import Truth
from ppl_vae.diagnostics.check.verdict import Finding, Quantities, findings, leftover
from ppl_vae.elbos.sites.closed_kl import base

LOG_P_DATA = math.log(0.05)
# One slip has few consequences; what differs from the ELBO in more ways is another objective.
MOST_ODDITIES = 3
# The replicates that suffice to recognise a formula that is exact draw by draw.
FEW = 4


class ValueCheck:
    """Replicates of an objective's value, and what they say.

    Args:
        task: what is compared.

    Attributes:
        collector: of the draws.
        rounds: of replicates, all drawn.
        explanation: the formula that the objective follows; None where it is not wrong, or no
            such formula is known.
    """

    def __init__(self, task: Task) -> None:
        self._task = task
        self.collector = Collector(task)
        self.rounds = SequentialTest(self.collector)
        self.explanation: Explanation | None = None

    def findings(self) -> list[Finding]:
        """Return what is wrong, with its cause where one is known."""
        truth, noise = self._task.truth, self.collector.seen
        if not self.rounds.is_wrong:
            return self._bias_too_small_to_see()
        if truth.observed and self.collector.repeated_calls.ignores_data:
            message = (
                "the objective is the same where all data are 0: does it use what it is passed?"
            )
            return [Finding("formula", "objective", "a function of x", "x not read", message)]
        if (noise.drops or truth.drops) and (found := self._without_dropout()):
            return found
        self.explanation = self._explain()
        if found := self._explained():
            return found
        data = data_constant(self.rounds.table)
        if data.freedom >= 4 and data.log_p > LOG_P_DATA:
            message = (
                "a constant that depends on the data only is left out or added: gradients are "
                "right."
            )
            return [Finding("constant", "constant", "0", "it varies with the data", message)]
        return [leftover(self.rounds.nearest.rms, truth, self.collector)]

    def _bias_too_small_to_see(self) -> list[Finding]:
        """Return what is wrong where another formula fits draw by draw, if one does.

        It is looked for where the right terms leave noise although they are taken at the
        objective's own.
        """
        if not self.collector.matched or self.rounds.is_exact:
            return []
        explanation = self._explain(quickly=not self.collector.seen.shares)
        if explanation is None or not explanation.is_exact:
            return []
        self.explanation = explanation
        return self._explained()

    def _explained(self) -> list[Finding]:
        """Return what the explanation says is wrong; nothing where there is none."""
        if self.explanation is None:
            return []
        return findings(
            self.explanation,
            self._quantities(),
            kind=self._task.objective.kind,
            ignore_constants=self._task.ignore_constants,
        )

    def _without_dropout(self) -> list[Finding]:
        """Return what is wrong if dropout's masks are held at their mean, if that is known."""
        task = self._task
        with WithoutDropout():
            truth = Truth(task.pair, task.x, without_dropout=True)
            held = ValueCheck(replace(task, truth=truth))
            if held.rounds.is_wrong:
                held.explanation = held._explain()
                return held._explained()
        if self.collector.seen.drops:
            message = (
                "dropout is left on: the objective draws Bernoulli noise, and with its mean "
                "in its place is the ELBO. Call eval(), or pass training=False."
            )
            return [Finding("noise", "objective", "no dropout", "dropout", message)]
        message = (
            "the pair's networks drop units out, and the objective does not: it is "
            "the ELBO of the networks without dropout. Call eval() on the pair."
        )
        return [Finding("noise", "objective", "dropout", "no dropout", message)]

    def _quantities(self) -> Quantities:
        task = self._task
        with torch.no_grad():
            sites = task.truth.run(task.x).model.values()
        kinds = [type(base(site["fn"])).__name__ for site in sites if site["is_observed"]]
        quantities = Quantities.of(task.truth, task.x, normal_pixels="Normal" in kinds)
        if self.collector.num_particles > 1:
            quantities.others["the particles"] = self.collector.num_particles
        return quantities

    def _explain(self, *, quickly: bool = False) -> Explanation | None:
        """Return the formula that the objective follows; `quickly`, a plain and exact one."""
        task, rounds = self._task, self.rounds
        matched, ignore = bool(self.collector.matched), task.ignore_constants
        best: Explanation | None = None
        for with_draws, limit, only_exact in self._plans(quickly=quickly):
            columns = CandidateColumns(
                task.pair, task.truth, with_draws=with_draws, with_ratios=rounds.with_ratios
            )
            table = Regression(
                self.collector.samples(columns, limit=limit),
                matched=matched,
                tolerance=self.collector.seen.tolerance,
            )
            found = explain(table, ignore_constants=ignore, exact=only_exact)
            if found is not None and (best is None or found.score < best.score):
                best = found
            if best is not None and best.is_exact:
                return best
            if matched and not with_draws and not quickly:
                # Before many wrong draws are tried, each a pass through the model.
                found = by_search(
                    self.collector,
                    with_ratios=rounds.with_ratios,
                    exact=rounds.is_exact,
                    ignore=ignore,
                )
                if found is not None:
                    return found
        return None if best is None or self._may_fit_by_chance(best) else best

    def _plans(self, *, quickly: bool) -> list[tuple[bool, int, bool]]:
        """Return what to try: (with wrong draws?, replicates, only what leaves no noise?).

        At an objective's own noise few replicates tell whether a formula is exact.
        """
        if quickly:
            return [(False, FEW, True)]
        if not self.collector.matched:
            return [(False, 30, False), (True, 10, False)]
        if self.rounds.is_exact:
            return [(False, FEW, True), (True, FEW, True)]
        return [(False, 30, False), (True, FEW, True), (True, 10, False)]

    def _may_fit_by_chance(self, explanation: Explanation) -> bool:
        """Return whether a formula that leaves noise may fit by chance."""
        candidate, noise = explanation.candidate, self.collector.seen
        if self.collector.repeated_calls.repeats and candidate.is_drawn:
            return True  # the same value each time is no draw
        # Noise that is none of the terms' may pass for pieces of them, or for a quantity added.
        if (noise.drops or noise.others) and (
            candidate.pieces or candidate.kind == "extra" or explanation.is_near
        ):
            return True
        return explanation.num_oddities > MOST_ODDITIES
