"""All values that discrete latents of finite support can take together."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from ppl_vae import checks
from ppl_vae.elbos.sites.closed_kl import base
from ppl_vae.elbos.sites.traces import Site

MAX_STATES = 2**20


def joint_states(sites: dict[str, Site], sizes: dict[str, int]) -> dict[str, Tensor]:
    """Return for each site one row for each joint state of one example, (states, size).

    Args:
        sites: of the model, each with a discrete distribution ``fn``.
        sizes: how many numbers of each site belong to one example.

    Raises:
        NotImplementedError: a support that is infinite, or that differs between entries.
        ValueError: more than `MAX_STATES` joint states.
    """
    supports = {name: _support(name, site["fn"]) for name, site in sites.items()}
    units = {name: sizes[name] // supports[name][0].numel() for name in sites}
    count = math.prod(len(supports[name]) ** units[name] for name in sites)
    if count > MAX_STATES:
        raise ValueError(
            checks.message(
                f"discrete latents of at most {MAX_STATES} joint states an example",
                " x ".join(f"{len(supports[n])}^{units[n]} at {n!r}" for n in sites),
                "Use method='iwae'.",
            )
        )
    rows = {name: _product(supports[name], units[name]) for name in sites}
    each = [torch.arange(len(own), device=own.device) for own in rows.values()]
    places = torch.cartesian_prod(*each).reshape(count, len(sites))
    return {name: rows[name][place] for name, place in zip(rows, places.unbind(1), strict=True)}


def _product(support: Tensor, units: int) -> Tensor:
    """Return every choice of `units` values out of (values, numbers), side by side."""
    place = torch.arange(len(support), device=support.device)
    choices = torch.cartesian_prod(*[place] * units).reshape(-1, units)
    return support[choices].flatten(1)


def _support(name: str, fn: Any) -> Tensor:  # noqa: ANN401
    """Return the values of one unit, (values, numbers); numbers is 1 except for vectors."""
    plain = base(fn)
    try:
        values = plain.enumerate_support(expand=False)
    except (NotImplementedError, AttributeError):
        raise NotImplementedError(
            checks.message(
                "a discrete latent with finitely many values, the same for all entries",
                f"{type(plain).__name__} at site {name!r}",
                "Use method='iwae'.",
            )
        ) from None
    return values.reshape(len(values), -1)
