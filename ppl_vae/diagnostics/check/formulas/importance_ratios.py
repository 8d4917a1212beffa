"""Importance ratios less 1: their expectation is 0 at all parameters, and their tails are heavy.

They enter right objectives, as in the estimate p/q - 1 - log(p/q) of a KL (k3), and in baselines.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ppl_vae.diagnostics.check.truth import Terms, event_dims, latent_sites_of, summed
from ppl_vae.elbos.sites.closed_kl import base
from ppl_vae.elbos.sites.traces import Site


def ratios(right: Terms) -> dict[str, Tensor]:
    """Return p(z)/q(z) - 1 of all latents together, of each, and summed over its dimensions."""
    latents = latent_sites_of(right.guide)
    sides = [(site, right.model.get(name)) for name, site in latents.items()]
    if not all(p is not None and _is_plain(q) and _is_plain(p) for q, p in sides):
        return {}
    logs = {name: right.prior[name] + right.entropy[name] for name in latents}
    blank = torch.zeros_like(right.likelihood)
    found = {"~W:all": sum(logs.values(), blank).expm1()}
    for name in right.prior_closed:
        site, q = latents[name], base(latents[name]["fn"])
        p: Any = base(right.model[name]["fn"])
        if len(latents) > 1:
            found[f"~W:{name}"] = logs[name].expm1()
        if event_dims(site) and not q.event_shape and not p.event_shape:
            value = site["value"]
            each = (p.log_prob(value) - q.log_prob(value)).expm1()
            found[f"~W:{name} by dimension"] = summed(each, blank, event_dims(site))
    return found


def _is_plain(site: Site) -> bool:
    mask, scale = site["mask"], site["scale"]
    return mask is None and not torch.is_tensor(scale) and scale == 1
