"""For every latent: has its KL divergence a closed form, and may it be used?"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import torch
from pyro.distributions import Delta
from pyro.poutine.trace_struct import Trace

from ppl_vae import checks
from ppl_vae.elbos.kl_weights.program import WeighsSites
from ppl_vae.elbos.sites.closed_kl import base, obstacle, registered_kl
from ppl_vae.elbos.sites.dependencies import Parents, descendants, parents
from ppl_vae.elbos.sites.draws import Program, unwrapped
from ppl_vae.elbos.sites.traces import Site, latent_sites, weighed

CLOSED_FORM, SAMPLED, INFINITE = "closed form", "sampled", "infinite"


@dataclass(frozen=True)
class SitePlan:
    """How one latent's part of the ELBO is computed.

    Attributes:
        how: ``closed form``, ``sampled`` or ``infinite`` (where no ELBO exists).
        is_valid: whether the divergence, taken site by site, has the right expectation.
        why: the reason, in words.
        source: the guide's site that holds the distribution: the site itself, or the auxiliary
            one from which a Delta takes its value unchanged.
    """

    how: str
    is_valid: bool
    why: str
    source: str


def plan_sites(program: Program, model: Trace, guide: Trace) -> dict[str, SitePlan]:
    """Decide for every latent of the model that the guide draws.

    The divergence of a site may be taken in closed form, at draws of what it is conditioned on,
    if none of its parents in the model descends from it in the guide: else the parents were drawn
    given this very site, and are not independent of it.
    """
    # Without weights of the KL, which would take this look for a run of the estimate.
    above_in_model, above_in_guide = parents(
        unwrapped(program.model, WeighsSites),
        unwrapped(program.guide, WeighsSites),
        program.args,
        program.kwargs,
        traces=(model, guide),
    )
    in_guide = latent_sites(guide)
    plans = {
        name: _plan(name, site, in_guide, above_in_model, above_in_guide)
        for name, site in latent_sites(model).items()
        if name in in_guide
    }
    taken = Counter(plan.source for plan in plans.values() if plan.how == CLOSED_FORM)
    for name, plan in plans.items():
        if taken[plan.source] > 1:
            why = f"other sites too take the value of {plan.source}, whose entropy counts once"
            plans[name] = SitePlan(SAMPLED, plan.is_valid, why, name)
    return plans


def _plan(
    name: str, site: Site, in_guide: dict[str, Site], model: Parents, guide: Parents
) -> SitePlan:
    source = _source(name, in_guide)
    below = model.get(name, set()) & descendants(guide, source)
    is_valid = not below
    fn, prior = in_guide[source]["fn"], site["fn"]
    why_not = obstacle(fn, prior)
    if why_not:
        return SitePlan(SAMPLED, is_valid, why_not, name)
    try:
        with torch.no_grad():
            kl = divergence(site, in_guide[source])
    except NotImplementedError:
        pair = f"{type(base(fn)).__name__} against {type(base(prior)).__name__}"
        return SitePlan(SAMPLED, is_valid, f"no closed form is known for {pair}", name)
    if bool(kl.isposinf()):
        why = f"the guide puts mass where {type(base(prior)).__name__} has none"
        return SitePlan(INFINITE, is_valid, why, source)
    if below:
        listed = ", ".join(sorted(below))
        why = f"its parent in the model, {listed}, descends from it in the guide"
        return SitePlan(SAMPLED, is_valid, why, name)
    how = "its parents in the model do not descend from it in the guide"
    return SitePlan(CLOSED_FORM, is_valid, how if model.get(name) else "it has no parents", source)


def divergence(prior: Site, guide: Site) -> torch.Tensor:
    """Return ``E_q[m_q log q - m_p log p]``, a scalar, with each side's scale and mask."""
    kl = registered_kl(guide["fn"], prior["fn"])
    if same_weights(prior, guide):
        return weighed(kl, guide).sum()
    # Weights differ, so the two halves of the divergence are needed apart.
    entropy = guide["fn"].entropy()
    return weighed(kl + entropy, prior).sum() - weighed(entropy, guide).sum()


def raise_if_infinite(plan: dict[str, SitePlan]) -> None:
    """Raise ValueError where the guide's support leaves the prior's."""
    for name, site in plan.items():
        if site.how == INFINITE:
            raise checks.value_error(
                f"a guide at site {name!r} whose support lies within the prior's",
                f"one that does not: {site.why}",
                "Choose a distribution with the prior's support.",
            )


def _source(name: str, in_guide: dict[str, Site]) -> str:
    """Return the auxiliary site whose value a Delta at `name` passes on unchanged, or `name`.

    Pyro's AutoNormal draws so: an unconstrained Normal, then a Delta at its image. Where the image
    is the draw itself, the Normal is the guide.
    """
    fn = base(in_guide[name]["fn"])
    if not isinstance(fn, Delta) or bool((torch.as_tensor(fn.log_density) != 0).any()):
        return name
    for other, site in in_guide.items():
        if site["infer"].get("is_auxiliary") and _is_same_memory(site["value"], fn.v):
            return other
    return name


def _is_same_memory(first: torch.Tensor, second: torch.Tensor) -> bool:
    layouts = [(t.data_ptr(), t.shape, t.stride()) for t in (first, second)]
    return layouts[0] == layouts[1]


def same_weights(first: Site, second: Site) -> bool:
    """Return whether two sites have the same scale and mask."""
    return _same(first["scale"], second["scale"]) and _same(first["mask"], second["mask"])


def _same(first: object, second: object) -> bool:
    if torch.is_tensor(first) or torch.is_tensor(second):
        return first is second
    return first == second
