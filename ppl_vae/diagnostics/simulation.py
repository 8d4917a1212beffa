"""Latents and data drawn from the model together, as the program takes them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.distributions import MaskedDistribution
from torch import Tensor

from ppl_vae import checks
from ppl_vae.batch import Data
from ppl_vae.diagnostics.evidence.density.particles import Run
from ppl_vae.drawing import drawing
from ppl_vae.elbos.sites.closed_kl import layers
from ppl_vae.elbos.sites.traces import Site, density_sites, latent_sites


@dataclass(frozen=True)
class Simulator:
    """Draws from a model, and where in its batch the observed data stand.

    Attributes:
        model: p(x, z), a function of the batch.
        places: of every observed site the number of the batch's tensor that it observes.
    """

    model: Run
    places: dict[str, int]

    @classmethod
    def of(cls, model: Run, like: Data) -> Simulator:
        """Run the model on `like` and find what it observes; draws random numbers.

        Raises:
            NotImplementedError: nothing is observed, or what is observed is no tensor of the
                batch as it is; a factor, a plate that subsamples, latents under a mask, or an
                argument with the name of a latent.
        """
        given: Any = poutine.trace(model).get_trace(like)
        _check_model(density_sites(given))
        _check_arguments(model, like, latent_sites(given))
        observed = {n: s for n, s in density_sites(given).items() if s["is_observed"]}
        if not observed:
            raise checks.not_implemented(
                "a model that observes its data",
                "none that it observes",
                "Give the data to pyro.sample by obs=.",
            )
        drawn: Any = poutine.trace(drawing(model)).get_trace(like)
        places: dict[str, int] = {}
        for name, site in observed.items():
            value = drawn.nodes[name]["value"]
            candidates = [
                number
                for number, entry in enumerate(tensors(like))
                if number not in places.values()
                and _is_observed(entry, site)
                and _gives_back(model, like, number, value, site)
            ]
            if len(candidates) != 1:
                raise checks.not_implemented(
                    f"site {name!r} to observe one tensor of the batch, as it is and alone",
                    f"{len(candidates)} tensors of which it gives back what is drawn",
                    "Observe an argument of the program itself.",
                )
            places[name] = candidates[0]
        return cls(model, places)

    def draw(self, like: Data) -> tuple[Data, Any]:
        """Return data in the shape of `like`, and the trace that made them."""
        trace: Any = poutine.trace(drawing(self.model)).get_trace(like)
        values = {number: trace.nodes[name]["value"] for name, number in self.places.items()}
        return _replaced(like, values), trace


def tensors(batch: Data) -> list[Tensor]:
    """Return the tensors of a batch, or the one tensor that it is."""
    return [batch] if isinstance(batch, Tensor) else batch.tensors


def _replaced(like: Data, values: dict[int, Tensor]) -> Data:
    """Return a batch with some of its tensors, by number, replaced by what was drawn."""

    def of(number: int, entry: Tensor) -> Tensor:
        if number not in values:
            return entry
        return values[number].reshape(entry.shape).to(entry.dtype)

    if isinstance(like, Tensor):
        return of(0, like)
    numbers = iter(range(len(like.tensors)))
    return like.map(lambda entry: of(next(numbers), entry))


def _is_observed(entry: Tensor, site: Site) -> bool:
    """Return whether a tensor has the values of an observed site, but for what masks hide."""
    value, fn = site["value"], site["fn"]
    if entry.numel() != value.numel():
        return False
    same = entry.reshape(value.shape) == value
    masked = [each for each in layers(fn) if isinstance(each, MaskedDistribution)]
    masks = [(site["mask"], fn), *((each._mask, each.base_dist) for each in masked)]
    for mask, scored in masks:
        if mask is not None:
            shown = torch.as_tensor(mask, device=value.device)
            same = same | ~shown[(..., *[None] * len(scored.event_shape))]
    return bool(same.all())


def _gives_back(model: Run, like: Data, number: int, drawn: Tensor, site: Site) -> bool:
    """Return whether a site observes what was drawn once it stands in the batch.

    Where a mask hides it, the site may stay what it was.
    """
    try:
        trace: Any = poutine.trace(model).get_trace(_replaced(like, {number: drawn}))
    except Exception:  # whatever a program says of the wrong tensor
        return False
    before, value = site["value"], trace.nodes[site["name"]]["value"]
    changed = bool((value != before).any()) or torch.equal(drawn, before)
    return changed and bool(((value == drawn) | (value == before)).all())


def _check_model(sites: dict[str, Site]) -> None:
    for name, site in sites.items():
        if isinstance(site["fn"], dist.Unit):
            raise checks.not_implemented(
                "a model that is drawn from, site by site",
                f"the factor {name!r}",
                "Draw the data from a distribution.",
            )
        if any(frame.size != frame.full_size for frame in site["cond_indep_stack"]):
            raise checks.not_implemented(
                "a model without subsampling",
                f"a plate around {name!r} that subsamples",
                "Leave subsample_size out.",
            )
        mask = site["mask"]
        hidden = not site["is_observed"] and mask is not None
        if hidden and not bool(torch.as_tensor(mask).all()):
            raise checks.not_implemented(
                "latents that are part of every simulation",
                f"site {name!r} under a mask",
                "Pass examples that have all latents.",
            )


def _check_arguments(model: Run, like: Data, latents: dict[str, Site]) -> None:
    """Raise if an argument is there to fix a latent, which the model then draws all the same."""
    given = {} if isinstance(like, Tensor) else like.bind(model)
    for name in latents:
        if isinstance(given.get(name), Tensor):
            raise checks.not_implemented(
                f"latents that the model draws in every example, and {name!r} is one",
                f"an argument {name!r}, which may fix it for some examples",
                "Leave the argument out, or observe it in all examples.",
            )
