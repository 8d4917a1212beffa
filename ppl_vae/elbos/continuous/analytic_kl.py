"""Closed-form divergences where they are known and right, sampling elsewhere."""

from __future__ import annotations

from typing import Any

from pyro.infer.util import is_validation_enabled
from torch import Tensor

from ppl_vae import checks
from ppl_vae.elbos.pathwise import PathwiseELBO
from ppl_vae.elbos.sites.draws import Draw, Program
from ppl_vae.elbos.sites.kl_plan import (
    CLOSED_FORM,
    SitePlan,
    divergence,
    plan_sites,
    raise_if_infinite,
)
from ppl_vae.elbos.sites.structure import structure
from ppl_vae.elbos.sites.traces import density_sites, total

MAX_PLANS = 100


class TraceAnalyticKL_ELBO(PathwiseELBO):  # noqa: N801  (Pyro's naming)
    """The ELBO with a closed-form KL for each latent where one is known and where it is right.

        E[log p(x | z)] - sum over sites of KL(q(z_i | parents) || p(z_i | parents))

    A site's KL is taken in closed form if a formula is registered with torch or Pyro *and* none
    of its parents in the model descends from it in the guide; else the site is sampled, as in
    ``Trace_ELBO``. Which values depend on which is traced once for each structure of model and
    guide. Scale and mask count on both sides, so annealing the KL on the model alone works.

    Estimand: the ELBO.
    Gradient: its derivative along the reparameterised draws.
    Bias: none, bottom-up hierarchies included, where Pyro's ``TraceMeanField_ELBO`` is biased.
    Needs: reparameterised sites.
    Cost: one pass through guide and model; the first call, and each new structure, one more.
    Source: the condition is stated in the docstring of Pyro's ``TraceMeanField_ELBO``, which
        checks only the order of the sites.

    Args:
        num_particles: draws in each estimate.
        strict: raise instead of sampling, naming the site and why.
        **options: of ``pyro.infer.ELBO``.

    Raises:
        ValueError: a guide whose support leaves the prior's: when it is first used and, while
            Pyro validates, at any step.
        NotImplementedError: with `strict`, a site without a closed form that may be used.

    Example:
        >>> from ppl_vae import GaussianChain
        >>> pair = GaussianChain(guide="bottom-up")
        >>> elbo = TraceAnalyticKL_ELBO()
        >>> loss = elbo.loss(pair.model, pair.guide, pair.sample(3, seed=0))
    """

    def __init__(self, num_particles: int = 1, *, strict: bool = False, **options: Any) -> None:  # noqa: ANN401
        super().__init__(num_particles, **options)
        self.strict = strict
        self._plans: dict[object, dict[str, SitePlan]] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Leave the plans out of copies: their keys hold the pairs."""
        return self.__dict__ | {"_plans": {}}

    def bound(self, draws: list[Draw], program: Program) -> Tensor:
        """Return the mean over the particles."""
        parts = []
        for draw in draws:
            plan = self.plan(draw, program)
            in_guide, in_model = density_sites(draw.guide), density_sites(draw.model)
            settled = set()
            for name, site in plan.items():
                if site.how == CLOSED_FORM:
                    parts.append(-divergence(in_model[name], in_guide[site.source]))
                    settled |= {name, site.source}
            parts += [-s["log_prob_sum"] for n, s in in_guide.items() if n not in settled]
            parts += [s["log_prob_sum"] for n, s in in_model.items() if n not in settled]
        result = total(parts)
        if is_validation_enabled() and bool(result.isneginf()):
            for draw in draws:
                raise_if_infinite(plan_sites(program, draw.model, draw.guide))
        return result / self.num_particles

    def plan(self, draw: Draw, program: Program) -> dict[str, SitePlan]:
        """Return how each latent of the model is treated; decided once for each structure."""
        key = structure(draw, program)
        if key not in self._plans:
            plan = plan_sites(program, draw.model, draw.guide)
            raise_if_infinite(plan)
            if self.strict:
                _refuse_to_sample(plan)
            while len(self._plans) >= MAX_PLANS:
                del self._plans[next(iter(self._plans))]
            self._plans[key] = plan
        return self._plans[key]


def _refuse_to_sample(plan: dict[str, SitePlan]) -> None:
    for name, site in plan.items():
        if site.how != CLOSED_FORM:
            raise checks.not_implemented(
                f"a closed-form KL at site {name!r}",
                f"none that may be used: {site.why}",
                "Pass strict=False to sample it.",
            )
