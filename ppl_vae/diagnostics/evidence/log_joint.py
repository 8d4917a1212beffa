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
from torch.distributions import biject_to

from ppl_vae import checks
from ppl_vae.diagnostics.evidence.particles import Given, Particles
from ppl_vae.elbos.pathwise import CutAtLatents, Draw
from ppl_vae.elbos.traces import Site, is_subsample, latent_sites
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
        transform = biject_to(msg["fn"].support)
        u = self._values[name]
        msg["value"] = self.constrained[name] = transform(u)
        msg["done"] = True
        log_det = transform.log_abs_det_jacobian(u, msg["value"])
        extra = log_det.dim() - (msg["value"].dim() - msg["fn"].event_dim)
        self.log_det[name] = log_det.flatten(-extra).sum(-1) if extra > 0 else log_det


@dataclass(frozen=True)
class _Site:
    """How a latent's values, with all dimensions, become rows of numbers per example."""

    shape: tuple[int, ...]
    particle_axis: int
    example_axis: int | None

    @property
    def size(self) -> int:
        """Numbers per example."""
        kept = [s for n, s in enumerate(self.shape) if n - len(self.shape) not in self._axes]
        return math.prod(kept)

    @property
    def _axes(self) -> list[int]:
        return [a for a in (self.particle_axis, self.example_axis) if a is not None]

    def pack(self, value: Tensor) -> Tensor:
        """Return (particles, examples, size)."""
        if self.example_axis is None:
            moved = value.movedim(self.particle_axis, 0)
            return moved.reshape(len(moved), 1, -1)
        moved = value.movedim(self._axes, (0, 1))
        return moved.reshape(*moved.shape[:2], -1)

    def unpack(self, rows: Tensor) -> Tensor:
        """Return the value of (particles, examples, size)."""
        rest = [s for n, s in enumerate(self.shape) if n - len(self.shape) not in self._axes]
        if self.example_axis is None:
            return rows.reshape(len(rows), *rest).movedim(0, self.particle_axis)
        return rows.reshape(*rows.shape[:2], *rest).movedim((0, 1), self._axes)


@dataclass(frozen=True)
class Densities:
    """Of u, (particles, examples) each, in nats.

    Attributes:
        model: log p(x, z(u)) + log |dz/du|.
        guide: log q(z(u) | x) + log |dz/du|.
    """

    model: Tensor
    guide: Tensor


class LogJoint:
    """The densities of a program's latents in unconstrained coordinates u.

    Latent z is ``biject_to(support)`` of its part of u; the parts of all sites stand behind each
    other in one vector of `dim` numbers per example.

    Args:
        particles: how the program is run.
        x: the examples.

    Attributes:
        dim: numbers per example.

    Raises:
        NotImplementedError: particles that cannot be run at once, a discrete latent, or a guide
            with auxiliary sites.
    """

    def __init__(self, particles: Particles, x: Tensor) -> None:
        if not particles.vectorised:
            raise NotImplementedError(
                checks.message(
                    "a model and a guide that can be run for many particles at once",
                    "a program whose weights change with a dimension at the left",
                    "Keep dimensions to the left free (z.unsqueeze(-1), not z[:, None]), or use "
                    "method='iwae'.",
                )
            )
        self._particles, self._x = particles, x
        with torch.no_grad():
            draw = particles.draw(x, 2)
        self._sites = {
            name: self._layout(name, site) for name, site in latent_sites(draw.guide).items()
        }
        self.dim = sum(site.size for site in self._sites.values())

    def on(self, x: Tensor) -> LogJoint:
        """Return the same program on other examples."""
        other = copy.copy(self)
        other._x = x
        return other

    def __call__(self, u: Tensor) -> Densities:
        """Return both densities of u, (particles, examples, dim); differentiable."""
        model, constrain = self._model(u)
        with self._particles.batched(len(u)), Given(constrain.constrained):
            guide: Any = poutine.trace(self._particles.guide).get_trace(self._x)
        _score(guide, constrain)
        weights = Weights([Draw(model, guide, CutAtLatents())], self._particles.plate)
        return Densities(weights.log_p, weights.log_q)

    def log_model(self, u: Tensor) -> Tensor:
        """Return log p(x, z(u)) + log |dz/du|, (particles, examples), without the guide."""
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
            parts.append(layout.pack(biject_to(site["fn"].support).inv(site["value"])))
        return torch.cat(parts, -1)

    def _split(self, u: Tensor) -> dict[str, Tensor]:
        parts = u.split([site.size for site in self._sites.values()], dim=-1)
        return {n: s.unpack(p) for (n, s), p in zip(self._sites.items(), parts, strict=True)}

    def _layout(self, name: str, site: Site) -> _Site:
        if site["infer"].get("is_auxiliary"):
            raise NotImplementedError(
                checks.message(
                    "a guide whose density can be taken at any latent",
                    f"the auxiliary site {name!r}",
                    "Draw the latents themselves, or use method='iwae'.",
                )
            )
        try:
            transform = biject_to(site["fn"].support)
        except NotImplementedError:
            raise NotImplementedError(
                checks.message(
                    "continuous latents",
                    f"{type(site['fn']).__name__} at site {name!r}",
                    "Use method='iwae'.",
                )
            ) from None
        value = transform.inv(site["value"])
        event = value.dim() - (site["value"].dim() - site["fn"].event_dim)
        frames = {f.name: f for f in site["cond_indep_stack"]}
        plate = frames.get(self._particles.plate)
        return _Site(
            tuple(value.shape),
            -self._particles.depth - 1 - event,
            None if plate is None else plate.dim - event,
        )


def _score(trace: Any, constrain: Constrain) -> None:  # noqa: ANN401
    """Fill in a trace's log-densities, as those of unconstrained values."""
    trace.compute_log_prob(lambda name, site: not is_subsample(site))
    for name, log_det in constrain.log_det.items():
        site = trace.nodes[name]
        site["log_prob"] = site["log_prob"] + log_det.expand(site["log_prob"].shape)


def latent_dim(particles: Particles, x: Tensor) -> int:
    """Return how many latent numbers an example has."""
    return LogJoint(particles, x[:1] if particles.splits else x).dim
