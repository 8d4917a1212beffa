"""One check, from the first replicates to the result.

A right objective fails at most once in 1000 checks, by these shares. The value is looked at no
more than four times. Each time the misfit of the right formula is tested at the level 1e-6, and
that of three weights at five standard errors: 4 (1e-6 + 3 * 6e-7) < 2e-5. Gradients have 3e-4 for
all groups, settings, directions and looks together (`gradient_findings`); one that may be wrong is
looked at again with three times the draws, unless it plainly is. Numbers per example have 1e-5
(`example_findings`). Each of these tests converts Student's t by its degrees of freedom. The rest
of the 1000th is for tails that are heavier than those of a Normal at ten replicates.
"""

from __future__ import annotations

import torch

from ppl_vae.batch import Data
from ppl_vae.diagnostics.check.gradients import GradientComparison
from ppl_vae.diagnostics.check.objective import Objective
from ppl_vae.diagnostics.check.replicates import Collector
from ppl_vae.diagnostics.check.settings import Settings, Task
from ppl_vae.diagnostics.check.statistics import ONE
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

GRADIENT_BLOCKS = (16, 40, 64)
MORE_IN_DOUBT = 2
ROLES = {"log_likelihood": "L", "log_prior": "P", "entropy": "H"}


def run(
    pair: Pair,
    objective: Objective,
    x: Data,
    *,
    num_replicates: int,
    seed: int,
    ignore_constants: bool,
) -> ElboCheck:
    """Draw until the answer is clear, explain what is wrong, and compare gradients."""
    with torch.no_grad():
        truth = Truth(pair, x)
    settings = Settings(pair, objective, truth, x, seed=seed)
    task = Task(pair, objective, truth, settings, x, seed, num_replicates, ignore_constants)
    value = ValueCheck(task)
    rounds, collector = value.rounds, value.collector
    of_value = value.findings()
    wrong = rounds.is_wrong or bool(of_value)
    gradient, of_gradient = _gradients(value, wrong=wrong)
    if not wrong and ((of_gradient and rounds.is_wrong_after_all()) or rounds.is_wrong):
        of_value, of_gradient = value.findings(), []
    found = localised(of_value + of_gradient, gradient, noisier=rounds.is_noisier)
    if not found and objective.reduction == "none" and not ignore_constants:
        found = example_findings(pair, objective, truth, settings, seed=seed)
    nearest = rounds.nearest
    coefficients = {
        name: Estimate(nearest[role], nearest.error(role), collector.num_replicates)
        for name, role in {**ROLES, "constant": ONE}.items()
    }
    return ElboCheck(
        subject=type(pair).__name__,
        findings=found,
        coefficients=coefficients,
        leftover=nearest.rms,
        gradient=gradient,
        num_replicates=collector.num_replicates,
        num_settings=len(rounds.table),
        stopped=rounds.stopped,
        notes=_notes(collector, settings),
    )


def _gradients(
    value: ValueCheck, *, wrong: bool
) -> tuple[dict[str, GroupGradient], list[Finding]]:
    """Return what the gradients are, and what is wrong with them if that can be judged."""
    weights = dict.fromkeys(ROLES, 1.0)
    rounds, explanation, judged = value.rounds, value.explanation, not wrong
    if explanation is not None and explanation.candidate.kind == "weight":
        judged = True
        for name, role in ROLES.items():
            role = role if role in explanation.candidate.roles else "KL"
            if explanation.is_off(role):
                weights[name] = explanation.weight(role).mean
    gradients = GradientComparison(rounds, weights)
    for target in GRADIENT_BLOCKS:
        if 2 * target > max(rounds.task.budget, 2 * GRADIENT_BLOCKS[0]):
            break
        gradients.more(target - gradients.num_blocks)
        if gradients.is_clear() or (explanation is not None and not judged):
            break  # nothing depends on it
    if judged and gradients.is_doubtful() and (wrong or not rounds.is_wrong_after_all()):
        gradients.more(MORE_IN_DOUBT * gradients.num_blocks, in_doubt=True)
    groups = gradients.result()
    return groups, gradient_findings(groups, weights) if judged else []


def _notes(collector: Collector, settings: Settings) -> list[str]:
    notes = []
    if collector.skipped:
        notes.append(f"The objective was not finite at {collector.skipped} settings.")
    if collector.seen.is_half:
        notes.append(
            "The objective computes in half precision: what is within "
            f"{collector.seen.tolerance:.1%} of the terms is taken for rounding. Check it without "
            "autocast."
        )
    if not settings.sizes:
        notes.append(
            "Only the batch that was passed could be used: other sizes are refused, so a factor "
            "of the batch size would not be seen."
        )
    return notes
