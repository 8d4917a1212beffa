"""The search for the number in a formula with one."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from scipy.optimize import minimize_scalar
from torch import Tensor

from ppl_vae.diagnostics.check.explanation.candidate import Candidate
from ppl_vae.diagnostics.check.explanation.selection import Explanation, explained
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

    Args:
        collector: of the draws.
        with_ratios: whether importance ratios are seen to enter.
        exact: whether an explanation must leave no noise.
        ignore: whether constants may be left out.
    """
    kept: list[Terms] = []

    def keep(draws: Draws, x: Tensor) -> dict[str, Tensor]:
        kept.append(draws.terms)
        return terms(draws.terms, with_ratios=with_ratios)

    samples = collector.samples(keep, limit=REPLICATES)
    if len(kept) != len(samples) or not collector.matched:
        return None
    table = Regression(samples, matched=True, tolerance=collector.seen.tolerance)
    noise = table.noise
    best: Explanation | None = None
    for number, family in enumerate(families(kept[0])):
        if family.role == "KL" and not exact and len(kept[0].guide) == 1:
            continue  # the KL is not where the noise comes from
        name = f"{'L=' if family.role == 'L' else 'KL='}family {number}"
        found = _member(table, kept, family, name, noise)
        roles = {family.role: name} | ({"KL": "KL"} if family.role == "L" else {"L": "L"})
        table.add("KL", {"P": 1.0, "H": 1.0})
        free = (family.role,) if family.free else ()
        said = family.said.format(f"{found:.3g}")
        term = "kl" if family.role == "KL" else "log_likelihood"
        candidate = Candidate("formula", term, said, roles, noise, free=free, cost=8.0)
        for each in explained(table, candidate, ignore=ignore, exact=exact):
            if best is None or each.score < best.score:
                best = each
    return best


def _member(
    table: Regression, kept: list[Terms], family: Family, name: str, noise: list[str]
) -> float:
    """Set the column `name` to the member that is nearest to the objective; return its number."""
    target = np.array([sample.values.mean() for sample in table.samples])
    others = ["L"] if family.role == "KL" else ["P", "H"]

    def distance(log_number: float) -> float:
        _set(table, kept, family, name, float(np.exp(log_number)))
        own = table.means(name)
        entering = table.noise_coefficients(noise, [name, *others]) if noise else {}
        rest = target - sum(table.means(term) for term in others)
        rest = rest - sum(c * table.means(n) for n, c in entering.items())
        if family.free:
            design = np.stack([own, np.ones_like(own)], 1)
            gap = rest - design @ np.linalg.lstsq(design, rest, rcond=None)[0]
        else:
            gap = rest - own
        return float(gap.std())

    grid = np.linspace(np.log(family.low), np.log(family.high), GRID)
    values = [distance(point) for point in grid]
    place = int(np.argmin(values))
    low, high = grid[max(place - 1, 0)], grid[min(place + 1, GRID - 1)]
    found: Any = minimize_scalar(
        distance, bounds=(low, high), method="bounded", options={"xatol": 1e-6, "maxiter": 35}
    )
    number = float(np.exp(found.x if found.fun <= values[place] else grid[place]))
    # A number that people write, where one is as near.
    rounded = float(f"{number:.2g}")
    if abs(rounded - number) < ROUND * number:
        number = rounded
    _set(table, kept, family, name, number)
    return number


def _set(table: Regression, kept: list[Terms], family: Family, name: str, number: float) -> None:
    rows = []
    for sample, right in zip(table.samples, kept, strict=True):
        column = family.column(right, number).double().mean(-1).cpu().numpy()
        rows.append(column.reshape(len(sample.values), -1).mean(1))
    table.put(name, rows)
