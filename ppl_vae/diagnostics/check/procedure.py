"""One check, from the first replicates to the result.

A right objective fails at most once in 1000 checks, by these shares. The value is looked at no
more than four times; each time the misfit of the right formula is tested at the level 1e-6, and
that of three weights at five standard errors: 4 (1e-6 + 3 * 6e-7) < 2e-5. Once more after a wrong
gradient, which has failed by then anyway. Gradients: 3e-4 for all groups, settings, directions
and looks together (`gradient_words`). Numbers per example: 1e-5 (`examples`). Each of these tests
converts Student's t by its degrees of freedom; what is left of the 1000th is for tails that are
heavier than those of a Normal at ten replicates.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ppl_vae.diagnostics.check.collect import Collector
from ppl_vae.diagnostics.check.examples import example_findings
from ppl_vae.diagnostics.check.explain import (
    Explanation,
    data_constant,
    explain,
)
from ppl_vae.diagnostics.check.families import by_search
from ppl_vae.diagnostics.check.features import Features
from ppl_vae.diagnostics.check.findings import findings
from ppl_vae.diagnostics.check.gradient import Gradients, GroupGradient
from ppl_vae.diagnostics.check.gradient_words import gradient_findings
from ppl_vae.diagnostics.check.leftover import leftover, localised
from ppl_vae.diagnostics.check.objective import Objective
from ppl_vae.diagnostics.check.result import ElboCheck, Finding
from ppl_vae.diagnostics.check.rounds import Rounds
from ppl_vae.diagnostics.check.settings import Settings
from ppl_vae.diagnostics.check.table import NOISE, ONE, Table
from ppl_vae.diagnostics.check.terms import Truth
from ppl_vae.diagnostics.check.words import Quantities
from ppl_vae.diagnostics.estimate import Estimate
from ppl_vae.elbos.closed_kl import base
from ppl_vae.pair import Pair

NUM_SETTINGS = 22
GRADIENT_BLOCKS = (16, 40, 64)
# The weight from which noise without an expectation counts as entering.
ENTERS = 0.02
LOG_P_DATA = math.log(0.05)
TERMS = {"log_likelihood": "L", "log_prior": "P", "entropy": "H", "constant": ONE}


class Check:
    """One check, from the first replicates to the result."""

    def __init__(
        self,
        pair: Pair,
        objective: Objective,
        x: Tensor,
        num_replicates: int,
        seed: int,
        ignore: bool,  # noqa: FBT001
    ) -> None:
        self._pair, self._objective, self._x = pair, objective, x
        self._budget, self._seed, self._ignore = num_replicates, seed, ignore
        with torch.no_grad():
            self._truth = Truth(pair, x)
        self._settings = Settings(
            pair, self._truth, x, seed=seed, count=NUM_SETTINGS, fits=self._fits
        )
        self._collector = Collector(pair, objective, self._truth, self._settings, seed=seed)
        self._rounds = Rounds(self._collector, num_replicates, ignore=ignore)
        self._quantities = self._sizes()

    def result(self) -> ElboCheck:
        """Draw until the answer is clear, explain what is wrong, and compare gradients."""
        rounds, explanation = self._rounds, None
        found: list[Finding] = []
        wrong, exact = rounds.is_wrong, rounds.is_exact
        if wrong:
            explanation = self._explain(exact=exact)
            found = self._findings(explanation)
        gradient, seen = self._gradients(explanation, wrong=wrong)
        if seen and not wrong and not exact:
            # The value is likely to be wrong as well, by less than its noise until now.
            rounds.spend()
            if rounds.is_wrong:
                found, seen = self._findings(self._explain(exact=False)), []
        found = localised(found + seen, gradient)
        if not found and self._objective.reduction == "none" and not self._ignore:
            found = example_findings(
                self._pair, self._objective, self._truth, self._settings, seed=self._seed
            )
        nearest = rounds.nearest
        coefficients = {
            name: Estimate(nearest[role], nearest.error(role), self._collector.num_replicates)
            for name, role in TERMS.items()
        }
        return ElboCheck(
            subject=type(self._pair).__name__,
            findings=found,
            coefficients=coefficients,
            leftover=nearest.rms,
            gradient=gradient,
            num_replicates=self._collector.num_replicates,
            num_settings=len(rounds.table),
            stopped=rounds.stopped,
            notes=self._notes(),
        )

    def _fits(self, batch: Tensor) -> bool:
        return bool(self._objective(batch).isfinite())

    def _sizes(self) -> Quantities:
        with torch.no_grad():
            sites = self._truth.run(self._x).model.values()
        kinds = [type(base(site["fn"])).__name__ for site in sites if site["is_observed"]]
        return Quantities.of(self._truth, self._x, normal_pixels="Normal" in kinds)

    def _explain(self, *, exact: bool) -> Explanation | None:
        if self._collector.num_particles > 1:
            self._quantities.others["the particles"] = self._collector.num_particles
        matched = bool(self._collector.matched)
        best: Explanation | None = None
        for with_draws in (False, True):
            limit = 4 if matched and exact else 10 if with_draws else 30
            features = Features(
                self._pair,
                self._truth,
                with_draws=with_draws,
                with_ratios=self._rounds.with_ratios,
            )
            table = Table(self._collector.samples(features, limit=limit), matched=matched)
            found = explain(table, ignore_constants=self._ignore, exact=exact)
            if found is not None and (best is None or found.score < best.score):
                best = found
            if best is not None and best.is_exact:
                return best
            if matched and not with_draws:
                # Before many wrong draws are tried, each a pass through the model.
                found = by_search(
                    self._collector,
                    with_ratios=self._rounds.with_ratios,
                    exact=exact,
                    ignore=self._ignore,
                )
                if found is not None:
                    return found
        if best is not None and best.candidate.is_drawn and self._collector.repeats:
            # The same value each time is no draw.
            return best if best.is_exact else None
        if best is not None and best.candidate.pieces and self._collector.drops:
            # Dropout's noise is none of the terms', and may pass for a piece of them.
            return best if best.is_exact else None
        return best

    def _findings(self, explanation: Explanation | None) -> list[Finding]:
        if explanation is not None:
            found = findings(
                explanation,
                self._quantities,
                kind=self._objective.kind,
                ignore_constants=self._ignore,
            )
            if found:
                return found
        data = data_constant(self._rounds.table)
        if data.freedom >= 4 and data.log_p > LOG_P_DATA:
            message = (
                "a constant that depends on the data and not on the parameters is left out or "
                "added (the gradient is not affected)."
            )
            return [Finding("constant", "constant", "0", "it varies with the data", message)]
        repeats = self._collector.repeats
        return [leftover(self._rounds.nearest.rms, drops=self._collector.drops, repeats=repeats)]

    def _gradients(
        self, explanation: Explanation | None, *, wrong: bool
    ) -> tuple[dict[str, GroupGradient], list[Finding]]:
        weights = {"log_likelihood": 1.0, "log_prior": 1.0, "entropy": 1.0}
        judged = not wrong
        if explanation is not None and explanation.candidate.kind == "weight":
            judged = True
            roles = explanation.candidate.roles
            for role, name in (("L", "log_likelihood"), ("P", "log_prior"), ("H", "entropy")):
                role = role if role in roles else "KL"
                if explanation.is_off(role):
                    weights[name] = explanation.weight(role).mean
        nearest = self._rounds.nearest
        entering = {n: nearest[n] for n in nearest.names if n.startswith(NOISE)}
        gradients = Gradients(
            self._pair,
            self._objective,
            self._truth,
            self._settings,
            weights=weights,
            visited=self._rounds.settings,
            layout=self._collector.layout,
            noise={name: value for name, value in entering.items() if abs(value) > ENTERS},
            seed=self._seed,
        )
        for target in GRADIENT_BLOCKS:
            if 2 * target > max(self._budget, 2 * GRADIENT_BLOCKS[0]):
                break
            gradients.more(target - gradients.num_blocks)
            if gradients.is_clear():
                break
        found = gradients.result()
        return found, gradient_findings(found, weights) if judged else []

    def _notes(self) -> list[str]:
        notes = []
        if self._collector.skipped:
            notes.append(f"The objective was not finite at {self._collector.skipped} settings.")
        if not self._settings.sizes:
            notes.append(
                "Only the batch that was passed could be used: other sizes are refused, so a "
                "factor of the batch size would not be seen."
            )
        return notes
