"""Which formula an objective follows, and what that means in words."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ppl_vae.diagnostics.check.candidates import Candidate, candidates
from ppl_vae.diagnostics.check.fit import ONE, TOLERANCE, Fit, Table
from ppl_vae.diagnostics.estimate import Estimate

LOG_P_LIMIT = math.log(1e-6)
Z_LIMIT, WEIGHT_TOLERANCE = 5.0, 2e-3
PER_WEIGHT = 8.0
SHARP = 2e-6


@dataclass
class Explanation:
    """A formula that leaves nothing over, with its weights.

    Attributes:
        candidate: the formula.
        fit: its weights.
        score: chi squared and the reluctance to believe it; less is better.
    """

    candidate: Candidate
    fit: Fit
    score: float

    def weight(self, role: str) -> Estimate[float]:
        """Return the weight of a role's column."""
        name = self.candidate.roles[role]
        return Estimate(self.fit[name], self.fit.error(name), self.fit.replicates)

    def is_off(self, role: str) -> bool:
        """Return whether a role's weight is not 1."""
        return is_off(self.weight(role))

    @property
    def is_exact(self) -> bool:
        """Whether it leaves no noise: the objective is then this formula, draw by draw."""
        return bool((self.fit.noise < self.fit.errors / 3).all())

    def says_something(self, *, ignore_constants: bool) -> bool:
        """Return whether it differs from the right formula."""
        if self.candidate.message or any(self.is_off(r) for r in self.candidate.roles):
            return True
        return not ignore_constants and constant_is_off(self)


def is_off(weight: Estimate[float], right: float = 1.0) -> bool:
    """Return whether a weight is not what it should be."""
    error = weight.standard_error
    return math.isfinite(error) and abs(weight.mean - right) > max(
        Z_LIMIT * error, WEIGHT_TOLERANCE
    )


def explain(table: Table, *, ignore_constants: bool, exact: bool) -> Explanation | None:
    """Return the simplest formula that explains the objective, or None.

    Where the right terms at the objective's own noise leave no noise (`exact`), what explains
    the rest leaves none either.

    First one that leaves nothing but rounding is looked for, then one that leaves no more than
    epsilons inside of logarithms may.
    """
    for tolerance in (SHARP, TOLERANCE):
        table.tolerance = tolerance
        found = _simplest(table, ignore_constants=ignore_constants, exact=exact)
        if found is not None:
            return found
    return None


def _simplest(table: Table, *, ignore_constants: bool, exact: bool) -> Explanation | None:
    best: Explanation | None = None
    known = table.samples[0].columns
    for candidate in candidates(table):
        if not {*candidate.roles.values(), *candidate.noise} <= set(known):
            continue  # a column was not finite somewhere
        for found in _fits(table, candidate, ignore_constants):
            if found.fit.log_p < LOG_P_LIMIT or (best and found.score >= best.score):
                continue
            if exact and not found.is_exact:
                continue
            if found.says_something(ignore_constants=ignore_constants):
                best = found
    return best


def data_constant(table: Table) -> Fit:
    """Fit a constant for every batch: what depends on the data and not on the parameters."""
    batches = [sample.index for sample in table.samples]
    names = []
    for number, batch in enumerate(dict.fromkeys(batches)):
        where = np.array([float(b == batch) for b in batches])
        names.append(table.add(f"batch {number}", {ONE: 1.0}, where))
    noise = [name for name in table.samples[0].columns if name[:3] in ("~P:", "~H:")]
    return table.fit(names, {"L": 1.0, "P": 1.0, "H": 1.0}, noise)


def _fits(table: Table, candidate: Candidate, ignore: bool) -> list[Explanation]:  # noqa: FBT001
    columns = list(dict.fromkeys(candidate.roles.values()))
    loose = [candidate.roles[role] for role in candidate.free]
    held = dict.fromkeys((c for c in columns if c not in loose), 1.0)
    found = []
    plans: list[tuple[list[str], dict[str, float]]] = [([*loose, ONE], held)]
    if not ignore:
        plans.insert(0, (loose, held))
    # A wrong formula with weights that are wrong besides would fit too much.
    if candidate.kind in ("weight", "part", "reduction"):
        rest = candidate.roles.get("rest")
        fixed = {} if rest is None else {rest: 1.0}
        free = [c for c in columns if c not in fixed]
        for some in (*([c] for c in free), free):
            others = {c: 1.0 for c in columns if c not in some}
            plans.append(([*some, ONE], others))
            if not ignore:
                plans.append((some, others))
    for free, fixed in plans:
        if len(free) + 2 > len(table):
            continue
        fit = table.fit(free, fixed, candidate.noise)
        score = fit.chi_squared + candidate.cost + PER_WEIGHT * len(free)
        if math.isfinite(score):
            found.append(Explanation(candidate, fit, score))
    return found


def constant_is_off(e: Explanation) -> bool:
    """Return whether the constant is not 0."""
    if ONE not in e.fit.names:
        return False
    value, error = e.fit[ONE], e.fit.error(ONE)
    size = float(np.median(e.fit.errors)) * Z_LIMIT
    return math.isfinite(error) and abs(value) > max(Z_LIMIT * error, size)
