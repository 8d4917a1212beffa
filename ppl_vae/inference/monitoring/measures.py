"""What is measured of a pair after an epoch: the parts of its ELBO, and its active units."""

from __future__ import annotations

from typing import Any

import pyro
import torch
from torch import Tensor

from ppl_vae.elbos.sites.draws import CutAtLatents, Draw, Program, draw_traces
from ppl_vae.elbos.sites.kl_plan import CLOSED_FORM, SitePlan, divergence, plan_sites
from ppl_vae.elbos.sites.traces import (
    density_sites,
    latent_sites,
    log_density,
    observed_sites,
    total,
)
from ppl_vae.elbos.weights import Weights
from ppl_vae.inference.batches import DataSource, first_examples, in_order
from ppl_vae.inference.monitoring.guide_means import guide_means
from ppl_vae.inference.monitoring.validation import BATCH_SIZE
from ppl_vae.pair import Pair, leaving_no_params

NUM_EXAMPLES = 1000
# A unit is active if the variance of its mean over the data is above this (Burda and others 2015).
ACTIVE = 0.01


def is_measured(epoch: int) -> bool:
    """Return whether the parts of the ELBO are measured after an epoch."""
    return epoch <= 100 or epoch % 10 == 0 and epoch <= 1000 or epoch % 100 == 0


class Measures:
    """The parts of a pair's ELBO on its first 1,000 examples.

    How each divergence is taken is decided once.

    Args:
        pair: any.
        data: examples.
    """

    def __init__(self, pair: Pair, data: DataSource) -> None:
        self._pair, self._data = pair, data
        self._plan: dict[str, SitePlan] | None = None

    @torch.no_grad()
    def now(self) -> dict[str, float]:
        """Return log-likelihood, KL of every site, and number of active units.

        Returns:
            ``log_likelihood`` and ``kl.<site>``, in nats per example: a divergence in closed form
            where one is right, else from one draw. A site whose states the guide does not draw
            has none, and then there is no likelihood either. ``active_units`` if any latent has
            means in the guide.
        """
        pair = self._pair
        x = first_examples(self._data, NUM_EXAMPLES, pair)
        count = pair.num_examples(x)
        program = Program(pair.model, pair.guide, (x,), {})
        with leaving_no_params(), pyro.validation_enabled(False):  # noqa: FBT003
            model, guide = draw_traces(program)
            if self._plan is None:
                self._plan = plan_sites(program, model, guide)
            parts = _parts(model, guide, self._plan)
            means = guide_means(pair, x).values()
        found = {name: float(value) / count for name, value in parts.items()}
        if means and count > 1:
            variances = torch.cat([each.var(0) for each in means])
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
