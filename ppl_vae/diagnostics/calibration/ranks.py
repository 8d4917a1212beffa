"""The rank of the latents that made the data among the guide's draws."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import pyro
import torch
from pyro import poutine
from pyro.distributions import Delta
from torch import Tensor

from ppl_vae import checks
from ppl_vae.batch import Data
from ppl_vae.diagnostics.evidence.density.layout import Layout
from ppl_vae.diagnostics.evidence.density.particles import Run
from ppl_vae.diagnostics.simulation import tensors
from ppl_vae.elbos.sites.closed_kl import base
from ppl_vae.elbos.sites.draws import Given
from ppl_vae.elbos.sites.traces import Site, check_sites, density_sites, latent_sites
from ppl_vae.elbos.weights import PARTICLES


@dataclass(frozen=True)
class GuideDraws:
    """A guide, and how to draw from it often.

    Attributes:
        guide: q(z | x), a function of the batch.
        sites: the latents that are ranked.
        plate: name of the plate over the examples.
        by_example: whether every latent is in that plate, so that an example is a simulation;
            else all data together are one.
        depth: how many dimensions the guide's plates take.
        vectorised: whether all draws can be made at once.
    """

    guide: Run
    sites: tuple[str, ...]
    plate: str
    by_example: bool
    depth: int
    vectorised: bool

    @classmethod
    def look(cls, model: Run, guide: Run, x: Data, plate: str) -> GuideDraws:
        """Run both on `x` and see what they allow; draws random numbers.

        Raises:
            ValueError: latents that only one of the two has, or none at all.
            NotImplementedError: a guide that gives points, or a plate that subsamples.
        """
        guide_trace: Any = poutine.trace(guide).get_trace(x)
        model_trace: Any = poutine.trace(poutine.replay(model, trace=guide_trace)).get_trace(x)
        in_model = latent_sites(model_trace)
        # The guide may leave out what its estimators sum.
        summed = [n for n, site in in_model.items() if site["fn"].has_enumerate_support]
        check_sites(model_trace, guide_trace, reparameterised=False, summed=summed)
        drawn = density_sites(guide_trace)
        sites = tuple(name for name in drawn if name in in_model)
        if not sites:
            raise checks.value_error(
                "at least one latent in model and guide", "none", "There is nothing to rank."
            )
        _check_draws(drawn)
        frames = [f for site in drawn.values() for f in site["cond_indep_stack"]]
        depth = max((-f.dim for f in frames if f.dim is not None), default=0)
        inside = all(
            plate in _frames(t.nodes[n]) for t in (guide_trace, model_trace) for n in sites
        )
        found = cls(guide, sites, plate, inside and x.dim() > 0, depth, vectorised=True)
        part = x[:2] if found.by_example else x
        return replace(found, vectorised=found._agrees_when_vectorised(part))

    def ranks(self, x: Data, truth: dict[str, Site], num_draws: int) -> dict[str, Tensor]:
        """Return the ranks by site, (examples, numbers), from 0 to `num_draws`.

        A rank is how many of the draws are below the truth, with ties broken at random: so ranks
        of whole numbers are uniform too where the guide is the posterior.

        Raises:
            ValueError: a number that is NaN.
            NotImplementedError: other latents than the model has for these examples.
        """
        true = {name: _finite(name, self._rows(truth[name])) for name in self.sites}
        below = {name: torch.zeros_like(value, dtype=torch.long) for name, value in true.items()}
        equal = {name: torch.zeros_like(value) for name, value in below.items()}
        for draws in self._draws(x, num_draws):
            for name, z in draws.items():
                _check_shape(name, z, true[name])
                below[name] += (_finite(name, z) < true[name]).sum(0)
                equal[name] += (z == true[name]).sum(0)
        return {name: below[name] + _up_to(equal[name]) for name in self.sites}

    def _draws(self, x: Data, count: int) -> Iterator[dict[str, Tensor]]:
        """Yield draws by site, (draws, examples, numbers), `count` in all."""
        if not self.vectorised:
            for _ in range(count):
                trace: Any = poutine.trace(self.guide).get_trace(x)
                yield {name: self._rows(trace.nodes[name]).unsqueeze(0) for name in self.sites}
            return
        trace = self._together(x, count)
        yield {name: self._packed(trace.nodes[name]) for name in self.sites}

    def _together(self, x: Data, count: int) -> Any:  # noqa: ANN401
        with pyro.plate(PARTICLES, count, dim=-self.depth - 1):
            return poutine.trace(self.guide).get_trace(x)

    def _rows(self, site: Site) -> Tensor:
        """Return the value of a site, (examples, numbers)."""
        value = site["value"]
        if not self.by_example:
            return value.reshape(1, -1)
        rows = value.movedim(_frames(site)[self.plate].dim - site["fn"].event_dim, 0)
        return rows.reshape(len(rows), -1)

    def _packed(self, site: Site) -> Tensor:
        """Return the value of a site that was drawn together, (draws, examples, numbers)."""
        event = site["fn"].event_dim
        example = _frames(site)[self.plate].dim - event if self.by_example else None
        shape = tuple(site["value"].shape)
        return Layout(shape, -self.depth - 1 - event, example).pack(site["value"])

    def _agrees_when_vectorised(self, x: Data) -> bool:
        """Return whether draws made together have the densities that they have one by one."""
        try:
            # A number that no dimension of the data is likely to have.
            count = 3 if len(tensors(x)[0]) != 3 else 5
            together = self._together(x, count)
            together.compute_log_prob()
            sites = density_sites(together)
            for number in range(count):
                axes = {n: -self.depth - 1 - s["fn"].event_dim for n, s in sites.items()}
                with Given({n: s["value"].select(axes[n], number) for n, s in sites.items()}):
                    alone: Any = poutine.trace(self.guide).get_trace(x)
                alone.compute_log_prob()
                for name, site in sites.items():
                    found = site["log_prob"].select(-self.depth - 1, number)
                    if not _close(found, alone.nodes[name]["log_prob"]):
                        return False
        except Exception:  # whatever a program does with a dimension that it does not expect
            return False
        return True


def _frames(site: Site) -> dict[str, Any]:
    return {frame.name: frame for frame in site["cond_indep_stack"] if frame.dim is not None}


def _close(found: Tensor, expected: Tensor) -> bool:
    tolerance = 1e3 * torch.finfo(expected.dtype).eps
    return found.shape == expected.shape and torch.allclose(
        found, expected, rtol=tolerance, atol=tolerance
    )


def _up_to(most: Tensor) -> Tensor:
    """Return whole numbers from 0 to `most`, all as likely."""
    return (torch.rand(most.shape, dtype=torch.float64, device=most.device) * (most + 1)).long()


def _check_draws(guide: dict[str, Site]) -> None:
    points = [name for name, site in guide.items() if isinstance(base(site["fn"]), Delta)]
    if points and not any(site["infer"].get("is_auxiliary") for site in guide.values()):
        raise checks.not_implemented(
            "a guide that draws its latents",
            f"a point at {points[0]!r}",
            "A point has no uncertainty to check; choose a guide with a distribution.",
        )
    for name, site in guide.items():
        if any(frame.size != frame.full_size for frame in site["cond_indep_stack"]):
            raise checks.not_implemented(
                "a guide without subsampling",
                f"a plate around {name!r} that subsamples",
                "Leave subsample_size out.",
            )


def _check_shape(name: str, draws: Tensor, truth: Tensor) -> None:
    if draws.shape[1:] != truth.shape:
        raise checks.not_implemented(
            f"a guide that draws {name!r} for whatever examples it is given, {tuple(truth.shape)}",
            f"draws of shape {tuple(draws.shape[1:])}",
            "Amortise the guide: make its distributions of the data by a network.",
        )


def _finite(name: str, value: Tensor) -> Tensor:
    if bool(value.isnan().any()):
        raise checks.value_error(
            f"numbers at {name!r}", "NaN", "Look for where it arose, in model or guide."
        )
    return value
