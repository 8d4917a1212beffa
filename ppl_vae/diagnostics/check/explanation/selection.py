"""Which formula an objective follows, and what that means in words."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from ppl_vae.diagnostics.check.explanation.candidate import RIGHT, Candidate
from ppl_vae.diagnostics.check.explanation.candidate_list import candidates
from ppl_vae.diagnostics.check.statistics import (
    LOG_P_LIMIT,
    ONE,
    Z_LIMIT,
    Fit,
    Regression,
    is_off,
)
from ppl_vae.diagnostics.estimate import Estimate

PER_WEIGHT = 8.0
SHARP = 2e-6
EXPLAINED, NEAR = 0.2, 0.05
# The fewest settings that must be left without those at which a formula cannot be scored.
FEWEST = 6


@dataclass
class Explanation:
    """A formula that leaves nothing over, with its weights.

    Attributes:
        candidate: the formula.
        fit: its weights.
        score: chi squared and the reluctance to believe it; less is better.
        of_data: those roles whose columns, or whose differences from the right ones, depend on
            the data only.
    """

    candidate: Candidate
    fit: Fit
    score: float
    of_data: frozenset[str] = frozenset()

    def weight(self, role: str) -> Estimate[float]:
        """Return the weight of a role's column."""
        name = self.candidate.roles[role]
        return Estimate(self.fit[name], self.fit.error(name), self.fit.replicates)

    def is_off(self, role: str) -> bool:
        """Return whether a role's weight is not 1, or not 0 for what should not be there."""
        return is_off(self.weight(role), 0.0 if role == "extra" else 1.0)

    @property
    def constant_is_off(self) -> bool:
        """Whether its constant, if it has one, is not 0."""
        if ONE not in self.fit.names:
            return False
        value, error = self.fit[ONE], self.fit.error(ONE)
        size = float(np.median(self.fit.errors)) * Z_LIMIT
        return math.isfinite(error) and abs(value) > max(Z_LIMIT * error, size)

    @property
    def is_exact(self) -> bool:
        """Whether it leaves no noise: the objective is then this formula, draw by draw."""
        return self.fit.is_exact

    @property
    def num_oddities(self) -> int:
        """In how many ways it differs from the right formula."""
        off = sum(self.is_off(role) for role in self.candidate.roles)
        return off + bool(self.candidate.message) + self.constant_is_off

    @property
    def is_near(self) -> bool:
        """Whether it is the right formula except for weights that are nearly 1."""
        weights = [self.weight(role).mean for role in self.candidate.roles]
        return not self.candidate.message and all(abs(w - 1) < NEAR for w in weights)

    @property
    def needs_its_extra(self) -> bool:
        """Whether what should not be there is seen to be there, if it has such a role."""
        if "extra" not in self.candidate.roles:
            return True
        weight = self.weight("extra")
        return abs(weight.mean) > Z_LIMIT * weight.standard_error

    def says_something(self, *, ignore_constants: bool) -> bool:
        """Return whether it differs from the right formula."""
        if self.candidate.message or any(self.is_off(r) for r in self.candidate.roles):
            return True
        return not ignore_constants and self.constant_is_off


def explain(table: Regression, *, ignore_constants: bool, exact: bool) -> Explanation | None:
    """Return the simplest formula that explains the objective, or None.

    Where the right terms at the objective's own noise leave no noise (`exact`), what explains
    the rest leaves none either.

    First a formula is looked for that leaves no more than epsilons inside of logarithms may. If
    there is one, one that leaves nothing but rounding is preferred.
    """
    best: Explanation | None = None
    for tolerance in (table.tolerance, SHARP):
        table.tolerance = tolerance
        sharper = _simplest(table, ignore=ignore_constants, exact=exact)
        if sharper is None:
            break
        best = sharper
    return best


def _simplest(table: Regression, *, ignore: bool, exact: bool) -> Explanation | None:
    best: Explanation | None = None
    right = right_fit(table, ignore=ignore)
    for candidate in candidates(table):
        known = table.samples[0].columns
        columns = [*candidate.roles.values(), *candidate.noise]
        if not known.keys() >= set(columns):
            continue  # a column was not finite somewhere
        scored, right_scored = table, right
        if candidate.far in known:
            scored = table.where_zero(candidate.far, at_least=FEWEST)
            if scored is None:
                continue
            if scored is not table:
                right_scored = right_fit(scored, ignore=ignore)
        if exact and not scored.spans(columns):
            continue  # without any fit
        for each in explanations(scored, candidate, right_scored, ignore=ignore, exact=exact):
            if best is None or each.score < best.score:
                best = replace(each, of_data=_of_data(scored, candidate))
    return best


def _of_data(table: Regression, candidate: Candidate) -> frozenset[str]:
    """Return the roles that depend on the data only, except for what they should be."""

    def is_of_data(column: str) -> bool:
        if column.startswith("L="):
            column = table.add("gap", {column: 1.0, "L": -1.0})
        elif not column.startswith("L:"):
            return False
        return table.is_of_data(column)

    return frozenset(role for role, column in candidate.roles.items() if is_of_data(column))


def right_fit(table: Regression, *, ignore: bool) -> Fit:
    """Return the fit of the right formula, with a constant if constants may be left out."""
    return table.fit([ONE] if ignore else [], dict.fromkeys(RIGHT, 1.0), table.noise)


def explanations(
    table: Regression, candidate: Candidate, right: Fit, *, ignore: bool, exact: bool
) -> Iterator[Explanation]:
    """Yield the ways, if any, in which one formula explains what the right one's fit does not."""
    for found in _fits(table, candidate, ignore=ignore):
        if found.fit.log_p < LOG_P_LIMIT or (exact and not found.is_exact):
            continue
        if candidate.message and not _beats(found, right, matched=table.matched):
            continue
        if found.says_something(ignore_constants=ignore) and found.needs_its_extra:
            yield found


def _beats(found: Explanation, right: Fit, *, matched: bool) -> bool:
    """Return whether a formula explains an objective, and is not merely too noisy to be refused.

    Errors as large as its own must not excuse the right formula too. Where the noise is known, a
    formula with other draws must account for most of what the right one leaves from replicate to
    replicate.
    """
    if replace(found.fit, residuals=right.residuals).log_p > LOG_P_LIMIT:
        return False
    if not matched or found.is_exact or not found.candidate.is_drawn:
        return True
    own, other = (np.sqrt((fit.noise**2).mean()) for fit in (found.fit, right))
    return bool(own < EXPLAINED * other)


def _fits(table: Regression, candidate: Candidate, *, ignore: bool) -> Iterator[Explanation]:
    columns = list(dict.fromkeys(candidate.roles.values()))
    loose = [candidate.roles[role] for role in candidate.free]
    plans = [loose]
    # A wrong formula with weights that are wrong besides would fit too much.
    if candidate.kind in ("weight", "part", "reduction"):
        free = [c for c in columns if c != candidate.roles.get("rest")]
        plans += [list(dict.fromkeys([*loose, *some])) for some in (*([c] for c in free), free)]
    for plan in plans:
        fixed = {c: 1.0 for c in columns if c not in plan}
        for free in ([*plan, ONE],) if ignore else (plan, [*plan, ONE]):
            if len(free) + 2 > len(table):
                continue
            fit = table.fit(free, fixed, candidate.noise)
            score = fit.chi_squared + candidate.cost + PER_WEIGHT * len(free)
            if math.isfinite(score):
                yield Explanation(candidate, fit, score)
