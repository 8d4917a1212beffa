"""The search for the number in a formula that has one."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from scipy.optimize import minimize_scalar
from torch import Tensor

from ppl_vae.batch import Data
from ppl_vae.diagnostics.check.explanation.candidate import Candidate
from ppl_vae.diagnostics.check.explanation.selection import (
    Explanation,
    explanations,
    right_fit,
)
from ppl_vae.diagnostics.check.formulas import Family, families, terms
from ppl_vae.diagnostics.check.replicates import Collector
from ppl_vae.diagnostics.check.settings import Draws
from ppl_vae.diagnostics.check.statistics import Regression
from ppl_vae.diagnostics.check.truth import Terms

REPLICATES, GRID = 4, 14
ROUND = 2e-3


@torch.no_grad()
def by_search(
    collector: Collector, *, with_ratios: bool, exact: bool, ignore: bool
) -> Explanation | None:
    """Return the family's member that explains the objective, or None.

    With `with_ratios`, importance ratios are among the columns. With `exact`, an explanation must
    leave no noise. With `ignore`, constants may be left out.
    """
    rights: list[Terms] = []

    def columns(draws: Draws, x: Data) -> dict[str, Tensor]:
        rights.append(draws.terms)
        return terms(draws.terms, with_ratios=with_ratios)

    samples = collector.samples(columns, limit=REPLICATES)
    if len(rights) != len(samples) or not collector.matched:
        return None
    table = Regression(samples, matched=True, tolerance=collector.seen.tolerance)
    table.add("KL", {"P": 1.0, "H": 1.0})
    noise, right = table.noise, right_fit(table, ignore=ignore)
    found: list[Explanation] = []
    for place, family in enumerate(families(rights[0])):
        if family.role == "KL" and not exact and len(rights[0].guide) == 1:
            continue  # the KL is not where the noise comes from
        name = f"{family.role}=family {place}"
        number = _nearest(table, rights, family, name, noise)
        roles = {family.role: name} | ({"KL": "KL"} if family.role == "L" else {"L": "L"})
        free = (family.role,) if family.free else ()
        message = family.message.format(f"{number:.3g}")
        term = "kl" if family.role == "KL" else "log_likelihood"
        candidate = Candidate("formula", term, message, roles, noise, free=free, cost=8.0)
        found += explanations(table, candidate, right, ignore=ignore, exact=exact)
    return min(found, key=lambda explanation: explanation.score, default=None)


def _nearest(
    table: Regression, rights: list[Terms], family: Family, name: str, noise: list[str]
) -> float:
    """Set the column `name` to the member that is nearest to the objective; return its number."""
    target = np.array([sample.values.mean() for sample in table.samples])
    others = ["L"] if family.role == "KL" else ["P", "H"]

    def set_column(number: float) -> None:
        rows = []
        for sample, right in zip(table.samples, rights, strict=True):
            column = family.column(right, number).double().mean(-1).cpu().numpy()
            rows.append(column.reshape(len(sample.values), -1).mean(1))
        table.put(name, rows)

    def distance(log_number: float) -> float:
        set_column(float(np.exp(log_number)))
        own = table.means(name)
        entering = table.noise_coefficients(noise, [name, *others]) if noise else {}
        gap = target - sum(table.means(term) for term in others)
        gap = gap - sum(weight * table.means(n) for n, weight in entering.items())
        if family.free:
            design = np.stack([own, np.ones_like(own)], 1)
            own = design @ np.linalg.lstsq(design, gap, rcond=None)[0]
        return float((gap - own).std())

    grid = np.linspace(np.log(family.low), np.log(family.high), GRID)
    values = [distance(point) for point in grid]
    place = int(np.argmin(values))
    bounds = grid[max(place - 1, 0)], grid[min(place + 1, GRID - 1)]
    search: Any = minimize_scalar(
        distance, bounds=bounds, method="bounded", options={"xatol": 1e-6, "maxiter": 35}
    )
    number = float(np.exp(search.x if search.fun <= values[place] else grid[place]))
    # A number that people write, where one is as near.
    rounded = float(f"{number:.2g}")
    if abs(rounded - number) < ROUND * number:
        number = rounded
    set_column(number)
    return number
