"""What a diagnostic asks of any torch distribution: its support, draws, log densities."""

from __future__ import annotations

import math
from typing import Any

import pyro.distributions as dist
import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, MixtureSameFamily

from ppl_vae import checks


def check_pair(q: object, p: object) -> tuple[Distribution, Distribution, torch.Size]:
    """Return q, p and their common batch shape, if KL(q || p) can be estimated from draws of q.

    Raises:
        TypeError: one of them is no torch distribution.
        ValueError: event shapes that differ, batch shapes that do not broadcast or are empty, two
            devices, a discrete distribution against a continuous one, or a Delta for q.
    """
    q = _distribution("q", q)
    p = _distribution("p", p)
    if q.event_shape != p.event_shape:
        raise ValueError(
            checks.message(
                "q and p of one event shape",
                f"q {tuple(q.event_shape)} and p {tuple(p.event_shape)}",
                "Say which dimensions are summed: Independent(q, 1), or q.to_event(1) in Pyro.",
            )
        )
    blank_q, blank_p = (torch.empty(d.batch_shape, device="meta") for d in (q, p))
    shape = checks.broadcastable(q=blank_q, p=blank_p)
    if math.prod(shape + q.event_shape) == 0:
        raise ValueError(
            checks.message(
                "distributions with at least one entry",
                f"batch shape {tuple(shape)} and event shape {tuple(q.event_shape)}",
                "Pass parameters that have entries.",
            )
        )
    here, there = device_of(q), device_of(p)
    # Numbers are on the CPU and go with any device.
    if here != there and p.batch_shape + p.event_shape:
        raise ValueError(
            checks.message(
                "q and p on one device", f"q on {here}, p on {there}", "Move the parameters."
            )
        )
    if isinstance(unwrap(q)[0], dist.Delta):
        raise ValueError(
            checks.message(
                "q with a density", "a Delta", "Its divergence from a continuous p is infinite."
            )
        )
    known = _support(q) is not None and _support(p) is not None
    if known and is_discrete(q) != is_discrete(p):
        kinds = ("discrete" if is_discrete(d) else "continuous" for d in (q, p))
        raise ValueError(
            checks.message(
                "q and p both discrete, or both continuous",
                "q {}, p {}".format(*kinds),
                "Their densities are not comparable; choose another p.",
            )
        )
    return q, p, shape


def unwrap(distribution: Distribution) -> tuple[Any, int]:
    """Return what is inside ``Independent``, and how many batch dimensions that took."""
    dims = 0
    while isinstance(distribution, Independent):
        dims += distribution.reinterpreted_batch_ndims
        distribution = distribution.base_dist
    return distribution, dims


def device_of(distribution: Distribution) -> torch.device:
    """Return where the parameters are: the device of the first tensor that is found."""
    for value in vars(distribution).values():
        if isinstance(value, Tensor):
            return value.device
        if isinstance(value, Distribution):
            return device_of(value)
    return torch.device("cpu")


def elements_per_draw(q: Distribution, p: Distribution, shape: torch.Size) -> int:
    """Return how many numbers one draw for a batch of `shape`, or its log density, takes."""
    return math.prod(shape + q.event_shape) * max(_num_components(q), _num_components(p))


def draw(distribution: Distribution, shape: torch.Size, size: int) -> Tensor:
    """Return draws, (size, *shape, *event_shape), every entry of the batch with its own.

    Raises:
        TypeError: the distribution cannot be sampled, or not be expanded to `shape`.
    """
    try:
        if distribution.batch_shape != shape:
            distribution = distribution.expand(shape)
        return distribution.sample(torch.Size((size,)))
    except NotImplementedError:
        raise TypeError(
            checks.message(
                "a distribution that can be sampled",
                f"{type(unwrap(distribution)[0]).__name__}, which does not define it",
                "Give it the methods sample and expand, or choose another.",
            )
        ) from None


def log_density(distribution: Distribution, z: Tensor) -> Tensor:
    """Return the log density at `z`, -inf outside of the support, validated or not.

    Args:
        distribution: batch shape and event shape align with the last dimensions of `z`.
        z: (draws, *batch, *event_shape).
    """
    inside = supports(distribution, z)
    if inside is None or bool(inside.all()):
        return distribution.log_prob(z)
    # Validation would raise, and without it some densities are wrong out there.
    event = (1,) * len(distribution.event_shape)
    instead = draw(distribution, distribution.batch_shape, 1)[0]
    z = torch.where(inside.reshape(*inside.shape, *event), z, instead)
    return distribution.log_prob(z).masked_fill(~inside, -math.inf)


def is_discrete(distribution: Distribution) -> bool:
    """Return whether the support is discrete, as far as the distribution says."""
    support = _support(distribution)
    return support is not None and support.is_discrete


def supports(distribution: Distribution, z: Tensor) -> Tensor | None:
    """Return where `z` is in the support, or None if the distribution does not say."""
    support = _support(distribution)
    return None if support is None else support.check(z)


def _distribution(name: str, value: object) -> Distribution:
    if not isinstance(value, Distribution):
        raise TypeError(
            checks.message(
                f"{name} as a torch.distributions.Distribution",
                type(value).__name__,
                "Build one, for instance Normal(loc, scale).",
            )
        )
    return value


def _support(distribution: Distribution) -> Any:  # noqa: ANN401
    try:
        return distribution.support
    except NotImplementedError:
        return None


def _num_components(distribution: Distribution) -> int:
    base = unwrap(distribution)[0]
    if isinstance(base, MixtureSameFamily):
        return base.component_distribution.batch_shape[-1]
    return 1
