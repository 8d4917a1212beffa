"""Which pairs have one Normal code per example, with a standard Normal prior."""

from __future__ import annotations

from typing import Any

import pyro
import torch
from pyro import poutine
from pyro.distributions import Normal

from ppl_vae.batch import Data
from ppl_vae.elbos.sites.closed_kl import base
from ppl_vae.elbos.sites.traces import latent_sites
from ppl_vae.pair import Pair, leaving_no_params
from ppl_vae.seeding import seeded


@torch.no_grad()
def has_standard_code(pair: Pair, x: Data) -> bool:
    """Return whether ``encode(x)`` is q of the only latent, and its prior a standard Normal."""
    encode = getattr(pair, "encode", None)
    if not callable(encode):
        return False
    x = x[:2]  # as many as layers that normalise over the batch need; a decoder may be large
    # The same stream, so that an encoder's own noise, as dropout, is the same in both.
    # What is not finite is named by whoever measures it.
    with leaving_no_params(), poutine.block(), pyro.validation_enabled(False):  # noqa: FBT003
        with seeded(0, x.device):
            guide: Any = poutine.trace(pair.guide).get_trace(x)
            model: Any = poutine.trace(poutine.replay(pair.model, guide)).get_trace(x)
        latents = latent_sites(model)
        if len(latents) != 1 or latents.keys() != latent_sites(guide).keys():
            return False
        with seeded(0, x.device):
            code = encode(x)
    ((name, site),) = latents.items()
    prior, posterior = base(site["fn"]), base(guide.nodes[name]["fn"])
    if not isinstance(prior, Normal) or not isinstance(posterior, Normal):
        return False
    if not isinstance(code, tuple) or len(code) != 2:
        return False
    is_standard = bool((prior.loc == 0).all() & (prior.scale == 1).all())
    return is_standard and all(
        given.shape == found.shape and torch.allclose(given, found, rtol=1e-4, equal_nan=True)
        for given, found in zip(code, (posterior.loc, posterior.scale), strict=True)
    )
