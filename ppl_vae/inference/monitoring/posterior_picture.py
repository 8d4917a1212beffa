"""The exact posterior of a scalar latent beside the guide, as curves."""

from __future__ import annotations

from typing import Any

import torch
from numpy.typing import NDArray
from pyro import poutine
from pyro.poutine.util import site_is_subsample
from torch import Tensor

from ppl_vae.batch import Data
from ppl_vae.pair import Pair, leaving_no_params
from ppl_vae.seeding import seeded

POINTS = 200
WIDTHS = 5.0

Curves = tuple[NDArray[Any], dict[str, NDArray[Any]]]


@torch.no_grad()
def exact_posterior(pair: Pair, x: Data) -> Curves | None:
    """Return where, and the densities of posterior and guide there, for the first data set in `x`.

    Args:
        pair: any.
        x: data that the pair can score.

    Returns:
        Points, at most (400,), rising, that cover five standard deviations of both, and the
        densities at them; or None if there is no exact posterior, or the latent is not one number.
    """
    find = getattr(pair.exact, "posterior", None)
    if find is None:
        return None
    with leaving_no_params(), seeded(0, pair.device), poutine.block(), poutine.trace() as tracer:
        pair.guide(x)
    nodes: list[Any] = list(tracer.trace.nodes.values())
    drawn = [n for n in nodes if n["type"] == "sample" and not site_is_subsample(n)]
    if len(drawn) != 1:
        return None
    curves: dict[str, Any] = {"posterior": find(x), "guide": drawn[0]["fn"]}
    if any(curve.event_shape for curve in curves.values()):
        return None
    # Points of its own for each, since one may be far narrower than the other.
    z = torch.cat([_around(curve) for curve in curves.values()]).sort().values
    for curve in curves.values():
        z = z[curve.support.check(z)]
    densities = {name: _density(curve, z) for name, curve in curves.items()}
    return z.cpu().numpy(), {name: d.cpu().numpy() for name, d in densities.items()}


def _around(curve: Any) -> Tensor:  # noqa: ANN401
    mean, deviation = curve.mean.flatten()[0], curve.stddev.flatten()[0]
    steps = torch.linspace(-WIDTHS, WIDTHS, POINTS, dtype=mean.dtype, device=mean.device)
    return mean + deviation * steps


def _density(curve: Any, z: Tensor) -> Tensor:  # noqa: ANN401
    shaped = z.reshape(-1, *[1] * len(curve.batch_shape))
    return curve.log_prob(shaped).exp().reshape(len(z), -1)[:, 0]
