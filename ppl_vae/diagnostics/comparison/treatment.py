"""What an estimator does with each site of a model and guide."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from pyro.distributions import Delta
from pyro.infer import ELBO, TraceEnum_ELBO, TraceMeanField_ELBO
from pyro.poutine.trace_struct import Trace
from torch import Tensor

from ppl_vae import checks
from ppl_vae.batch import Data
from ppl_vae.elbos import (
    Exact_ELBO,
    TraceAnalyticKL_ELBO,
    TraceEnumerate_ELBO,
    without_weights,
)
from ppl_vae.elbos.discrete.enumerate import is_summed
from ppl_vae.elbos.sites.closed_kl import base, registered_kl
from ppl_vae.elbos.sites.draws import Program, draw_traces
from ppl_vae.elbos.sites.kl_plan import CLOSED_FORM, INFINITE, SAMPLED, divergence, plan_sites
from ppl_vae.elbos.sites.traces import Site, check_sites, latent_sites, observed_sites
from ppl_vae.pair import Pair

DELTA, GIVEN, ENUMERATED = "Delta", "given", "enumerated"
OBSERVED, LATENT, AUXILIARY = "observed", "latent", "auxiliary"


@dataclass(frozen=True)
class Treatment:
    """One site's part in an estimate of the ELBO.

    Attributes:
        site: its name.
        role: ``observed``, ``latent`` or ``auxiliary`` (in the guide alone).
        how: how its divergence is computed: ``closed form``, ``sampled``, ``Delta`` (sampled,
            though counted as closed form by Pyro), ``enumerated`` or ``infinite``; ``given`` for
            observed sites.
        is_valid: whether the estimate so made has the right expectation.
        why: the reason, in words.
        source: the guide's site that holds the distribution.
    """

    site: str
    role: str
    how: str
    is_valid: bool
    why: str
    source: str


def treatments(elbo: ELBO, pair: Pair, x: Data) -> list[Treatment]:
    """Return what `elbo` does with each site, in the model's order, auxiliary sites last."""
    elbo = without_weights(elbo)
    program = Program(pair.model, pair.guide, (x,), {})
    model, guide = draw_traces(program)
    enumerated = _enumerated(elbo, model) | _enumerated(elbo, guide)
    check_sites(model, guide, reparameterised=False, summed=enumerated)
    plan = plan_sites(program, model, guide)
    found = []
    for name in model.nodes:
        if name in observed_sites(model):
            why = "its log-density at the draws of the latents"
            found.append(Treatment(name, OBSERVED, GIVEN, True, why, name))  # noqa: FBT003
        elif name in enumerated:
            where = "guide" if name in guide.nodes else "model"
            why = f"all its states are summed in the {where}"
            found.append(Treatment(name, LATENT, ENUMERATED, True, why, name))  # noqa: FBT003
        elif name in plan:
            how, is_valid, why, source = plan[name].how, True, plan[name].why, plan[name].source
            if isinstance(elbo, TraceMeanField_ELBO):
                how, is_valid, why = _mean_field(model.nodes[name], guide.nodes[name])
                source = name
                if how == CLOSED_FORM and not plan[name].is_valid:
                    is_valid, why = False, plan[name].why
            elif isinstance(elbo, Exact_ELBO):
                how, why = CLOSED_FORM, "the whole ELBO is the pair's closed form"
            elif not _takes_closed_forms(elbo, source == name) and how != INFINITE:
                others = "every other site" if enumerated else "every site"
                how, why, source = SAMPLED, f"{type(elbo).__name__} samples {others}", name
            found.append(Treatment(name, LATENT, how, is_valid and how != INFINITE, why, source))
    taken = {t.source for t in found if t.how == CLOSED_FORM}
    for name in latent_sites(guide):
        if name not in model.nodes:
            why = "counted with the site that takes its value" if name in taken else "its entropy"
            how = CLOSED_FORM if name in taken else SAMPLED
            found.append(Treatment(name, AUXILIARY, how, True, why, name))  # noqa: FBT003
    return found


def part(elbo: ELBO, treatment: Treatment, model: Any, guide: Any) -> Tensor:  # noqa: ANN401
    """Return one site's part of the ELBO at one draw, a scalar in nats."""
    elbo, name = without_weights(elbo), treatment.site
    if treatment.role != OBSERVED and name not in guide.nodes:
        raise NotImplementedError(
            checks.message(
                "sites whose parts of the ELBO add up",
                f"{name!r}, which is summed in the model together with all that depends on it",
                "Draw it in the guide too, or compare whole estimates with compare_elbos.",
            )
        )
    if treatment.role == OBSERVED:
        return model.nodes[name]["log_prob_sum"]
    if treatment.role == AUXILIARY:
        site = guide.nodes[name]
        counted = treatment.how == CLOSED_FORM
        return torch.zeros_like(site["log_prob_sum"]) if counted else -site["log_prob_sum"]
    if treatment.how in (CLOSED_FORM, INFINITE):
        prior, source = model.nodes[name], guide.nodes[treatment.source]
        if isinstance(elbo, TraceMeanField_ELBO):
            prior = {**prior, "scale": source["scale"], "mask": source["mask"]}
        return -divergence(prior, source)
    return model.nodes[name]["log_prob_sum"] - guide.nodes[name]["log_prob_sum"]


def _enumerated(elbo: ELBO, trace: Trace) -> set[str]:
    """Return the sites whose states are summed."""
    if isinstance(elbo, TraceEnumerate_ELBO):
        return {name for name, site in latent_sites(trace).items() if is_summed(site)}
    if not isinstance(elbo, TraceEnum_ELBO):
        return set()
    return {name for name, site in latent_sites(trace).items() if site["infer"].get("enumerate")}


def _takes_closed_forms(elbo: ELBO, of_itself: bool) -> bool:  # noqa: FBT001
    """Return whether `elbo` follows the plan, at a site that is its own source or not."""
    kinds = (TraceAnalyticKL_ELBO, TraceEnumerate_ELBO) if of_itself else TraceAnalyticKL_ELBO
    return isinstance(elbo, kinds)


def _mean_field(prior: Site, guide: Site) -> tuple[str, bool, str]:
    """Return what Pyro's ``TraceMeanField_ELBO`` does at a site, and whether it may."""
    if isinstance(base(guide["fn"]), Delta):
        return DELTA, True, "the KL of a Delta is its value's log-density: sampled"
    try:
        with torch.no_grad():
            kl = registered_kl(guide["fn"], prior["fn"])
    except NotImplementedError:
        return SAMPLED, True, "no closed form is registered, and Pyro does not say so"
    if bool(kl.isposinf().any()):
        return INFINITE, False, "the guide puts mass where the prior has none"
    if prior["scale"] is not guide["scale"] and not _equal(prior["scale"], guide["scale"]):
        return CLOSED_FORM, False, "only the guide's scale counts, the model's is left out"
    if prior["mask"] is not guide["mask"]:
        return CLOSED_FORM, False, "only the guide's mask counts, the model's is left out"
    return CLOSED_FORM, True, "a closed form is registered"


def _equal(first: object, second: object) -> bool:
    if torch.is_tensor(first) or torch.is_tensor(second):
        return bool(torch.equal(torch.as_tensor(first), torch.as_tensor(second)))
    return first == second
