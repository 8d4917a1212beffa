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

    with c and m from the explanation's weights. The constant must agree.
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
        weight = first.mean
    elif "P" in roles:
        weight = e.weight("P").mean
    else:
        return None
    if weight <= 0 or any(e.is_off(role) for role in roles if role not in _OWN):
        return None
    scale, loc = weight**-0.5, shift / weight
    n = q.latents
    constant = -n * math.log(scale) - 0.5 * n * weight * loc**2
    if not by_pieces:
        constant -= 0.5 * n * LOG_2PI * (1 - weight)
    if abs(constant) < 1e-6 or not near(e.fit[ONE], constant, e.fit.error(ONE)):
        return None
    message = f"the log-prior is that of another prior: its scale is {scale:.3g} times the pair's"
    if abs(loc) > 1e-3:
        message += f", and its location is {loc:.3g} (in units of the pair's scale, from its own)"
    message += "."
    return Finding("formula", "log_prior", "the pair's prior", "another Normal", message)


_SHIFTED = "a term is added that is proportional to sum(loc)."
# Roles whose weights may be those of the other prior.
_OWN = ("P", "P:loc^2", "P:scale^2", "extra", "rest")
