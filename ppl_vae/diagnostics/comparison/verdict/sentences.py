"""What a comparison says, in sentences that its intervals support."""

from __future__ import annotations

from collections.abc import Sequence

from ppl_vae.diagnostics.comparison.replicates import OVERALL
from ppl_vae.diagnostics.comparison.row import Row
from ppl_vae.diagnostics.comparison.verdict.work import Work, comparable, groups_of, relative_work

FIRST_CHOICE = "trace"  # what most people would use without a comparison


def conclusions(rows: Sequence[Row]) -> list[str]:
    """Return which estimators have the least variance x time, and why some are unbiased here."""
    found = []
    families = comparable(rows)
    for family in families:
        what = "" if len(families) == 1 else f" of the {_quantity(family[0])}"
        for group in groups_of(rows):
            where = "" if group == OVERALL else f" for the {group}"
            sentence = least_work(relative_work(family, group), f"{what}{where}")
            found += [sentence] if sentence else []
    noiseless = [r.name for r in rows if r.gradient_variance[OVERALL].mean == 0]
    if noiseless:
        found.append(f"{listed(noiseless)} gave the same gradient every time: no variance.")
    return found + [_why_unbiased(row) for row in rows if _needs_explaining(row)]


def least_work(work: Sequence[Work], what: str = "") -> str:
    """Return the sentence on the least variance x time; empty for fewer than two estimators.

    Args:
        work: the least first, as `relative_work` returns it.
        what: it is of, and for which parameters, as words that follow "variance x time".
    """
    if len(work) < 2:
        return ""
    least, *others = work
    near = [each.estimator for each in others if not each.is_more]
    more = [each for each in others if each.is_more]
    quantity = f"gradient variance x time{what}"
    shown = next((w for w in more if w.estimator == FIRST_CHOICE), more[0] if more else None)
    times = f"{shown.ratio:.3g} times" if shown else ""
    interval = f"95% interval {shown.low:.3g} to {shown.high:.3g}" if shown else ""
    if shown is not None and not near:
        return (
            f"{least.estimator} has the least {quantity}, {times} less than "
            f"{shown.estimator} ({interval})."
        )
    sentence = (
        f"{least.estimator} has the least {quantity}, with no difference beyond the intervals "
        f"from {listed(near)}"
    )
    if shown is None:
        return f"{sentence}."
    return f"{sentence}; {shown.estimator} has {times} as much ({interval})."


def listed(names: Sequence[str]) -> str:
    """Return ``a``, ``a and b``, or ``a, b and c``."""
    *head, last = names
    return f"{', '.join(head)} and {last}" if head else last


def _needs_explaining(row: Row) -> bool:
    return bool(
        row.condition and row.analytic_sites and not row.invalid_sites and not row.looks_biased
    )


def _why_unbiased(row: Row) -> str:
    sites = listed([f"{site!r}" for site in row.analytic_sites])
    ending = "and none was seen" if row.looks_biased is False else "though this was not tested"
    return (
        f"{row.name} should have no bias here, {ending}: it takes the KL of {sites} in closed "
        f"form, which is valid at these sites. In general it needs that {row.condition}."
    )


def _quantity(row: Row) -> str:
    if row.bound.startswith("elbo"):
        return "ELBO"
    return f"{row.bound} bound of {row.num_particles} particles"
