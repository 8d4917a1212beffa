"""The terms of the right ELBO, draw by draw: log-likelihood, log-prior and entropy."""

from __future__ import annotations

from contextlib import nullcontext
from functools import partial
from typing import Any

import pyro
import torch
from pyro import poutine
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from ppl_vae.batch import Data
from ppl_vae.diagnostics.check.objective import (
    Inject,
    Latent,
    Recorder,
    Transform,
    Values,
    WithoutPathwise,
    has_score,
)
from ppl_vae.diagnostics.check.truth.data_plate import Plates
from ppl_vae.diagnostics.check.truth.drawn_terms import Terms, stacked
from ppl_vae.elbos.sites.closed_kl import registered_kl
from ppl_vae.elbos.sites.draws import Program
from ppl_vae.elbos.sites.kl_plan import CLOSED_FORM, plan_sites
from ppl_vae.elbos.sites.traces import (
    Site,
    check_sites,
    density_sites,
    latent_sites,
    observed_sites,
    weighed,
)
from ppl_vae.elbos.weights import PARTICLES
from ppl_vae.pair import Pair


class Truth:
    """Runs a pair's guide and model on many particles at once.

    Args:
        pair: the pair.
        x: data to run both on once, to learn which sites there are.
        without_dropout: whether dropout is held at its mean whenever the two are run.

    Attributes:
        observed: the model's observed sites.
        latents: those of the guide whose draws are known functions of standard noise; None
            unless all are, and belong to one example each.
        has_scores: whether a draw of the guide is not reparameterised.
        drops: whether a dropout layer of the pair is on.
        closed: the latents whose two terms have usable closed forms.
        invalid: the latents whose closed forms exist and have the wrong expectation.
    """

    def __init__(self, pair: Pair, x: Data, *, without_dropout: bool = False) -> None:
        self._pair, self._buffers = pair, Values(pair.buffers())
        with self._buffers.kept():
            with Recorder() as recorder:
                guide: Any = poutine.trace(pair.guide).get_trace(x)
                model: Any = poutine.trace(poutine.replay(pair.model, guide)).get_trace(x)
            check_sites(model, guide, reparameterised=False)
            plan = plan_sites(Program(pair.model, pair.guide, (x,), {}), model, guide)
            plates = Plates(pair, x, guide, model)
        self._nesting, self._plate = plates.nesting, plates.of_examples
        self.drops = any(isinstance(m, _DropoutNd) and m.training for m in pair.modules())
        self.observed = list(observed_sites(model))
        in_guide = latent_sites(guide)
        self.has_scores = any(has_score(site["fn"]) for site in in_guide.values())
        by_example = [(n, site) for n, site in in_guide.items() if plates.is_by_example(site)]
        latents = [latent for n, site in by_example if (latent := Latent.of(n, site["fn"]))]
        self.latents = latents if len(latents) == len(in_guide) else None
        self.closed = [n for n, p in plan.items() if p.how == CLOSED_FORM and p.source == n]
        self.invalid = [n for n, p in plan.items() if not p.is_valid and "descends" in p.why]
        normalised = (m for m in pair.modules() if isinstance(m, _BatchNorm))
        self._vectorised = not any(m.training for m in normalised)
        if self._vectorised:
            dropped = None if without_dropout else recorder.dropped
            self._vectorised = self._can_vectorise(x, dropped)

    def run(
        self,
        x: Data,
        *,
        num_particles: int = 1,
        noise: dict[str, Tensor] | None = None,
        transform: Transform | None = None,
    ) -> Terms:
        """Return the terms at fresh draws, or at those that `noise` gives.

        Args:
            x: the data.
            num_particles: how many draws, where no noise is given.
            noise: site to standard noise, (particles, *batch, *event_shape).
            transform: how the noise becomes a draw; None is right.
        """
        if noise is not None:
            num_particles = len(next(iter(noise.values())))
        if self._vectorised:
            return self._terms(x, num_particles, noise, transform)
        rows = []
        for i in range(num_particles):
            one = None if noise is None else {name: value[i] for name, value in noise.items()}
            rows.append(self._terms(x, 1, one, transform))
        return stacked(rows)

    def batch_size(self, x: Data) -> int:
        """Return the number of examples, or 0 where they have no dimension of their own."""
        return 0 if self._plate is None else self._pair.num_examples(x)

    def _can_vectorise(self, x: Data, dropped: int | None) -> bool:
        # A program that was not written for a dimension of particles is run once for each
        # particle. So is one whose particles would share their dropout.
        try:
            with torch.no_grad(), Recorder() as recorder:
                terms = self._terms(x, 3, None, None)
        except Exception:
            return False
        if dropped is not None and recorder.dropped != 3 * dropped:
            return False
        values = [terms.likelihood, *terms.prior.values(), *terms.entropy.values()]
        examples = self._pair.num_examples(x)
        drawn = [site["value"] for site in latent_sites_of(terms.guide).values()]
        sites = [*terms.model.values(), *terms.guide.values()]
        if any(site["log_prob"].dim() > self._nesting + 1 for site in sites):
            return False
        return all(v.shape == (3, examples) for v in values) and all(
            v.dim() > self._nesting and v.shape[0] == 3 for v in drawn
        )

    def _terms(
        self, x: Data, count: int, noise: dict[str, Tensor] | None, transform: Transform | None
    ) -> Terms:
        pair = self._pair
        plate: Any = nullcontext()
        if self._vectorised:
            plate = pyro.plate(PARTICLES, count, dim=-1 - self._nesting)
        inject: Any = nullcontext() if noise is None else Inject(noise, transform)
        with self._buffers.kept(), poutine.block(), WithoutPathwise(), plate:
            with inject:
                guide: Any = poutine.trace(pair.guide).get_trace(x)
            model: Any = poutine.trace(poutine.replay(pair.model, guide)).get_trace(x)
        guide.compute_log_prob()
        model.compute_log_prob()
        in_model, in_guide = density_sites(model), density_sites(guide)
        examples = pair.num_examples(x)
        by_example = partial(self._by_example, count=count, examples=examples)
        latents = latent_sites(model)
        likelihood = [
            by_example(s, s["log_prob"]) for n, s in in_model.items() if n not in latents
        ]
        prior = {n: by_example(s, s["log_prob"]) for n, s in latents.items()}
        entropy = {n: -by_example(s, s["log_prob"]) for n, s in in_guide.items()}
        prior_closed, entropy_closed = {}, {}
        for name in self.closed:
            q, p = in_guide[name], in_model[name]
            kl = registered_kl(q["fn"], p["fn"])
            own = _entropy(q["fn"], kl)
            entropy_closed[name] = by_example(q, weighed(own, q))
            prior_closed[name] = by_example(p, weighed(-kl - own, p))
        # A draw that the examples share counts for each of them.
        scores = [
            by_example(s, s["log_prob"]) * (1 if self._in_plate(s) else examples)
            for s in in_guide.values()
            if has_score(s["fn"])
        ]
        return Terms(
            sum(likelihood, x.new_zeros(count, examples)),
            prior,
            entropy,
            prior_closed,
            entropy_closed,
            sum(scores[1:], scores[0]) if scores else None,
            in_model,
            in_guide,
        )

    def _in_plate(self, site: Site) -> bool:
        return any(frame.name == self._plate for frame in site["cond_indep_stack"])

    def _by_example(self, site: Site, value: Tensor, count: int, examples: int) -> Tensor:
        """Return a site's numbers summed over all but particles and examples."""
        has_particles = value.dim() > self._nesting and self._vectorised
        value = value if has_particles else value.unsqueeze(0).expand(count, *value.shape)
        if self._in_plate(site) and value.dim() > 1:
            last = value.shape[-1]
            value = value.reshape(len(value), -1, last).sum(1)
            return value if last == examples else value.expand(len(value), examples)
        return (value.reshape(len(value), -1).sum(-1, keepdim=True) / examples).expand(
            -1, examples
        )


def latent_sites_of(sites: dict[str, Site]) -> dict[str, Site]:
    """Return the sites whose value was drawn."""
    return {name: site for name, site in sites.items() if not site["is_observed"]}


def _entropy(fn: Any, kl: Tensor) -> Tensor:  # noqa: ANN401
    """Return the entropy, or 0 where only the KL has a closed form, which is then one term."""
    try:
        return fn.entropy()
    except NotImplementedError:
        return torch.zeros_like(kl)
