"""The score-function estimator, for comparison."""

from __future__ import annotations

import copy
from typing import Any

from pyro.distributions import Delta, Unit
from pyro.infer import Trace_ELBO
from pyro.infer.util import torch_item
from pyro.poutine.messenger import Messenger
from pyro.poutine.trace_struct import Trace
from torch import Tensor

from ppl_vae import checks
from ppl_vae.elbos.scores import along_the_path, log_ratio, scored_sites
from ppl_vae.elbos.sites.draws import Function
from ppl_vae.elbos.sites.traces import check_sites, log_density


class TraceScoreFunction_ELBO(Trace_ELBO):  # noqa: N801  (Pyro's naming)
    """The ELBO with the score-function gradient, as if no draw could be reparameterised.

        d/dphi E[f(z)] = E[ f(z) d log q_phi(z) / d phi ],    f = log p(x, z) - log q(z)

    f is held fixed; no baseline. Within plates a draw is weighed by its own data point's terms
    only, which is Pyro's Rao-Blackwellisation.

    Estimand: the ELBO.
    Gradient: from the values of f alone; no derivative of f by z is used.
    Bias: none.
    Needs: a density of the guide; nothing else, discrete latents included.
    Cost: one pass through guide and model.
    Source: Williams, 1992; Ranganath, Gerrish and Blei, Black Box Variational Inference, 2014.

    Args:
        num_particles: draws in each estimate, at least 1.
        **options: of ``pyro.infer.Trace_ELBO``.

    Raises:
        TypeError: `num_particles` is not an int.
        ValueError: `num_particles` below 1; at a step, a site that model or guide lacks.
    """

    def __init__(self, num_particles: int = 1, **options: Any) -> None:  # noqa: ANN401
        checks.count("num_particles", num_particles)
        super().__init__(num_particles=num_particles, **options)

    def _get_trace(
        self, model: Function, guide: Function, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[Trace, Trace]:
        with WithoutReparameterisation():
            traces = super()._get_trace(model, guide, args, kwargs)
        check_sites(*traces, reparameterised=False)
        return traces

    def _differentiable_loss_particle(
        self, model_trace: Trace, guide_trace: Trace
    ) -> tuple[Any, Tensor]:
        """Return the loss, and a scalar with its gradient.

        As in the base class, but that f counts the guide's auxiliary sites too: without them its
        gradient lacks that of their entropy.
        """
        ratio = log_ratio(model_trace, guide_trace)
        surrogate = along_the_path(model_trace, guide_trace)
        for site, score in scored_sites(guide_trace):
            weight: Any = ratio.sum_to(site["cond_indep_stack"])
            surrogate = surrogate + (weight * score).sum()
        return torch_item(log_density(guide_trace) - log_density(model_trace)), -surrogate


class WithoutReparameterisation(Messenger):
    """Takes the rsample from every distribution that is drawn from, and from the guide's factors.

    A Delta keeps it: it has no density by whose score its value could be learned.
    """

    def _pyro_sample(self, msg: dict[str, Any]) -> None:
        fn = msg["fn"]
        is_given = msg["is_observed"] and not isinstance(fn, Unit)
        if getattr(fn, "has_rsample", False) and not is_given:
            msg["fn"] = _without_rsample(fn)


def _without_rsample(fn: Any) -> Any:  # noqa: ANN401
    """Return a copy, since a guide may keep its distributions from step to step."""
    if isinstance(fn, Delta):
        return fn
    twin = copy.copy(fn)
    if hasattr(fn, "base_dist"):
        twin.base_dist = _without_rsample(fn.base_dist)
    # Some have an rsample because their base has one, others by their class.
    if not isinstance(getattr(type(fn), "has_rsample", None), property):
        twin.has_rsample = False
    return twin
