"""Whether wrong weights are those of another Normal prior."""

from __future__ import annotations

import math

from ppl_vae.diagnostics.check.explanation import Explanation
from ppl_vae.diagnostics.check.statistics import ONE
from ppl_vae.diagnostics.check.verdict.result import Finding
from ppl_vae.diagnostics.check.verdict.simple_ratios import Quantities, near

LOG_2PI = math.log(2 * math.pi)


def other_prior(e: Explanation, q: Quantities) -> Finding | None:
    """Return the finding that the prior is another Normal, or None.

    With a scale c times, and a location m scales beside, the pair's own,

        log p' = (1 / c^2) (log p + n/2 log 2 pi) + (m / c^2) sum(z) - n/2 log 2 pi
                  - n log c - n m^2 / (2 c^2)

    Args:
        e: the explanation, from whose weights c and m are read; the constant must agree.
        q: sizes.
    """
    roles = e.candidate.roles
    if not q.normal_latents or ONE not in e.fit.names or e.candidate.message not in ("", _SHIFTED):
        return None
    shift = e.weight("extra").mean if roles.get("extra") == "sum(loc)" else 0.0
    if "extra" in roles and not shift:
        return None
    by_pieces = "P:loc^2" in roles
    if by_pieces:
        first, second = e.weight("P:loc^2"), e.weight("P:scale^2")
        if not near(first.mean, second.mean, first.standard_error + second.standard_error):
            return None
        weight, others = first.mean, [r for r in roles if r not in _OWN]
    elif "P" in roles:
        weight, others = e.weight("P").mean, [r for r in roles if r not in ("P", "extra")]
    else:
        return None
    if weight <= 0 or any(e.is_off(r) for r in others):
        return None
    scale, loc = weight**-0.5, shift / weight
    n = q.latents
    wanted = -n * math.log(scale) - 0.5 * n * weight * loc**2
    if not by_pieces:
        wanted -= 0.5 * n * LOG_2PI * (1 - weight)
    error = e.fit.error(ONE)
    if abs(wanted) < 1e-6 or not near(e.fit[ONE], wanted, error):
        return None
    told = f"{scale:.3g} times the pair's"
    if abs(loc) > 1e-3:
        told += f", and its location is {loc:.3g} (in units of the pair's scale, from its own)"
    message = f"the log-prior is that of another prior: its scale is {told}."
    return Finding("formula", "log_prior", "the pair's prior", "another Normal", message)


_SHIFTED = "a term is added that is proportional to sum(loc)."
_OWN = ("P:loc^2", "P:scale^2", "extra", "rest")
