"""What else could have entered an objective: the right terms taken wrongly, and known quantities.

Every function returns columns, (particles, examples), by name, in nats where they are densities.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ppl_vae.diagnostics.check.formulas.flows import flow_parts
from ppl_vae.diagnostics.check.formulas.importance_ratios import ratios
from ppl_vae.diagnostics.check.formulas.wrong_divergences import (
    reversed_kl,
    standard_priors,
    wrong_divergences,
)
from ppl_vae.diagnostics.check.formulas.wrong_draws import wrong_draws, wrongly_drawn
from ppl_vae.diagnostics.check.formulas.wrong_likelihoods import (
    bounds,
    likelihood_mistakes,
    likelihood_parts,
)
from ppl_vae.diagnostics.check.settings import Draws
from ppl_vae.diagnostics.check.truth import (
    Terms,
    Truth,
    closed_kl,
    event_dims,
    latent_sites_of,
    summed,
)
from ppl_vae.elbos.sites.closed_kl import base, registered_kl
from ppl_vae.elbos.sites.traces import Site
from ppl_vae.pair import Pair

FREE_BITS = (0.01, 0.05, 0.1, 0.2, 0.25, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0)


def terms(right: Terms, *, with_ratios: bool) -> dict[str, Tensor]:
    """Return the right terms: their sums, site by site, and noise with no expectation."""
    likelihood, prior, entropy = right.three()
    found = {"L": likelihood, "P": prior, "H": entropy}
    for site, value in right.prior.items():
        found[f"P:{site}"] = right.prior_closed.get(site, value)
    for site, value in right.entropy.items():
        found[f"H:{site}"] = right.entropy_closed.get(site, value)
    for site in right.prior_closed:
        found[f"~P:{site}"] = right.prior[site] - right.prior_closed[site]
        found[f"~H:{site}"] = right.entropy[site] - right.entropy_closed[site]
    return found | (ratios(right) if with_ratios else {})


class CandidateColumns:
    """All columns that are tried out where the right terms do not explain an objective.

    Args:
        pair: the pair.
        truth: its terms.
        with_draws: whether to draw again in wrong ways, which costs a pass through the model each.
        with_ratios: whether importance ratios are seen to enter.
    """

    def __init__(self, pair: Pair, truth: Truth, *, with_draws: bool, with_ratios: bool) -> None:
        self._pair, self._truth = pair, truth
        self._with_draws, self._with_ratios = with_draws, with_ratios

    def __call__(self, draws: Draws, _: object) -> dict[str, Tensor]:
        """Return the columns at some draws."""
        right = draws.terms
        found = terms(right, with_ratios=self._with_ratios)
        blank = torch.zeros_like(right.likelihood)
        for parts in (likelihood_parts, likelihood_mistakes, flow_parts):
            found |= parts(right, blank)
        found |= bounds(right, draws.num_particles)
        latents = latent_sites_of(right.guide)
        found |= reversed_kl(right, latents, blank)
        if _all(latents, "Normal"):
            priors = {name: right.model[name] for name in latents if name in right.model}
            if _all(priors, "Normal"):
                found |= _normal_parts(latents, priors, blank)
                found |= wrong_draws(draws, latents, priors, blank, drawn=self._with_draws)
        if draws.again is not None and self._with_draws and _all(latents, "Exponential"):
            found |= wrongly_drawn(draws, "rate", lambda fn, noise: noise * fn.rate)
        found |= self._known_quantities(right, blank)
        if _all(latents, "Normal"):
            found |= standard_priors(right, latents, blank)
        found |= wrong_divergences(right, latents, blank)
        if self._truth.invalid:
            kls = [closed_kl(right, name, blank) for name in latents if name in right.model]
            found["closed where invalid"] = -sum(kls, blank)
        return found

    def _known_quantities(self, right: Terms, blank: Tensor) -> dict[str, Tensor]:
        _, prior, entropy = right.three()
        kl = -(prior + entropy)
        found = {
            "L^2": right.likelihood**2,
            "KL^2": kl**2,
            "|KL|": kl.abs(),
            "batch size": blank + blank.shape[1],
            "1/batch size": blank + 1 / blank.shape[1],
        }
        groups = self._pair.parameter_groups().items()
        for size, change in (("squares", torch.square), ("absolute values", torch.abs)):
            sums = {name: sum(change(p).sum() for p in of.values()) for name, of in groups}
            sums["all parameters"] = sum(sums.values())
            found |= {f"{size} of {name}": blank + value for name, value in sums.items()}
        return found


def _all(sites: dict[str, Site], family: str) -> bool:
    return all(type(base(site["fn"])).__name__ == family for site in sites.values())


def _normal_parts(
    latents: dict[str, Site], priors: dict[str, Site], blank: Tensor
) -> dict[str, Tensor]:
    """Return what the two terms of Normal latents are made of, and functions of these."""
    found: dict[str, Tensor] = {}
    by_dimension = all(event_dims(site) == 1 for site in latents.values())
    for name, site in latents.items():
        q: Any = base(site["fn"])
        p: Any = base(priors[name]["fn"])
        shape, dims = site["value"].shape, event_dims(site)
        kl = registered_kl(q, p).expand(shape)
        parts = {
            "P:loc^2": -0.5 * ((q.loc - p.loc) / p.scale) ** 2,
            "P:scale^2": -0.5 * (q.scale / p.scale) ** 2,
            "P:log": -p.scale.log(),
            "H:log": q.scale.log(),
            "sum(loc)": q.loc - p.loc,
            "sum(|loc|)": (q.loc - p.loc).abs(),
            "sum(|z|)": (site["value"] - p.loc).abs(),
            "sum(scale)": q.scale,
        }
        for floor in FREE_BITS:
            parts[f"free bits {floor}"] = -kl.clamp_min(floor)
            if by_dimension and kl.dim() >= 2:
                parts[f"batch free bits {floor}"] = -kl.mean(-2, keepdim=True).clamp_min(floor)
        for part, value in parts.items():
            found[part] = found.get(part, blank) + summed(value.expand(shape), blank, dims)
    logs = found["H:log"]
    found["sum(log scale)"] = logs
    found["|sum(log scale)|"] = logs.abs()
    found["sum(log scale)^2"] = logs**2
    count = sum(s["value"].numel() for s in latents.values()) / blank.numel()
    minus_kl = found["P:loc^2"] + found["P:scale^2"] + found["P:log"] + logs + 0.5 * count
    return found | {f"floor {f}": -(-minus_kl).clamp_min(f) for f in FREE_BITS}
