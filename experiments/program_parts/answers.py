"""Exact answers of small programs by sums over a grid, without Pyro and without the library."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution

REACH = {1: 20.0, 2: 4.0}
POINTS = {1: 2001, 2: 101}
# An evidence may be narrower than any posterior here.
FINER = {1: 10, 2: 4}
# Values of a latent without an upper end, of which the rest has no weight here.
COUNTED = 150


def nodes(fn: Distribution, dims: int = 1, *, fine: bool = False) -> tuple[Tensor, Tensor]:
    """Return points of a support, (points,) with an event's dimensions, and logs of weights."""
    support = fn.support
    if support.is_discrete:
        states = getattr(fn, "has_enumerate_support", False)
        values = fn.enumerate_support(expand=False) if states else torch.arange(COUNTED * 1.0)
        values = values.reshape(len(values), *fn.event_shape)
        return values, torch.zeros(len(values))
    reach = REACH[dims]
    u = torch.linspace(-reach, reach, (POINTS[dims] - 1) * (FINER[dims] if fine else 1) + 1)
    step = (u[1] - u[0]).log()
    lower = getattr(support, "lower_bound", None)
    upper = getattr(support, "upper_bound", None)
    if upper is not None:
        share = torch.sigmoid(u)
        width = torch.as_tensor(upper - lower).reshape(-1)[0]
        z = torch.as_tensor(lower).reshape(-1)[0] + width * share
        slope = (width * share * torch.sigmoid(-u)).log()
    elif lower is not None:
        z, slope = torch.as_tensor(lower).reshape(-1)[0] + u.exp(), u
    else:
        z, slope = u.sinh(), u.cosh().log()
    if dims == 1:
        return z, slope + step
    grid = torch.cartesian_prod(*[z] * dims)
    return grid, torch.cartesian_prod(*[slope + step] * dims).sum(-1)


def elbo(log_p: Tensor, log_q: Tensor, log_weights: Tensor) -> Tensor:
    """Return the sum of w q (log p - log q) over the points, (examples,), where q has weight."""
    share = log_q + log_weights
    some = share.detach().nan_to_num(-torch.inf) > -60
    terms = torch.where(some, share, 0.0).exp() * (
        torch.where(some, log_p, 0.0) - torch.where(some, log_q, 0.0)
    )
    return torch.where(some, terms, 0.0).sum(0)


def log_evidence(log_p: Tensor, log_weights: Tensor) -> Tensor:
    """Return the log of the sum of w p over the points, (examples,)."""
    return (log_p + log_weights).nan_to_num(-torch.inf, posinf=-torch.inf).logsumexp(0)


def unchecked(fn: Any) -> Any:  # noqa: ANN401
    """Return a distribution that gives values outside of its support no error."""
    inner = fn
    while inner is not None:
        inner._validate_args = False
        inner = getattr(inner, "base_dist", None)
    return fn
