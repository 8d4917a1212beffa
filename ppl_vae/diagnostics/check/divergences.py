"""Divergences and priors that are met in place of the right ones."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor
from torch.distributions import kl_divergence

from ppl_vae.diagnostics.check.likelihoods import event_dims, summed
from ppl_vae.diagnostics.check.terms import Terms
from ppl_vae.elbos.closed_kl import base
from ppl_vae.elbos.traces import Site

LOG_2PI = math.log(2 * math.pi)


def standard_priors(right: Terms, latents: dict[str, Site], blank: Tensor) -> dict[str, Tensor]:
    """Return the log-prior with one site's taken as the standard Normal, site by site."""
    found = {}
    for name, site in latents.items():
        q: Any = base(site["fn"])
        closed = name in right.prior_closed
        square = q.loc**2 + q.scale**2 if closed else site["value"] ** 2
        other = summed(
            (-0.5 * (square + LOG_2PI)).expand(site["value"].shape), blank, event_dims(site)
        )
        mine = {**right.prior, **right.prior_closed}.get(name, blank)
        found[f"standard {name}"] = right.three()[1] - mine + other
    return found


def reversed_kl(right: Terms, latents: dict[str, Site], blank: Tensor) -> dict[str, Tensor]:
    """Return -KL(p || q), where it has a formula at every latent."""
    try:
        kls = [kl_divergence(right.model[n]["fn"], s["fn"]) for n, s in latents.items()]
    except (KeyError, NotImplementedError):
        return {}
    return {"reversed KL": -sum((summed(kl, blank, 0) for kl in kls), blank)}


def closed_kl(right: Terms, name: str, blank: Tensor) -> Tensor:
    """Return the KL of one latent in closed form, whether that is valid or not."""
    q, p = right.guide[name], right.model[name]
    return summed(kl_divergence(q["fn"], p["fn"]), blank, 0)
