"""What an evaluation says, in sentences that its intervals support."""

from __future__ import annotations

import math
from collections.abc import Mapping

from ppl_vae.diagnostics.aggregate.active_units import ActiveUnits
from ppl_vae.diagnostics.aggregate.result import AggregatePosterior
from ppl_vae.diagnostics.estimate import Estimate, counted
from ppl_vae.diagnostics.evidence.result import UNRELIABLE_K, Evidence

NORMAL_95 = 1.959964
_LOWER_BOUNDS = ("iwae", "ais")


def judge(
    evidence: Evidence,
    gap: Estimate[float],
    units: Mapping[str, ActiveUnits],
    aggregate: AggregatePosterior | None,
) -> list[str]:
    """Return the verdicts on evidence, gap, weights and latents.

    Args:
        evidence: per example.
        gap: the mean of evidence minus ELBO.
        units: by latent.
        aggregate: or None where it is not measured.
    """
    average = evidence.average
    at_least = " is at least" if evidence.method in _LOWER_BOUNDS else " is"
    found = [
        f"The mean log evidence{at_least} {average.mean:.6g} nats an example"
        f"{_interval(average)}, {_by(evidence)}."
    ]
    low = gap.mean - NORMAL_95 * gap.standard_error
    if low > 0:
        found.append(
            f"The ELBO lies {gap.mean:.3g} nats an example below "
            f"it{_interval(gap)}: what the guide's distance from the posterior costs."
        )
    else:
        found.append(
            "No difference between ELBO and evidence beyond the interval, "
            f"{gap.mean:.3g} nats an example{_interval(gap)}."
        )
    if evidence.num_unreliable:
        found.append(
            f"{evidence.num_unreliable} of {counted(len(evidence), 'example')} have weights with "
            f"Pareto k above {UNRELIABLE_K}: their evidence and its error cannot be trusted."
        )
    for site, unit in units.items():
        found.append(_of_units(site, unit))
    if aggregate is not None and aggregate.num_examples > 1:
        found += filter(None, [aggregate.ceiling_note, aggregate.mutual_information.warning])
    return found


def _of_units(site: str, units: ActiveUnits) -> str:
    total = len(units.variance)
    if units.count == 0:
        return f"No unit of {site} is active, of {total}: its mean hardly depends on the data."
    if units.count == total:
        every = {1: f"{site} is", 2: f"Both units of {site} are"}
        return f"{every.get(total, f'All {total} units of {site} are')} active."
    verb = "is" if units.count == 1 else "are"
    return f"{units.count} of {total} units of {site} {verb} active."


def _interval(value: Estimate[float]) -> str:
    half = NORMAL_95 * value.standard_error
    if not (math.isfinite(half) and half > 0):
        return ""
    places = max(0, 1 - math.floor(math.log10(half)))  # two digits of its half width
    low, high = (f"{end:.{places}f}" for end in (value.mean - half, value.mean + half))
    return f" (95% interval {low} to {high})"


def _by(evidence: Evidence) -> str:
    examples = counted(len(evidence), "example")
    if evidence.method == "exact":
        return f"in closed form, of {examples}"
    if evidence.method == "quadrature":
        return f"by quadrature, of {examples}"
    return f"by {evidence.method} with {evidence.num_samples} samples, of {examples}"
