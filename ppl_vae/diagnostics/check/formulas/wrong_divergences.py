"""Divergences and priors that are met in place of the right ones."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor
from torch.distributions import Normal

from ppl_vae.diagnostics.check.truth import Terms, event_dims, summed
from ppl_vae.elbos.sites.closed_kl import base, registered_kl
from ppl_vae.elbos.sites.traces import Site

LOG_2PI = math.log(2 * math.pi)
LARGEST_LATENT = 64


def standard_priors(right: Terms, latents: dict[str, Site], blank: Tensor) -> dict[str, Tensor]:
    """Return the log-prior with one site's taken as the standard Normal, site by site."""
    found = {}
    for name, site in latents.items():
        q: Any = base(site["fn"])
        z = site["value"]
        square = q.loc**2 + q.scale**2 if name in right.prior_closed else z**2
        standard = summed((-0.5 * (square + LOG_2PI)).expand(z.shape), blank, event_dims(site))
        own = {**right.prior, **right.prior_closed}.get(name, blank)
        found[f"standard {name}"] = right.three()[1] - own + standard
    return found


def reversed_kl(right: Terms, latents: dict[str, Site], blank: Tensor) -> dict[str, Tensor]:
    """Return -KL(p || q), where it has a formula at every latent."""
    try:
        kls = [registered_kl(right.model[n]["fn"], s["fn"]) for n, s in latents.items()]
    except (KeyError, NotImplementedError):
        return {}
    return {"reversed KL": -sum((summed(kl, blank, 0) for kl in kls), blank)}


def wrong_divergences(right: Terms, latents: dict[str, Site], blank: Tensor) -> dict[str, Tensor]:
    """Return further terms that are met in place of -KL, by what they do, in words."""
    sampled = -(sum(right.prior.values(), blank) + sum(right.entropy.values(), blank))
    k2 = "KLs=the KL is estimated by half the square of log q - log p (k2): biased"
    found = {
        k2: -(sampled**2) / 2,
        "KLs=the sampled KL is cut off below 0": -sampled.clamp_min(0.0),
        "KLs=the sampled KL enters by its absolute value": -sampled.abs(),
    }
    if len(latents) != 1 or any(len(base(s["fn"]).event_shape) for s in latents.values()):
        return found
    ((name, site),) = latents.items()
    q: Any = base(site["fn"])
    p: Any = base(right.model[name]["fn"])
    dims = event_dims(site)
    try:
        kl = registered_kl(q, p).expand(site["value"].shape)
    except NotImplementedError:
        return found
    size = kl.shape[-1] if dims else 1
    for j in range(size if 1 < size <= LARGEST_LATENT else 0):
        rest = [k for k in range(size) if k != j]
        found[f"KL=the KL leaves out latent dimension {j}"] = -summed(kl[..., rest], blank, dims)
    if type(q).__name__ == "Normal" and dims == 1 and kl.dim() >= 2:
        mean = Normal(q.loc.mean(-2, keepdim=True), q.scale.mean(-2, keepdim=True))
        kl_of_mean = registered_kl(mean, p).expand(site["value"].shape)
        words = "KL=the KL is that of loc and scale averaged over the batch, not of each example"
        found[words] = -summed(kl_of_mean, blank, dims)
    return found
