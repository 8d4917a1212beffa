"""Formulas with a number in them, which is searched for: a floor, a clamp, a factor."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.optimize import minimize_scalar
from torch import Tensor
from torch.distributions import Normal

from ppl_vae.diagnostics.check.candidate import Candidate
from ppl_vae.diagnostics.check.collect import Collector
from ppl_vae.diagnostics.check.explain import Explanation, explained
from ppl_vae.diagnostics.check.features import terms
from ppl_vae.diagnostics.check.formulas.reduce import event_dims, summed
from ppl_vae.diagnostics.check.samples import Draws
from ppl_vae.diagnostics.check.table import Table
from ppl_vae.diagnostics.check.terms import Terms, latent_sites_of
from ppl_vae.elbos.closed_kl import base, registered_kl

REPLICATES, GRID = 4, 14
ROUND = 2e-3


@dataclass(frozen=True)
class Family:
    """One formula with a number in it.

    Attributes:
        role: ``KL`` or ``L``: what it stands for.
        column: from the right terms and the number to the column, (particles, examples).
        low: the least number that is tried.
        high: the largest.
        said: what the objective then does; ``{}`` is the number.
        free: whether the weight has no right value.
    """

    role: str
    column: Callable[[Terms, float], Tensor]
    low: float
    high: float
    said: str
    free: bool = False


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
    table = Table(samples, matched=True, tolerance=collector.seen.tolerance)
    noise = table.noise
    best: Explanation | None = None
    for number, family in enumerate(_families(kept[0])):
        if family.role == "KL" and not exact:
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


def _member(table: Table, kept: list[Terms], family: Family, name: str, noise: list[str]) -> float:
    """Set the column `name` to the member that is nearest to the objective; return its number."""
    target = np.array([sample.values.mean() for sample in table.samples])
    others = ["L"] if family.role == "KL" else ["P", "H"]

    def distance(log_number: float) -> float:
        _set(table, kept, family, name, float(np.exp(log_number)))
        own = table.means(name)
        entering = table.entering(noise, [name, *others]) if noise else {}
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


def _set(table: Table, kept: list[Terms], family: Family, name: str, number: float) -> None:
    rows = []
    for sample, right in zip(table.samples, kept, strict=True):
        column = family.column(right, number).double().mean(-1).cpu().numpy()
        rows.append(column.reshape(len(sample.values), -1).mean(1))
    table.put(name, rows)


def _families(right: Terms) -> list[Family]:
    found = []
    latents = latent_sites_of(right.guide)
    if len(latents) == 1 and all(
        type(base(right.__dict__[side][name]["fn"])).__name__ == "Normal"
        for side in ("guide", "model")
        for name in latents
    ):
        found += _KL_FAMILIES
    observed = [s for s in right.model.values() if s["is_observed"]]
    if len(observed) == 1 and type(base(observed[0]["fn"])).__name__ == "Bernoulli":
        found += _BERNOULLI_FAMILIES
    return found


def _kl(change: Callable[[Tensor, float], Tensor]) -> Callable[[Terms, float], Tensor]:
    """Return a column: the closed KL with the guide's scale changed."""

    def column(right: Terms, number: float) -> Tensor:
        q, p, site, blank = _sites(right)
        kl = registered_kl(Normal(q.loc, change(q.scale, number), validate_args=False), p)
        return -summed(kl.expand(site["value"].shape), blank, event_dims(site))

    return column


def _by_dimension(change: Callable[[Tensor, float], Tensor]) -> Callable[[Terms, float], Tensor]:
    """Return a column: a function of each dimension's closed KL, summed."""

    def column(right: Terms, number: float) -> Tensor:
        q, p, site, blank = _sites(right)
        kl = change(registered_kl(q, p), number)
        return -summed(kl.expand(site["value"].shape), blank, event_dims(site))

    return column


def _by_example(change: Callable[[Tensor, float], Tensor]) -> Callable[[Terms, float], Tensor]:
    """Return a column: a function of each example's closed KL."""

    def column(right: Terms, number: float) -> Tensor:
        _, prior, entropy = right.three()
        return -change(-(prior + entropy), number).expand(right.likelihood.shape)

    return column


