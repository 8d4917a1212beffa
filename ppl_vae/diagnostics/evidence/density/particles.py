"""Model and guide run on data for many particles at once, example by example."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pyro
import torch
from pyro import poutine
from pyro.distributions import Delta
from pyro.poutine.trace_struct import Trace
from torch import Tensor

from ppl_vae import checks
from ppl_vae.batch import Data
from ppl_vae.diagnostics.evidence.density.fused import Kernel, fill_in
from ppl_vae.diagnostics.quadrature.coordinates import bounds_of
from ppl_vae.elbos.sites.draws import CutAtLatents, Draw, Program
from ppl_vae.elbos.sites.traces import check_sites, density_sites, is_subsample, latent_sites
from ppl_vae.elbos.vectorising import particles_agree
from ppl_vae.elbos.weights import PARTICLES, Weights
from ppl_vae.functions import Functions
from ppl_vae.pair import Pair

Run = Callable[[Data], Any]


@dataclass(frozen=True)
class Particles:
    """A model and a guide, and how to run them for many particles.

    Attributes:
        model: p(x, z), a function of the data.
        guide: q(z | x).
        plate: name of the plate over the examples.
        depth: how many dimensions the plates of both take; the particles' is left of them.
        vectorised: whether all particles can be run at once.
        splits: whether a part of the examples can be run by itself.
        num_examples: that have a weight each; 1 where the program has no such plate.
        kernel: for the density of Bernoulli pixels, or None for Pyro's own.
    """

    model: Run
    guide: Run
    plate: str
    depth: int
    vectorised: bool
    splits: bool
    num_examples: int
    kernel: Kernel | None = None

    @classmethod
    def look(cls, pair: Pair | Functions, x: Data, plate: str = "data") -> Particles:
        """Run the pair once or twice on `x` and see what it allows; draws random numbers.

        Vectorised particles are taken only if they give the weights that the program gives when
        it is run for each particle by itself, at the same latents.

        Raises:
            ValueError: model and guide differ in their latents, or there is none.
            NotImplementedError: what has no weight per example; see `Weights`. A guide without a
                density, or a plate that subsamples.
        """
        model, guide = (pair.model, pair.guide) if isinstance(pair, Pair) else pair
        draw = _drawn(model, guide, x)
        check_sites(draw.model, draw.guide, reparameterised=False)
        _check_guide(draw.guide)
        _check_supports(draw)
        _scored(draw)
        weights = Weights([draw], plate)
        _check_weights(weights, draw, plate)
        size = weights.log_p.shape[1]
        sites = [s for t in (draw.model, draw.guide) for s in density_sites(t).values()]
        frames = [f for site in sites for f in site["cond_indep_stack"]]
        depth = max((-f.dim for f in frames if f.dim is not None), default=0)
        has_plate = any(f.name == plate for f in frames)
        splits = has_plate and x.dim() > 0 and size == len(x) and _splits(model, guide, x, plate)
        part = x[:2] if splits else x
        vectorised = particles_agree(Program(model, guide, (part,), {}), depth)
        return cls(model, guide, plate, depth, vectorised, splits, size)

    def draw(self, x: Data, count: int) -> Draw:
        """Return `count` particles drawn from the guide, with their log-densities."""
        with self.batched(count):
            return _run(self.model, self.guide, x, self.kernel)

    def log_weights(self, x: Data, count: int) -> Tensor:
        """Return log p(x_i, z) - log q(z | x_i), (count, examples in x), z ~ q."""
        return Weights(self.draws(x, count), self.plate).log_ratios.expand(count, -1)

    def draws(self, x: Data, count: int) -> list[Draw]:
        """Return `count` particles, in one draw if they can be run at once, else in one each."""
        if self.vectorised:
            return [self.draw(x, count)]
        return [_run(self.model, self.guide, x) for _ in range(count)]

    def batched(self, count: int) -> Any:  # noqa: ANN401
        """Return the plate over `count` particles."""
        return pyro.plate(PARTICLES, count, dim=-self.depth - 1)

    def one(self, draw: Draw, number: int) -> dict[str, Tensor]:
        """Return the latents of one particle of a vectorised draw, without the dimension."""
        return {
            name: site["value"].select(-self.depth - 1 - site["fn"].event_dim, number)
            for name, site in latent_sites(draw.guide).items()
        }


def _run(model: Run, guide: Run, x: Data, kernel: Kernel | None = None) -> Draw:
    return _scored(_drawn(model, guide, x), kernel)


def _drawn(model: Run, guide: Run, x: Data) -> Draw:
    guide_trace: Any = poutine.trace(guide).get_trace(x)
    model_trace: Any = poutine.trace(poutine.replay(model, trace=guide_trace)).get_trace(x)
    return Draw(model_trace, guide_trace, CutAtLatents())


def _scored(draw: Draw, kernel: Kernel | None = None) -> Draw:
    if kernel is not None:
        fill_in(draw.model, kernel)
    for trace in (draw.guide, draw.model):
        trace.compute_log_prob(lambda name, site: not is_subsample(site))
    return draw


def _splits(model: Run, guide: Run, x: Data, plate: str) -> bool:
    """Return whether the program can be run on one example of several."""
    if len(x) == 1:
        return False
    try:
        weights = Weights([_run(model, guide, x[:1])], plate)
    except Exception:  # a program that counts on the number of examples
        return False
    return weights.log_p.shape[1] == 1


def _check_guide(guide: Trace) -> None:
    sites = density_sites(guide)
    points = [name for name, site in sites.items() if isinstance(_innermost(site["fn"]), Delta)]
    beside = [name for name, site in sites.items() if site["infer"].get("is_auxiliary")]
    if bool(points) != bool(beside):
        which = f"a point mass at {points[0]!r}" if points else f"the auxiliary {beside[0]!r}"
        raise NotImplementedError(
            checks.message(
                "a guide with a density of the model's latents",
                which,
                "Draw the latents from distributions that have one.",
            )
        )


def _check_supports(draw: Draw) -> None:
    """Raise ValueError if the guide draws where the model has no density."""
    guide = density_sites(draw.guide)
    for name, site in latent_sites(draw.model).items():
        if isinstance(_innermost(guide[name]["fn"]), Delta):
            continue
        outer, inner = interval(site["fn"]), interval(guide[name]["fn"])
        if outer and inner and not (outer[0] <= inner[0] and inner[1] <= outer[1]):
            raise ValueError(
                checks.message(
                    f"a guide that draws {name!r} within the model's support {outer}",
                    f"{type(guide[name]['fn']).__name__} on {inner}",
                    "Choose a distribution of the same support, or transform one.",
                )
            )


def interval(fn: Any) -> tuple[float, float] | None:  # noqa: ANN401
    """Return the ends of a distribution's support, the same in all dimensions; None if unknown."""
    try:
        lower, upper = bounds_of(fn.support, torch.Size())
    except (TypeError, RuntimeError, NotImplementedError):
        return None
    return float(lower), float(upper)


def _check_weights(weights: Weights, draw: Draw, plate: str) -> None:
    if weights.scale != 1:
        raise NotImplementedError(
            checks.message(
                f"a plate {plate!r} over all examples",
                "one that subsamples",
                "Leave subsample_size out: every example is to have its evidence.",
            )
        )
    sites = [*density_sites(draw.model).items(), *density_sites(draw.guide).items()]
    for name, site in sites:
        if bool(torch.as_tensor(site["scale"] != 1).any()):
            raise NotImplementedError(
                checks.message(
                    "log-densities as they are",
                    f"site {name!r} scaled by {site['scale']}",
                    "Leave poutine.scale out: what is scaled is no density.",
                )
            )
    if bool(weights.rest != 0):
        raise NotImplementedError(
            checks.message(
                f"every observation inside of the plate {plate!r}",
                "one outside of it",
                "It belongs to no example: put it into the plate, or leave it out.",
            )
        )


def _innermost(fn: Any) -> Any:  # noqa: ANN401
    while hasattr(fn, "base_dist"):
        fn = fn.base_dist
    return fn
