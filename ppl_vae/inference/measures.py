"""What is measured of a pair after an epoch: the parts of its ELBO, and its active units."""

from __future__ import annotations

from typing import Any

import pyro
import torch
from torch import Tensor

from ppl_vae.elbos.kl_plan import CLOSED_FORM, SitePlan, divergence, plan_sites
from ppl_vae.elbos.pathwise import CutAtLatents, Draw, Program, draw_traces
from ppl_vae.elbos.traces import density_sites, latent_sites, log_density, observed_sites, total
from ppl_vae.elbos.weights import Weights
from ppl_vae.inference.batches import DataSource, first_examples, in_order
from ppl_vae.inference.guide_means import guide_means
from ppl_vae.inference.validation import BATCH_SIZE
from ppl_vae.pair import Pair, leaving_no_params

TRAINING_EXAMPLES = 1000
# A unit is active if the variance of its mean over the data is above this (Burda and others 2015).
ACTIVE = 0.01


def is_measured(epoch: int) -> bool:
    """Return whether the parts of the ELBO are measured after an epoch."""
    return epoch <= 100 or epoch % 10 == 0 and epoch <= 1000 or epoch % 100 == 0


@torch.no_grad()
def measured(pair: Pair, data: DataSource, *, whole: bool) -> dict[str, float]:
    """Return log-likelihood, KL of every site, and number of active units.

    Args:
        pair: any.
        data: examples.
        whole: whether all are looked at, or the first 1,000.

    Returns:
        ``log_likelihood`` and ``kl.<site>``, in nats per example: a divergence in closed form
        where one is right, else from one draw. A site whose states the guide does not draw has
        none, and then there is no likelihood either. ``active_units`` if any site has means.
    """
    sums: dict[str, Tensor] = {}
    means: dict[str, list[Tensor]] = {}
    count, plan = 0, None
    batches = in_order(data, BATCH_SIZE, pair) if whole else None
    with leaving_no_params(), pyro.validation_enabled(False):  # noqa: FBT003
        for x in batches or [first_examples(data, TRAINING_EXAMPLES, pair)]:
            program = Program(pair.model, pair.guide, (x,), {})
            model, guide = draw_traces(program)
            plan = plan or plan_sites(program, model, guide)
            for name, value in _parts(model, guide, plan).items():
                sums[name] = sums.get(name, 0) + value.double()
            for site, mean in guide_means(pair, x).items():
                means.setdefault(site, []).append(mean)
            count += pair.num_examples(x)
    found = {name: float(value) / count for name, value in sums.items()}
    if means and count > 1:
        variances = torch.cat([torch.cat(each).var(0) for each in means.values()])
        found["active_units"] = int((variances > ACTIVE).sum())
    return found


def _parts(model: Any, guide: Any, plan: dict[str, SitePlan]) -> dict[str, Tensor]:  # noqa: ANN401
    in_model, in_guide = latent_sites(model), density_sites(guide)
    found = {}
    if in_model.keys() <= in_guide.keys():
        observed = observed_sites(model).values()
        found["log_likelihood"] = total(site["log_prob_sum"] for site in observed)
    for name, prior in in_model.items():
        if name not in in_guide:
            continue
        if plan[name].how == CLOSED_FORM:
            found[f"kl.{name}"] = divergence(prior, in_guide[plan[name].source])
        else:
            found[f"kl.{name}"] = in_guide[name]["log_prob_sum"] - prior["log_prob_sum"]
    return found


@torch.no_grad()
def elbos_of_examples(pair: Pair, data: DataSource) -> Tensor:
    """Return one draw's ELBO of every example, (examples,), in nats, by the plate ``data``.

    A program whose latents are not all in that plate has one number a batch, per example.
    """
    found = []
    with leaving_no_params(), pyro.validation_enabled(False):  # noqa: FBT003
        for x in in_order(data, BATCH_SIZE, pair):
            program = Program(pair.model, pair.guide, (x,), {})
            draw = Draw(*draw_traces(program), CutAtLatents())
            try:
                weights = Weights([draw], "data")
            except NotImplementedError:
                elbo = log_density(draw.model) - log_density(draw.guide)
                found.append(elbo[None] / pair.num_examples(x))
            else:
                each = weights.log_ratios[0]
                found.append(weights.scale * each + weights.rest / len(each))
    return torch.cat(found)