def _sites(right: Terms) -> tuple[Any, Any, Any, Tensor]:
    ((name, site),) = latent_sites_of(right.guide).items()
    blank = torch.zeros_like(right.likelihood)
    return base(site["fn"]), base(right.model[name]["fn"]), site, blank


def _over_batch(kl: Tensor, floor: float) -> Tensor:
    return kl.mean(-2, keepdim=True).clamp_min(floor).expand(kl.shape)


def _bernoulli(change: Callable[[Any, Tensor, float], Tensor]) -> Callable[[Terms, float], Tensor]:
    """Return a column: another cross-entropy of logits and pixels."""

    def column(right: Terms, number: float) -> Tensor:
        site = next(s for s in right.model.values() if s["is_observed"])
        fn: Any = base(site["fn"])
        value = change(fn.logits, site["value"], number)
        return summed(value, torch.zeros_like(right.likelihood), event_dims(site))

    return column


def _log_with(logits: Tensor, x: Tensor, epsilon: float) -> Tensor:
    p = logits.sigmoid()
    return x * (p + epsilon).log() + (1 - x) * (1 - p + epsilon).log()


def _clamped(logits: Tensor, x: Tensor, edge: float) -> Tensor:
    p = logits.sigmoid().clamp(edge, 1 - edge)
    return x * p.log() + (1 - x) * (-p).log1p()


def _scaled(logits: Tensor, x: Tensor, factor: float) -> Tensor:
    return torch.distributions.Bernoulli(logits=factor * logits, validate_args=False).log_prob(x)


_KL_FAMILIES = [
    Family("KL", _by_dimension(torch.clamp_min), 1e-3, 10.0,
           "each latent dimension's KL is kept above {} nats (free bits): a looser bound."),
    Family("KL", _by_dimension(_over_batch), 1e-3, 10.0,
           "each latent dimension's mean KL over the batch is kept above {} nats (free bits): "
           "a looser bound."),
    Family("KL", _by_example(torch.clamp_min), 1e-2, 100.0,
           "each example's KL is kept above {} nats (free bits): a looser bound."),
    Family("KL", _by_dimension(torch.clamp_max), 1e-2, 50.0,
           "each latent dimension's KL is cut off above {} nats."),
    Family("KL", _by_example(torch.clamp_max), 1e-2, 100.0,
           "each example's KL is cut off above {} nats."),
    Family("KL", _by_example(lambda kl, c: (kl - c).abs()), 1e-2, 100.0,
           "the KL enters as |KL - {}|, a capacity (beta-VAE with a target).", free=True),
    Family("KL", _kl(lambda s, c: s.log().clamp(-c / 2, c / 2).exp()), 0.05, 20.0,
           "the KL takes a log-variance clamped to (-{0}, {0})."),
    Family("KL", _kl(lambda s, c: s.log().clamp_min(-c / 2).exp()), 0.05, 20.0,
           "the KL takes a log-variance clamped from below at -{}."),
    Family("KL", _kl(lambda s, c: s.log().clamp_max(c / 2).exp()), 0.05, 20.0,
           "the KL takes a log-variance clamped from above at {}."),
    Family("KL", _kl(lambda s, c: s + c), 1e-4, 1.0,
           "the KL takes scale + {} where the guide has its scale: an epsilon?"),
    Family("KL", _kl(lambda s, c: (s**2 + c).sqrt()), 1e-4, 1.0,
           "the KL takes the variance + {} where the guide has its own: an epsilon?"),
    Family("KL", _kl(lambda s, c: c * s), 0.05, 20.0,
           "the KL takes {} times the guide's scale."),
]  # fmt: skip
_BERNOULLI_FAMILIES = [
    Family("L", _bernoulli(_log_with), 1e-6, 0.5,
           "the cross-entropy has an epsilon of {} inside of its logarithms: too large."),
    Family("L", _bernoulli(_clamped), 1e-6, 0.4,
           "the cross-entropy's probabilities are clamped to ({0}, 1 - {0})."),
    Family("L", _bernoulli(_scaled), 0.05, 20.0,
           "the cross-entropy takes {} times the decoder's logits: a temperature?"),
]  # fmt: skip
