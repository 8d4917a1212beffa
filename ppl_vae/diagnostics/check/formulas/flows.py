"""The log-determinants of flows in guide and prior."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.distributions import TransformedDistribution
from torch.distributions.utils import _sum_rightmost

from ppl_vae.diagnostics.check.truth import Terms, scored
from ppl_vae.elbos.sites.closed_kl import base
from ppl_vae.elbos.sites.traces import Site


def flow_parts(right: Terms, blank: Tensor) -> dict[str, Tensor]:
    """Return log |det dz/dz0| of every flow, as it enters the entropy, and the log-prior."""
    found = {}
    for sites, where, sign in ((right.guide, "guide", 1.0), (right.model, "prior", -1.0)):
        for name, site in sites.items():
            if isinstance(base(site["fn"]), TransformedDistribution) and not site["is_observed"]:
                found[f"J:{where} of {name}"] = sign * _log_det(site, blank)
    return found


def _log_det(site: Site, blank: Tensor) -> Tensor:
    fn: Any = base(site["fn"])
    y, dims = site["value"], len(fn.event_shape)
    total = y.new_zeros(())
    for transform in reversed(fn.transforms):
        x = transform.inv(y)
        log_det = transform.log_abs_det_jacobian(x, y)
        dims += transform.domain.event_dim - transform.codomain.event_dim
        total = total + _sum_rightmost(log_det, dims - transform.domain.event_dim)
        y = x
    return scored(site, total, blank)
