"""From numbers of the data's shape to numbers per example."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ppl_vae.diagnostics.check.truth.drawn_terms import Terms
from ppl_vae.elbos.closed_kl import base, registered_kl
from ppl_vae.elbos.traces import Site
from ppl_vae.elbos.weights import PARTICLES


def event_dims(site: Site) -> int:
    """Return how many dimensions of a site's value belong to one example."""
    return len(site["fn"].event_shape)


def summed(value: Tensor, blank: Tensor, dims: int) -> Tensor:
    """Return numbers summed over event dimensions and inner plates, (particles, examples)."""
    value = value.sum(list(range(-dims, 0))) if dims else value
    if value.dim() > 2:
        value = value.flatten(1, -2).sum(1)
    if value.dim() < 2:
        value = value.unsqueeze(0) if value.shape == blank.shape[1:] else value.reshape(-1, 1)
    return value.expand(blank.shape) if value.shape != blank.shape else value


def scored(site: Site, value: Tensor, blank: Tensor, *, masked: bool = True) -> Tensor:
    """Return a site's numbers under its mask, summed over events and inner plates."""
    dims = event_dims(site) - len(base(site["fn"]).event_shape)
    mask = mask_of(site) if masked else None
    if mask is not None:
        value = torch.where(mask, value, torch.zeros_like(value))
    value = value.sum(list(range(-dims, 0))) if dims else value
    return summed(over_plates(site, value), blank, 0)


def over_plates(site: Site, value: Tensor) -> Tensor:
    """Return numbers summed over plates within an example, such as that of time."""
    frames = [f for f in site["cond_indep_stack"] if f.name != PARTICLES and f.dim is not None]
    inner = [f.dim for f in frames if 1 < -f.dim <= value.dim()]
    return value.sum(inner) if inner else value


def mask_of(site: Site) -> Tensor | None:
    """Return the mask of a site's single numbers, wherever it was set; None for no mask."""
    fn: Any = site["fn"]
    end = len(base(fn).event_shape)
    found = [(site["mask"], len(fn.event_shape) - end)]
    while fn is not base(fn):
        if type(fn).__name__ == "MaskedDistribution":
            found.append((fn._mask, len(fn.event_shape) - end))
        fn = fn.base_dist
    whole = None
    for mask, dims in found:
        if torch.is_tensor(mask):
            mask = mask.bool().reshape(*mask.shape, *[1] * dims)
            whole = mask if whole is None else whole & mask
    return whole


def closed_kl(right: Terms, name: str, blank: Tensor) -> Tensor:
    """Return the KL of one latent in closed form, whether that is valid or not."""
    q, p = right.guide[name], right.model[name]
    return summed(registered_kl(q["fn"], p["fn"]), blank, 0)
