"""log p(x, z) and log q(z | x) as functions of unconstrained vectors, example by example."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import Any

import torch
from pyro import poutine
from pyro.poutine.messenger import Messenger
from torch import Tensor

from ppl_vae import checks
from ppl_vae.batch import Data
from ppl_vae.diagnostics.evidence.density.layout import Layout
from ppl_vae.diagnostics.evidence.density.particles import Particles
from ppl_vae.diagnostics.evidence.density.states import joint_states
from ppl_vae.diagnostics.evidence.density.supports import bijection, not_continuous, unmixed
from ppl_vae.diagnostics.sampling.distributions import is_discrete
from ppl_vae.elbos.sites.draws import CutAtLatents, Draw, Given
from ppl_vae.elbos.sites.traces import Site, is_subsample, latent_sites
from ppl_vae.elbos.weights import Weights


class Constrain(Messenger):
    """Gives latent sites values from unconstrained ones, by the bijection onto their support.

    Args:
        values: unconstrained, by the sites' names.

    Attributes:
        constrained: the values given.
        log_det: log |dz/du| of each, in the shape of the site's log-density.
    """

    def __init__(self, values: dict[str, Tensor]) -> None:
        super().__init__()
        self._values = values
        self.constrained: dict[str, Tensor] = {}
        self.log_det: dict[str, Tensor] = {}

    def _pyro_sample(self, msg: dict[str, Any]) -> None:
        name = msg["name"]
        if msg["is_observed"] or name not in self._values:
            return
        transform = bijection(msg["fn"])
        u = self._values[name]
        msg["value"] = self.constrained[name] = transform(u)
        msg["done"] = True
        log_det = transform.log_abs_det_jacobian(u, msg["value"])
        extra = log_det.dim() - (msg["value"].dim() - msg["fn"].event_dim)
        self.log_det[name] = log_det.flatten(-extra).sum(-1) if extra > 0 else log_det


# Rows of states that are scored at once: beyond it nothing gets faster, and memory is bounded.
_ROWS = 2048


@dataclass(frozen=True)
class State:
    """Where particles are, and both log-densities there, in nats.

    Attributes:
        u: unconstrained coordinates, (particles, examples, dim).
        model: log p(x, z(u)) + log |dz/du|, (particles, examples).
        guide: log q(z(u) | x) + log |dz/du|, likewise.
    """

    u: Tensor
    model: Tensor
    guide: Tensor

    def log_density(self, beta: float) -> Tensor:
        """Return ``beta log p + (1 - beta) log q``, (particles, examples)."""
        # The other may be minus infinity at an end: no NaN is to come of it.
        if beta == 0:
            return self.guide
        return self.model if beta == 1 else beta * self.model + (1 - beta) * self.guide


class LogJoint:
    """The densities of a program's latents in unconstrained coordinates u.

    Latent z is ``biject_to(support)`` of its part of u; the parts of all sites stand behind each
    other in one vector of `dim` numbers per example.

    Args:
        particles: how the program is run.
        x: the examples.
        sums_states: whether `log_model` may sum over the states of discrete latents (not in u).

    Attributes:
        splits: whether some of the examples can be taken by themselves.
        dim: numbers per example.
        num_states: of the discrete latents of an example together; 1 where there are none.

    Raises:
        NotImplementedError: particles that cannot be run at once, a discrete latent that is not
            to be summed or has infinitely many values, or a guide with auxiliary sites.
        ValueError: more states than can be summed.
    """

    def __init__(self, particles: Particles, x: Data, *, sums_states: bool = False) -> None:
        if not particles.vectorised:
            raise NotImplementedError(
                checks.message(
                    "a model and a guide that can be run for many particles at once",
                    "a program whose weights change with a dimension at the left",
                    "Keep dimensions to the left free (z.unsqueeze(-1), not z[:, None]), or use "
                    "method='iwae'.",
                )
            )
        self._particles, self._x, self.splits = particles, x, particles.splits
        with torch.no_grad():
            draw = particles.draw(x, 2)
        in_guide, in_model = latent_sites(draw.guide), latent_sites(draw.model)
        for name, site in in_guide.items():
            if site["infer"].get("is_auxiliary"):
                raise NotImplementedError(
                    checks.message(
                        "a guide whose density can be taken at any latent",
                        f"the auxiliary site {name!r}",
                        "Draw the latents themselves, or use method='iwae'.",
                    )
                )
        discrete = {n: s for n, s in in_model.items() if is_discrete(unmixed(s["fn"]))}
        if discrete and not sums_states:
            raise not_continuous(*next(iter(discrete.items())))
        continuous = [name for name in in_guide if name not in discrete]
        self._sites = {name: self._continuous(name, in_model[name]) for name in continuous}
        self._discrete = {n: Layout.of(s, s["value"], particles) for n, s in discrete.items()}
        sizes = {name: layout.size for name, layout in self._discrete.items()}
        self._states = joint_states(discrete, sizes) if discrete else {}
        self.dim = sum(site.size for site in self._sites.values())
        self.num_states = next((len(rows) for rows in self._states.values()), 1)

    def on(self, x: Data) -> LogJoint:
        """Return the same program on other examples."""
        other = copy.copy(self)
        other._x = x
        return other

    def __call__(self, u: Tensor) -> State:
        """Return both densities of u, (particles, examples, dim); differentiable."""
        model, constrain = self._model(u)
        with self._particles.batched(len(u)), Given(constrain.constrained):
            guide: Any = poutine.trace(self._particles.guide).get_trace(self._x)
        _score(guide, constrain)
        weights = Weights([Draw(model, guide, CutAtLatents())], self._particles.plate)
        return State(u, weights.log_p, weights.log_q)

    def log_model(self, u: Tensor) -> Tensor:
        """Return log p(x, z(u)) + log |dz/du|, (particles, examples), without the guide.

        Discrete latents are summed out.
        """
        if not self._states:
            return self._log_model(u, {})
        at_once = max(1, _ROWS // len(u))
        total = torch.full(u.shape[:2], -math.inf, dtype=u.dtype, device=u.device)
        for start in range(0, self.num_states, at_once):
            some = {n: rows[start : start + at_once] for n, rows in self._states.items()}
            count = len(next(iter(some.values())))
            values = {
                name: self._discrete[name].unpack(
                    rows.repeat(len(u), 1).unsqueeze(1).expand(-1, u.shape[1], -1)
                )
                for name, rows in some.items()
            }
            found = self._log_model(u.repeat_interleave(count, 0), values)
            found = found.expand(len(u) * count, -1).unflatten(0, (len(u), count))
            total = torch.logaddexp(total, found.logsumexp(1))
        return total

    def _log_model(self, u: Tensor, states: dict[str, Tensor]) -> Tensor:
        with Given(states):
            model, _ = self._model(u)
        # Weights asks for a guide too; what it makes of this one is not used.
        return Weights([Draw(model, model, CutAtLatents())], self._particles.plate).log_p

    def _model(self, u: Tensor) -> tuple[Any, Constrain]:
        constrain = Constrain(self._split(u))
        with self._particles.batched(len(u)), constrain:
            trace = poutine.trace(self._particles.model).get_trace(self._x)
        _score(trace, constrain)
        return trace, constrain

    def from_guide(self, count: int) -> Tensor:
        """Return u of `count` draws from the guide, (count, examples, dim)."""
        draw = self._particles.draw(self._x, count)
        return self.unconstrained(draw.model)

    def from_prior(self, count: int) -> Tensor:
        """Return u of `count` draws from the model's prior, (count, examples, dim)."""
        with self._particles.batched(count):
            trace: Any = poutine.trace(self._particles.model).get_trace(self._x)
        return self.unconstrained(trace)

    def unconstrained(self, model: Any) -> Tensor:  # noqa: ANN401
        """Return u of the latents in a vectorised trace of the model."""
        parts = []
        for name, layout in self._sites.items():
            site = model.nodes[name]
            parts.append(layout.pack(bijection(site["fn"]).inv(site["value"])))
        if not parts:
            name, layout = next(iter(self._discrete.items()))
            return layout.pack(model.nodes[name]["value"])[..., :0].to(self._x.dtype)
        return torch.cat(parts, -1)

    def _split(self, u: Tensor) -> dict[str, Tensor]:
        parts = u.split([site.size for site in self._sites.values()], dim=-1)
        return {n: s.unpack(p) for (n, s), p in zip(self._sites.items(), parts, strict=True)}

    def _continuous(self, name: str, site: Site) -> Layout:
        try:
            value = bijection(site["fn"]).inv(site["value"])
        except NotImplementedError:
            raise not_continuous(name, site) from None
        return Layout.of(site, value, self._particles)


def _score(trace: Any, constrain: Constrain) -> None:  # noqa: ANN401
    """Fill in a trace's log-densities, as those of unconstrained values."""
    trace.compute_log_prob(lambda name, site: not is_subsample(site))
    for name, log_det in constrain.log_det.items():
        site = trace.nodes[name]
        site["log_prob"] = site["log_prob"] + log_det.expand(site["log_prob"].shape)
