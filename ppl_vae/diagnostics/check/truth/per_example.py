"""From numbers of the data's shape to numbers per example."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ppl_vae.diagnostics.check.truth.drawn_terms import Terms
from ppl_vae.elbos.sites.closed_kl import base, registered_kl
from ppl_vae.elbos.sites.traces import Site
from ppl_vae.elbos.weights import PARTICLES


def event_dims(site: Site) -> int:
    """Return the number of dimensions of a site's value that belong to one example."""
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
    # Over plates within an example, such as that of time.
    frames = [f for f in site["cond_indep_stack"] if f.name != PARTICLES and f.dim is not None]
    inner = [f.dim for f in frames if 1 < -f.dim <= value.dim()]
    return summed(value.sum(inner) if inner else value, blank, 0)


def mask_of(site: Site) -> Tensor | None:
    """Return the mask of a site's single numbers, wherever it was set; None for no mask."""
    fn: Any = site["fn"]
    inner = base(fn)
    masks = [(site["mask"], fn)]
    while fn is not inner:
        if type(fn).__name__ == "MaskedDistribution":
            masks.append((fn._mask, fn))
        fn = fn.base_dist
    joint = None
    for mask, masked in masks:
        if torch.is_tensor(mask):
            dims = len(masked.event_shape) - len(inner.event_shape)
            mask = mask.bool().reshape(*mask.shape, *[1] * dims)
            joint = mask if joint is None else joint & mask
    return joint


def closed_kl(right: Terms, name: str, blank: Tensor) -> Tensor:
    """Return the KL of one latent in closed form, whether that is valid or not."""
    q, p = right.guide[name], right.model[name]
    return summed(registered_kl(q["fn"], p["fn"]), blank, 0)
