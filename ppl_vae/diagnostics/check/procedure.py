"""One check, from the first replicates to the result.

A right objective fails at most once in 1000 checks, by these shares. The value is looked at no
more than four times; each time the misfit of the right formula is tested at the level 1e-6, and
that of three weights at five standard errors: 4 (1e-6 + 3 * 6e-7) < 2e-5. Gradients: 3e-4 for all
groups, settings, directions and looks together (`gradient_words`); one that may be wrong is looked
at again with three times the draws, unless it plainly is. Numbers per example: 1e-5 (`examples`).
Each of these tests converts Student's t by its degrees of freedom; what is left of the 1000th is
for tails that are heavier than those of a Normal at ten replicates.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ppl_vae.diagnostics.check.gradients import GradientComparison
from ppl_vae.diagnostics.check.objective import Objective
from ppl_vae.diagnostics.check.settings import Settings
from ppl_vae.diagnostics.check.statistics import NOISE, ONE
from ppl_vae.diagnostics.check.truth import Truth
from ppl_vae.diagnostics.check.value import ValueCheck
from ppl_vae.diagnostics.check.verdict import (
    ElboCheck,
    Finding,
    GroupGradient,
    example_findings,
    gradient_findings,
    localised,
)
from ppl_vae.diagnostics.estimate import Estimate
from ppl_vae.pair import Pair

NUM_SETTINGS = 22
GRADIENT_BLOCKS = (16, 40, 64)
MORE_IN_DOUBT = 2
# The weight from which noise without an expectation counts as entering.
ENTERS = 0.02
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
        self._value = ValueCheck(
            pair,
            objective,
            self._truth,
            self._settings,
            x,
            budget=num_replicates,
            seed=seed,
            ignore=ignore,
        )

    def result(self) -> ElboCheck:
        """Draw until the answer is clear, explain what is wrong, and compare gradients."""
        rounds, collector = self._value.rounds, self._value.collector
        found = self._value.findings()
        wrong = rounds.is_wrong or bool(found)
        gradient, seen = self._gradients(wrong=wrong)
        if not wrong and ((seen and self._is_wrong_after_all()) or rounds.is_wrong):
            found, seen = self._value.findings(), []
        found = localised(found + seen, gradient, noisier=rounds.is_noisier)
        if not found and self._objective.reduction == "none" and not self._ignore:
            found = example_findings(
                self._pair, self._objective, self._truth, self._settings, seed=self._seed
            )
        nearest = rounds.nearest
        coefficients = {
            name: Estimate(nearest[role], nearest.error(role), collector.num_replicates)
            for name, role in TERMS.items()
        }
        return ElboCheck(
            subject=type(self._pair).__name__,
            findings=found,
            coefficients=coefficients,
            leftover=nearest.rms,
            gradient=gradient,
            num_replicates=collector.num_replicates,
            num_settings=len(rounds.table),
            stopped=rounds.stopped,
            notes=self._notes(),
        )

    def _fits(self, batch: Tensor) -> bool:
        return bool(self._objective(batch).isfinite())

    def _gradients(self, *, wrong: bool) -> tuple[dict[str, GroupGradient], list[Finding]]:
        weights = {"log_likelihood": 1.0, "log_prior": 1.0, "entropy": 1.0}
        judged, explanation = not wrong, self._value.explanation
        if explanation is not None and explanation.candidate.kind == "weight":
            judged = True
            roles = explanation.candidate.roles
            for role, name in (("L", "log_likelihood"), ("P", "log_prior"), ("H", "entropy")):
                role = role if role in roles else "KL"
                if explanation.is_off(role):
                    weights[name] = explanation.weight(role).mean
        nearest = self._value.rounds.nearest
        entering = {n: nearest[n] for n in nearest.names if n.startswith(NOISE)}
        gradients = GradientComparison(
            self._pair,
            self._objective,
            self._truth,
            self._settings,
            weights=weights,
            visited=self._value.rounds.settings,
            layout=self._value.collector.layout,
            noise={name: value for name, value in entering.items() if abs(value) > ENTERS},
            tolerance=self._value.collector.seen.tolerance,
            seed=self._seed,
        )
        for target in GRADIENT_BLOCKS:
            if 2 * target > max(self._budget, 2 * GRADIENT_BLOCKS[0]):
                break
            gradients.more(target - gradients.num_blocks)
            if gradients.is_clear() or (explanation is not None and not judged):
                break  # nothing hangs on it
        if judged and gradients.is_doubtful() and (wrong or not self._is_wrong_after_all()):
            gradients.more(MORE_IN_DOUBT * gradients.num_blocks, in_doubt=True)
        found = gradients.result()
        return found, gradient_findings(found, weights) if judged else []

    def _is_wrong_after_all(self) -> bool:
        """Return whether the value too is wrong where a gradient is, by less than was seen."""
        if not self._value.rounds.is_exact:
            self._value.rounds.spend()
        return self._value.rounds.is_wrong

    def _notes(self) -> list[str]:
        notes = []
        if self._value.collector.skipped:
            notes.append(
                f"The objective was not finite at {self._value.collector.skipped} settings."
            )
        if self._value.collector.seen.is_half:
            share = self._value.collector.seen.tolerance
            notes.append(
                f"The objective computes in half precision: what is within {share:.1%} of the "
                "terms is taken for rounding. Check it without autocast."
            )
        if not self._settings.sizes:
            notes.append(
                "Only the batch that was passed could be used: other sizes are refused, so a "
                "factor of the batch size would not be seen."
            )
        return notes
