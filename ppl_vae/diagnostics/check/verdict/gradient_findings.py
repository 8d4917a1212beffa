"""What a wrong gradient is likely to come from, in words."""

from __future__ import annotations

from scipy import stats

from ppl_vae.diagnostics.check.statistics import Z_LIMIT
from ppl_vae.diagnostics.check.verdict.result import Finding, GroupGradient
from ppl_vae.diagnostics.check.verdict.simple_ratios import shown
from ppl_vae.diagnostics.estimate import Estimate

# At most this share of right objectives may fail by their gradients: shared between all groups,
# three settings, six directions each, and four looks.
LEVEL, TESTS = 3e-4, 3 * 6 * 4
# The z-score from which a weight is not 0, or not 1; the largest error of one that is known.
SEEN, KNOWN = 3.0, 0.3
# Factors on the whole gradient that are recognised.
FACTORS = (2.0, 0.5, -1.0, 0.1, 10.0, 3.0, 4.0)


def z_limit(num_groups: int) -> float:
    """Return the z-score above which a group's gradient is wrong, by Bonferroni."""
    return max(Z_LIMIT, float(stats.norm.isf(LEVEL / (2 * TESTS * max(num_groups, 1)))))


def gradient_findings(
    groups: dict[str, GroupGradient], weights: dict[str, float]
) -> list[Finding]:
    """Return a finding for every group whose expected gradient is not that of the value.

    The terms enter the value with `weights`.
    """
    limit = z_limit(len(groups))
    # Where it reaches no group at all, not even a decoder, it is neither z nor one of the two.
    known = [g.weights["log_likelihood"] for g in groups.values() if "log_likelihood" in g.weights]
    lost = len(known) > 1 and all(_is(weight, 0.0) for weight in known)
    return [_finding(g, weights, lost=lost) for g in groups.values() if g.z_score > limit]


def _finding(group: GroupGradient, weights: dict[str, float], *, lost: bool) -> Finding:
    name, ratio = group.group, group.ratio
    right = f"the gradient of the objective's own value in {name}"
    share = {}
    for term, w in group.weights.items():
        if by := weights[term]:
            share[term] = Estimate(w.mean / by, w.standard_error / abs(by), w.num_samples)
    factors = [f for f in FACTORS if all(_is(w, f) for w in share.values())] if share else []
    blocked = [term for term, w in share.items() if _is(w, 0.0) and w.z_score(1.0) < -SEEN]
    right_terms = [term for term, w in share.items() if _is(w, 1.0) and w.z_score(0.0) > SEEN]
    # Where its parts cancel, the whole vanishes by chance.
    enters = any(abs(w.mean) > Z_LIMIT * w.standard_error for w in share.values())
    if not group.is_finite:
        message = f"the gradient in {name} is not finite: log(0), sqrt(0) or 0/0 on the way?"
    elif group.is_part:
        message = f"no gradient reaches a part of {name}: detached, or not called?"
    elif lost and "log_likelihood" in blocked:
        message = (
            f"no gradient of the log-likelihood reaches {name}: is the reconstruction detached, "
            "or under no_grad?"
        )
    elif (share and len(blocked) == len(share)) or (_is(ratio, 0.0) and not enters):
        message = (
            f"no gradient reaches {name}: detached, under no_grad, or z sampled without "
            "reparameterisation?"
        )
    elif "log_likelihood" in blocked and len(share) > 1:
        message = (
            f"no gradient reaches {name} through z: the log-likelihood's part is missing; "
            "sampled without reparameterisation, or z detached?"
        )
    elif blocked and len(blocked) + len(right_terms) == len(share):
        message = f"the gradient of {' and '.join(blocked)} does not reach {name}: detached?"
    elif factors:
        cause = {2.0: ": doubled?", 0.5: ": halved?", -1.0: ": reversed?"}.get(factors[0], "")
        message = f"the gradient in {name} is {factors[0]:g} times that of the value{cause}"
    else:
        terms = ", ".join(f"{term} {shown(w)}" for term, w in share.items())
        message = (
            f"the expected gradient in {name} is not that of the value: along the right one it "
            f"is {shown(ratio)} of its length"
        )
        message += f" (the terms enter with {terms})." if terms else "."
    if group.missing and len(group.missing) <= 6:
        message += f" It does not reach {', '.join(group.missing)}."
    return Finding("gradient", name, right, shown(ratio), message)


def _is(weight: Estimate[float], value: float) -> bool:
    return abs(weight.mean - value) < max(4 * weight.standard_error, 0.02) and (
        weight.standard_error < KNOWN
    )
