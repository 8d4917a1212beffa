"""Where the guide puts the latents, without its noise."""

from __future__ import annotations

from typing import Any

import torch
from pyro import poutine
from pyro.poutine.messenger import Messenger
from pyro.poutine.util import site_is_subsample
from torch import Tensor

from ppl_vae.batch import Data
from ppl_vae.pair import Pair, leaving_no_params
from ppl_vae.seeding import seeded

CHUNK = 1000


@torch.no_grad()
def guide_means(pair: Pair, x: Data) -> dict[str, Tensor]:
    """Return the mean of every latent site of the guide, the sites before it at their means.

    Args:
        pair: any whose guide has a plate over the first dimension of `x`.
        x: data that the pair can score, first dimension the examples.

    Returns:
        By the site's name, (examples, dimensions), flat. A site whose distribution has no mean in
        closed form, or that is not one per example, is left out.
    """
    parts: dict[str, list[Tensor]] = {}
    for start in range(0, len(x), CHUNK):
        chunk = x[start : start + CHUNK]
        with leaving_no_params(), seeded(0, pair.device), poutine.block():
            with poutine.trace() as tracer, _AtMeans():
                pair.guide(chunk)
        nodes: dict[str, Any] = tracer.trace.nodes
        for name, node in nodes.items():
            mean = (node.get("infer") or {}).get("_mean")
            if mean is not None and mean.dim() > 0 and len(mean) == len(chunk):
                parts.setdefault(name, []).append(mean.reshape(len(chunk), -1))
    return {name: torch.cat(means) for name, means in parts.items()}


class _AtMeans(Messenger):
    """Gives every latent its mean as its value, where there is one; draws the others."""

    def _pyro_sample(self, msg: Any) -> None:  # noqa: ANN401
        if msg["is_observed"] or site_is_subsample(msg):
            return
        try:
            mean = msg["fn"].mean
        except NotImplementedError:
            return
        msg["value"] = mean
        msg["infer"] = {**msg["infer"], "_mean": mean}
